"""Stacks: each plane as it is alone, in one file of the same axes that others read; stopped, sharded, gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import tifffile
from numpy.typing import NDArray

import unettile.segmentation.stackfile
import unettile.tiling
from tests.narrow import make_pixels
from unettile.box import Box
from unettile.errors import InputError, Interrupted, UsageError
from unettile.geometry import Geometry
from unettile.images.arrays import ArrayImage
from unettile.images.canvas import Canvas, Reader, Readers
from unettile.images.formats import write_image
from unettile.images.normalize import Normalization
from unettile.images.planes import PlaneRange, Planes, parse_planes, stack_lengths, stack_spacing
from unettile.images.record import read_metadata, read_record
from unettile.images.slide import open_labels, read_labels
from unettile.images.spacing import UNKNOWN, Spacing
from unettile.images.view import FIRST, View
from unettile.inference.predict import Predictor
from unettile.objectsize import ObjectSize
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.stackrun import MissingPlanes, StackDirectory
from unettile.segmentation.stacks import segment, segment_part, stitch
from unettile.segmentation.verify import sample_tiles
from unettile.tiling import Block, Shard, TileGrid

TIMES, DEPTHS, SHAPE = 2, 3, (70, 90)
STEPS = Spacing(0.3, 2.5)
ALL = SegmentOptions(diameter="off", times=PlaneRange(), depths=PlaneRange())
TWO = SegmentOptions(diameter="off", view=View(t=1), depths=PlaneRange(1, 3))


def pixels() -> NDArray[np.uint8]:
    """Return planes (T, Z, Y, X) of very different brightness."""
    planes = [make_pixels(*SHAPE, seed=seed) // (1 + seed) for seed in range(TIMES * DEPTHS)]
    return np.stack(planes).reshape(TIMES, DEPTHS, *SHAPE)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.tif"
    steps = {"unit": "um", "spacing": STEPS.z_um, "finterval": STEPS.time_s}
    tifffile.imwrite(path, pixels(), imagej=True, metadata={"axes": "TZYX"} | steps)
    return path


def alone(stack: Path, predictor: Predictor, folder: Path, **options: Any) -> NDArray[Any]:
    """Return the masks of the planes, each segmented alone."""
    found = []
    for t in range(TIMES):
        for z in range(DEPTHS):
            one = replace(ALL, times=None, depths=None, view=View(t=t, z=z), **options)
            segment(stack, folder / "one.tif", predictor, one, overwrite=True)
            found.append(read_labels(folder / "one.tif"))
    return np.stack(found).reshape(TIMES, DEPTHS, *SHAPE)


@pytest.mark.parametrize("scaling", ["plane", "stack"])
def test_a_plane_is_as_it_is_alone(scaling: str, stack: Path, predictor: Predictor, tmp_path: Path) -> None:
    mask = tmp_path / "mask.ome.tif"
    options = replace(ALL, scaling=scaling)
    segment(stack, mask, predictor, options)
    expected = alone(stack, predictor, tmp_path, scaling=scaling)
    assert np.array_equal(tifffile.imread(mask), expected) and len(np.unique(expected)) == 2
    metadata = read_metadata(mask)
    assert metadata["planes"] == {"t": [0, 1], "z": [0, 1, 2]} and metadata["view"]["z"] is None
    if scaling == "plane":
        assert len(metadata["by_plane"]["scaling"]) == 6 and "scaling" not in metadata
    else:
        assert metadata["scaling_of"] == "stack" and "by_plane" not in metadata
        whole = Normalization().measure_array(pixels().reshape(TIMES * DEPTHS * SHAPE[0], SHAPE[1], 1))
        assert metadata["scaling"] == whole.to_dict()


def test_a_run_of_an_earlier_version_goes_on_and_gets_the_steps(
    stack: Path, predictor: Predictor, tmp_path: Path
) -> None:
    """That version's `stack.json` says nothing of them; the plans of planes never did, nor do the metadata."""
    run, mask = tmp_path / "run", tmp_path / "mask.ome.tif"
    segment_part(stack, run, Shard(0, 2), predictor, TWO)
    values = json.loads((run / "stack.json").read_text())
    assert values.pop("spacing") == {"z_um": 0.3, "time_s": 2.5}
    assert all("2.5" not in path.read_text() for path in run.glob("planes/*/plan.json"))
    (run / "stack.json").write_text(json.dumps(values))
    assert StackDirectory.open(run).spacing == UNKNOWN
    again = segment_part(stack, run, Shard(0, 2), predictor, TWO)
    assert (again.tally.computed, again.tally.resumed) == (0, 1) and StackDirectory.open(run).spacing == STEPS
    segment_part(stack, run, Shard(1, 2), predictor, TWO)
    stitch(run, mask)
    assert stack_spacing(mask, View(z=1)) == Spacing(STEPS.z_um)
    segment(stack, tmp_path / "whole.ome.tif", predictor, TWO)
    assert mask.read_bytes() == (tmp_path / "whole.ome.tif").read_bytes()
    (run / "stack.json").write_text(json.dumps(values))
    stitch(run, mask, overwrite=True)  # by itself it cannot know them
    assert stack_spacing(mask, View(z=1)) == UNKNOWN
    assert segment(stack, mask, predictor, TWO).was_finished, "pixels are what decides"


def test_another_size_changes_no_step(predictor: Predictor, tmp_path: Path) -> None:
    sized = Predictor(replace(predictor.checkpoint, objects_px=ObjectSize(16, 8, 32)), "cpu", "fp32")
    image, mask = ArrayImage(pixels(), "tzyx", (0.5, 0.5), spacing=STEPS), tmp_path / "mask.ome.tif"
    seen = []
    for options in (
        replace(TWO, diameter="32", frame="model", view=View(t=1)),
        replace(TWO, view=View(t=1, mpp=1.0)),
    ):
        segment(image, mask, sized, options, overwrite=True)
        with open_labels(mask, View(z=1)) as slide:
            assert slide.spacing == Spacing(STEPS.z_um)
            seen.append(slide.pixel_size_um)
    assert seen == [pytest.approx((0.8, 0.8)), (1.0, 1.0)]


def test_a_range_changes_no_pixel(stack: Path, predictor: Predictor, tmp_path: Path) -> None:
    segment(stack, tmp_path / "all.ome.tif", predictor, ALL)
    some = replace(ALL, times=None, view=View(t=1), depths=PlaneRange(1, 3))
    segment(stack, tmp_path / "some.ome.tif", predictor, some)
    assert np.array_equal(tifffile.imread(tmp_path / "some.ome.tif"), tifffile.imread(tmp_path / "all.ome.tif")[1, 1:])
    segment(stack, tmp_path / "one.tif", predictor, replace(some, depths=PlaneRange(2, 3), scaling="stack"))
    assert np.array_equal(read_labels(tmp_path / "one.tif"), tifffile.imread(tmp_path / "all.ome.tif")[1, 2])


@pytest.mark.parametrize("write", [("classes",), ("probabilities",), ("instances",)], ids=lambda one: one[0])
def test_every_format_has_the_same_axes(
    write: tuple[str, ...], stack: Path, predictor: Predictor, tmp_path: Path
) -> None:
    options = replace(ALL, write=write)
    for ending in (".tif", ".ome.tif", ".ome.zarr"):
        segment(stack, tmp_path / f"mask{ending}", predictor, options)
    channels = 2 if write == ("probabilities",) else 1
    with tifffile.TiffFile(tmp_path / "mask.tif") as file:
        assert file.is_imagej and file.series[0].axes == ("TZCYX" if channels > 1 else "TZYX")
        assert file.imagej_metadata["slices"] == DEPTHS and file.imagej_metadata["frames"] == TIMES
        offsets = [page.dataoffsets[0] for page in file.pages]
        step = SHAPE[0] * SHAPE[1] * file.series[0].dtype.itemsize
        assert all(page.compression == 1 and len(page.dataoffsets) == 1 for page in file.pages)
        assert offsets == [offsets[0] + number * step for number in range(len(offsets))]  # as ImageJ reads it
        imagej = file.asarray()
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as file:
        assert file.is_ome and file.series[0].axes == ("TZCYX" if channels > 1 else "TZYX")
        assert np.array_equal(file.asarray(), imagej)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "mask.ome.zarr/0")}}
    array = tensorstore.open(spec, read=True).result()
    zarr = array.read().result()
    assert array.domain.labels == (("t", "c", "z", "y", "x") if channels > 1 else ("t", "z", "y", "x"))
    assert np.array_equal(zarr.swapaxes(1, 2) if channels > 1 else zarr, imagej)
    for ending in (".tif", ".ome.tif", ".ome.zarr"):
        assert stack_lengths(tmp_path / f"mask{ending}", FIRST) == (TIMES, DEPTHS)
        with open_labels(tmp_path / f"mask{ending}", View(t=1, z=2)) as slide:
            ours = np.moveaxis(slide.read(Box.of_shape(SHAPE)), 2, 0)
            assert slide.spacing == STEPS
        assert np.array_equal(ours.squeeze(0) if channels == 1 else ours, imagej[1, 2])
        assert read_record(tmp_path / f"mask{ending}").kind == write[0]
    if write == ("instances",):
        counts = [int(one.max()) for one in imagej.reshape(-1, *SHAPE)]
        assert read_metadata(tmp_path / "mask.tif")["objects"] == counts and len(set(counts)) > 1
        for number, count in enumerate(counts):  # each plane's ids know their classes, and none those of another
            ids = read_record(tmp_path / "mask.tif", plane=divmod(number, DEPTHS)).ids
            assert ids is not None and ids.classes.size == count
        assert read_record(tmp_path / "mask.tif").ids is None


def test_a_run_that_was_stopped_goes_on(stack: Path, predictor: Predictor, tmp_path: Path) -> None:
    segment(stack, tmp_path / "whole.tif", predictor, ALL)
    stops = iter([None] * 5 + [2] * 99)
    with pytest.raises(Interrupted):
        segment(stack, tmp_path / "mask.tif", predictor, ALL, Watch(should_stop=lambda: next(stops)))
    assert (tmp_path / "mask.tif.run" / "stack.json").exists() and not (tmp_path / "mask.tif").exists()
    with pytest.raises(InputError, match=r"holds an unfinished run that differs in --z"):
        segment(stack, tmp_path / "mask.tif", predictor, replace(ALL, depths=PlaneRange(0, 2)))
    result = segment(stack, tmp_path / "mask.tif", predictor, ALL)
    assert result.tally.resumed > 0 and result.planes == 6
    assert (tmp_path / "mask.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert not (tmp_path / "mask.tif.run").exists()
    assert segment(stack, tmp_path / "mask.tif", predictor, ALL).was_finished
    with pytest.raises(InputError, match="made otherwise"):
        segment(stack, tmp_path / "mask.tif", predictor, replace(ALL, scaling="plane"))


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"format": 1, "t": [], "z": [0], "shards": 1}', '{"format": 1, "t": [0], "z": ["0"], "shards": 1}',
     '{"format": 1, "t": [0], "z": [0], "shards": 0}', '{"format": 2, "t": [0], "z": [0], "shards": 1}'],
)  # fmt: skip
def test_damage_to_what_a_run_says_of_itself_is_named(content: str, stack: Path, tmp_path: Path) -> None:
    StackDirectory.join(tmp_path / "run", Planes((0,), (0, 1)), 1)
    (tmp_path / "run" / "stack.json").write_text(content)
    with pytest.raises(InputError, match=r"stack.json is damaged or of another version \(.+\): remove .*run to start"):
        StackDirectory.open(tmp_path / "run")


@pytest.mark.parametrize("count", [2, 7])
def test_shards_make_the_file_of_one(
    count: int, stack: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more planes than shards whole ones, of fewer a part of each."""
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)
    options = replace(ALL, output_edge=68)
    segment(stack, tmp_path / "whole.tif", predictor, ALL)
    run = tmp_path / "run"
    for index in range(count - 1):
        segment_part(stack, run, Shard(index, count), predictor, options)
    with pytest.raises(MissingPlanes, match=f"run shard(s 0-6| 1) of {count} again"):
        stitch(run, tmp_path / "mask.tif")
    segment_part(stack, run, Shard(count - 1, count), predictor, options)
    stitch(run, tmp_path / "mask.tif")
    assert stack_spacing(tmp_path / "mask.tif", View(t=0, z=0)) == STEPS
    assert np.array_equal(tifffile.imread(tmp_path / "mask.tif"), tifffile.imread(tmp_path / "whole.tif"))
    assert stitch(run, tmp_path / "mask.tif").was_finished
    segment(stack, tmp_path / "mask.tif", predictor, options)  # the tile edge alone is another: it is finished


@pytest.mark.parametrize(
    ("ending", "diameter", "wrong"),
    [(".tif", "off", 0), (".ome.tif", "40", 1), (".tif", "40", 2), (".ome.zarr", "off", 3), (".ome.tif", "off", None)],
)
def test_a_wrong_pixel_in_any_plane_shows(
    ending: str,
    diameter: str,
    wrong: int | None,
    stack: Path,
    predictor: Predictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the network saw the planes' own pixels, or others, brought back into them."""
    sized = Predictor(replace(predictor.checkpoint, objects_px=ObjectSize(16, 8, 32)), "cpu", "fp32")
    options = replace(ALL, diameter=diameter, depths=PlaneRange(1, 3))

    def spoiling(path: Path, canvas: Canvas, read: Readers) -> None:
        def of(number: int, plane: Reader) -> Reader:
            return lambda box: plane(box) ^ np.uint8(number == wrong)

        write_image(path, canvas, [of(number, plane) for number, plane in enumerate(canvas.readers(read))])

    monkeypatch.setattr(unettile.segmentation.stackfile, "write_image", spoiling)
    found = segment(stack, tmp_path / f"mask{ending}", sized, options, verify=True).verification
    assert found is not None and found.planes == found.tiles == 4 and found.largest_difference == 0
    assert (found.differing_pixels > 0) == (wrong is not None)
    if diameter == "off":  # each plane is one tile
        assert found.pixels == 4 * SHAPE[0] * SHAPE[1]
        assert found.differing_pixels == (0 if wrong is None else SHAPE[0] * SHAPE[1])


def test_the_sample_of_a_stack_goes_over_the_image() -> None:
    grid = TileGrid((1000, 2000), Geometry(92, 16, 4), 388)
    planes = [sample_tiles(grid, 1, stretch=(number, 10)) for number in range(10)]
    assert all(len(tiles) == 1 for tiles in planes)
    assert planes[0] == [grid.tile(0, 0)] and planes[-1] == [grid.tile(2, 5)]
    assert len({tile for [tile] in planes}) == 10


@pytest.mark.parametrize("count", [2, 7])
def test_a_shard_of_a_stack_is_verified(
    count: int, stack: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)
    options = replace(ALL, output_edge=68, depths=PlaneRange(1, 3))
    empty = segment_part(stack, tmp_path / "empty", Shard(0, 9), predictor, options, verify=True)
    assert empty.verification is None  # there are 2 blocks in a plane
    shard = Shard(count - 1, count)
    done = segment_part(stack, tmp_path / "run", shard, predictor, options, verify=True)
    found = done.verification
    assert found is not None and found.planes == (2 if count == 2 else 4)
    assert (found.largest_difference, found.differing_pixels) == (0, 0) and found.tiles >= found.planes
    load = RunDirectory.load
    spoilt = ["none"]

    def spoiling(self: RunDirectory, block: Block) -> NDArray[np.uint8] | None:
        pixels = load(self, block)
        return pixels if pixels is None or self.path.name not in spoilt else pixels ^ 1

    monkeypatch.setattr(RunDirectory, "load", spoiling)
    for spoilt[0] in ("t0001_z0001", "t0001_z0002"):  # both shards have a part in each
        done = segment_part(stack, tmp_path / "run", shard, predictor, options, verify=True)
        assert done.verification is not None and done.verification.differing_pixels > 0


def test_an_image_that_is_no_stack_is_one_plane(predictor: Predictor, tmp_path: Path) -> None:
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, make_pixels(*SHAPE))
    segment(image, tmp_path / "a.tif", predictor, ALL)
    segment(image, tmp_path / "b.tif", predictor, SegmentOptions(diameter="off"))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_arrays_are_stacks_too(stack: Path, predictor: Predictor, tmp_path: Path) -> None:
    segment(stack, tmp_path / "file.ome.tif", predictor, ALL)
    segment(ArrayImage(pixels(), "tzyx"), tmp_path / "array.ome.tif", predictor, ALL)
    assert np.array_equal(tifffile.imread(tmp_path / "array.ome.tif"), tifffile.imread(tmp_path / "file.ome.tif"))


def test_what_is_refused(stack: Path, predictor: Predictor, tmp_path: Path) -> None:
    out = tmp_path / "mask.tif"
    for options, message in (
        (replace(ALL, depths=PlaneRange(1, 9)), r"--z 1:9 does not exist: it holds 3; use 0:3"),
        (replace(ALL, times=None), r"it is a stack along --time, too; choose with --time"),
    ):
        with pytest.raises(InputError, match=message):
            segment(stack, out, predictor, options)
    with pytest.raises(UsageError, match="a PNG holds one plane, not 6"):
        segment(stack, tmp_path / "mask.png", predictor, ALL)
    with pytest.raises(UsageError, match="--scaling 'slice' is not known: need stack or plane"):
        replace(ALL, scaling="slice")
    for text in ("x", "3:2", "1:1", "-1", "1:2:3", ":0"):
        with pytest.raises(UsageError, match="need a number from 0, a range like 0:30, or all"):
            parse_planes(text, "--z")
    assert list(tmp_path.iterdir()) == [stack]
