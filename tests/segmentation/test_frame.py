"""Masks in the image's own pixels where the network saw it at another size: one law for every tiling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

import unettile.segmentation.instances
import unettile.tiling
from tests.narrow import make_checkpoint, make_pixels
from tests.zarrs import write_zarr
from unettile.box import Box
from unettile.images.slide import open_slide
from unettile.images.view import View
from unettile.inference.predict import Predictor
from unettile.objects.rules import ObjectRules
from unettile.objectsize import ObjectSize
from unettile.segmentation.frame import Frame, Places
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planning import open_image, open_seen, plan_image
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.reader import BlockReader
from unettile.segmentation.segment import segment_image, segment_shard
from unettile.segmentation.stitch import stitch_run
from unettile.tiling import Shard

SCALES = {"100": 0.2, "61": 0.3279, "20": 1.0, "9": 2.222, "5": 4.0}
"""Diameters, px of the image, and the scales that bring them to the model's 20 px."""


@pytest.fixture(scope="module")
def sized() -> Predictor:
    checkpoint = make_checkpoint(widths=(2, 3), classes=3)
    return Predictor(replace(checkpoint, objects_px=ObjectSize(16, 8, 32)), "cpu", "fp32")


def write_image(path: Path, shape: tuple[int, int]) -> Path:
    """Write noise that is smooth over some px, so that a smaller image still shows something."""
    coarse = make_pixels(-(-shape[0] // 6), -(-shape[1] // 6))
    tifffile.imwrite(path, np.kron(coarse, np.ones((6, 6), np.uint8))[: shape[0], : shape[1]])
    return path


def segment(image: Path, out: Path, predictor: Predictor, **options: Any) -> NDArray[Any]:
    segment_image(image, out, predictor, SegmentOptions(**options), overwrite=True)
    return np.asarray(tifffile.imread(out))


@pytest.mark.parametrize("diameter", SCALES)
@pytest.mark.parametrize(("shape", "rim"), [((97, 131), 0.0), ((37, 180), 0.4), ((150, 9), 0.0)])
def test_the_same_file_whatever_the_tiling(
    tmp_path: Path, sized: Predictor, monkeypatch: pytest.MonkeyPatch, diameter: str, shape: tuple[int, int], rim: float
) -> None:
    image = write_image(tmp_path / "image.tif", shape)
    write = ("probabilities", "instances", "classes")
    rules = ObjectRules(min_size=3, split=True, close_gaps=1, rim=rim)
    masks = []
    for number, (edge, block) in enumerate(((388, 3072), (34, 34), (60, 120))):
        monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", block)
        monkeypatch.setattr(unettile.segmentation.instances, "BLOCK_EDGE", 32 + 16 * number)
        out, options = tmp_path / f"{number}.ome.tif", SegmentOptions(write, edge, diameter=diameter, objects=rules)
        segment_image(image, out, sized, options)
        with tifffile.TiffFile(out) as tif:
            masks.append([series.asarray() for series in tif.series])
            assert [plane.shape[-2:] for plane in masks[-1]] == [shape] * 3
    for other in masks[1:]:
        for plane, first in zip(other, masks[0], strict=True):
            np.testing.assert_array_equal(plane, first)
    for shard in range(3):
        segment_shard(image, tmp_path / "run", Shard(shard, 3), sized, options)
    stitch_run(tmp_path / "run", tmp_path / "stitched.ome.tif")
    assert (tmp_path / "stitched.ome.tif").read_bytes() == (tmp_path / "2.ome.tif").read_bytes()


@pytest.mark.parametrize("diameter", ["61", "9"])
def test_probabilities_are_interpolated_and_the_likeliest_is_the_class(
    tmp_path: Path, sized: Predictor, diameter: str
) -> None:
    image = write_image(tmp_path / "image.tif", (151, 203))
    small = segment(
        image, tmp_path / "a.tif", sized, write=("probabilities",), diameter=diameter, frame="model"
    ).astype(float)
    large = segment(image, tmp_path / "b.tif", sized, write=("probabilities",), diameter=diameter)
    classes = segment(image, tmp_path / "c.tif", sized, write=("classes",), diameter=diameter)
    scale = SCALES[diameter]
    assert small.shape[1:] == (round(151 * scale), round(203 * scale)) and large.shape[1:] == (151, 203)
    y, x = (((np.arange(length) + 0.5) * scale - 0.5).clip(0) for length in (151, 203))
    y0, x0 = (np.minimum(place.astype(int), edge - 2) for place, edge in ((y, small.shape[1]), (x, small.shape[2])))
    v, u = (y - y0).clip(0, 1)[:, None], (x - x0).clip(0, 1)[None]
    expected = (
        small[:, y0][:, :, x0] * (1 - v) * (1 - u) + small[:, y0][:, :, x0 + 1] * (1 - v) * u
        + small[:, y0 + 1][:, :, x0] * v * (1 - u) + small[:, y0 + 1][:, :, x0 + 1] * v * u
    )  # fmt: skip
    assert np.abs(large - expected).max() < 2.5  # weights are multiples of 1/256
    first, second = np.sort(expected, axis=0)[[-1, -2]]
    clear = first - second > 5
    assert clear.mean() > 0.5 and len(np.unique(classes)) > 1
    np.testing.assert_array_equal(classes[clear], expected.argmax(axis=0)[clear])


class Drawn:
    """Objects that are an array of ids."""

    def __init__(self, ids: NDArray[np.uint32]) -> None:
        self.ids = ids

    def read(self, box: Box) -> NDArray[np.uint32]:
        return self.ids[box.slices]


@pytest.mark.parametrize("diameter", ["61", "9"])
def test_objects_lie_where_they_were_found(
    tmp_path: Path, sized: Predictor, monkeypatch: pytest.MonkeyPatch, diameter: str
) -> None:
    """Two that touch, one alone, and one with a hole that rules have filled; whatever region is read."""
    image, scale = write_image(tmp_path / "image.tif", (151, 203)), SCALES[diameter]
    segment_shard(image, tmp_path / "run", Shard(0, 1), sized, SegmentOptions(("instances",), diameter=diameter))
    run = RunDirectory.open(tmp_path / "run")
    ids = np.zeros(run.plan.shape, np.uint32)
    ids[5:15, 6:15], ids[5:15, 15:26], ids[25:40, 40:52] = 1, 2, 3
    inside = ids > 0
    inside[30:34, 44:48] = False  # the hole
    with BlockReader(run) as blocks:
        frame = Frame(blocks)
        y, x = (((np.arange(length) + 0.5) * scale).astype(int) for length in (151, 203))
        shown = inside[np.minimum(y, len(ids) - 1)][:, np.minimum(x, ids.shape[1] - 1)]
        monkeypatch.setattr(Frame, "_foreground", lambda self, box: shown[box.slices])
        whole = frame.read_ids(Drawn(ids), Box(0, 0, 151, 203))  # type: ignore[arg-type]
        for box in (Box(3, 5, 60, 77), Box(0, 40, 151, 41)):
            np.testing.assert_array_equal(frame.read_ids(Drawn(ids), box), whole[box.slices])  # type: ignore[arg-type]
    assert set(np.unique(whole)) == {0, 1, 2, 3}
    for number in (1, 2, 3):
        assert (whole == number).sum() * scale**2 == pytest.approx((ids == number).sum(), rel=0.2)
    row = whole[int(10 / scale)]
    assert not ((row[:-1] == 1) & (row[1:] == 0)).any()  # no gap opens between the two


def test_off_and_a_scale_of_one_are_the_mask_as_it_was(tmp_path: Path, sized: Predictor, image: Path) -> None:
    plain = Predictor(replace(sized.checkpoint, objects_px=None), "cpu", "fp32")
    segment_image(image, tmp_path / "before.tif", plain, SegmentOptions())
    segment_image(image, tmp_path / "off.tif", sized, SegmentOptions(diameter="off"))
    assert (tmp_path / "off.tif").read_bytes() == (tmp_path / "before.tif").read_bytes()
    one = segment(image, tmp_path / "one.tif", sized, diameter="20")
    np.testing.assert_array_equal(one, tifffile.imread(tmp_path / "before.tif"))


def test_a_lower_resolution_is_read_where_it_is_near(tmp_path: Path, sized: Predictor) -> None:
    pixels = make_pixels(400, 600)
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as tif:
        tif.write(pixels, subifds=2, tile=(64, 64))
        tif.write(pixels[::2, ::2], subfiletype=1, tile=(64, 64))
        tif.write(pixels[::4, ::4], subfiletype=1, tile=(64, 64))
    image, options = tmp_path / "pyramid.tif", SegmentOptions(diameter="61")
    plan = plan_image(image, sized, options)
    slide = open_image(image, options)
    with open_seen(slide, plan, image, options) as seen:
        assert seen.shape == plan.shape == (131, 197)
        assert seen._level.shape == (200, 300)  # type: ignore[attr-defined]
    assert segment(image, tmp_path / "mask.tif", sized, diameter="61").shape == (400, 600)


@pytest.mark.parametrize("halved", ["zyx", "yx"])
def test_no_lower_resolution_is_read_whose_planes_are_others(tmp_path: Path, sized: Predictor, halved: str) -> None:
    pixels = np.stack([make_pixels(400, 600, seed=seed) for seed in range(4)])
    image = write_zarr(tmp_path / "image.zarr", pixels, "zyx", "0.5", halved=halved)
    options = SegmentOptions(view=View(z=1), diameter="61")
    with open_seen(open_image(image, options), plan_image(image, sized, options), image, options) as seen:
        assert (seen._level is None) == (halved == "zyx")  # type: ignore[attr-defined]


def test_pixel_sizes_say_whose_pixels_they_are(tmp_path: Path, sized: Predictor, image: Path) -> None:
    for frame, size in (("image", 0.25), ("model", 0.25 * 307 / round(307 * SCALES["61"]))):
        plan = plan_image(image, sized, SegmentOptions(diameter="61", pixel_size_um=0.25, frame=frame))
        assert plan.pixel_size_um is not None and plan.pixel_size_um[1] == pytest.approx(size)
    by_size = plan_image(image, sized, SegmentOptions(diameter="15.25um", pixel_size_um=0.25))
    assert by_size.scale == SCALES["61"]


@pytest.mark.parametrize("scale", [0.13, 0.5, 1.7, 4.0])
def test_places_do_not_depend_on_where_a_region_begins(scale: float) -> None:
    whole = Places.of(0, 300, scale, round(300 * scale))
    for start, stop in ((0, 1), (17, 90), (299, 300)):
        part = Places.of(start, stop, scale, round(300 * scale))
        np.testing.assert_array_equal(part.beside, whole.beside[start:stop])
        np.testing.assert_array_equal(part.second, whole.second[start:stop])
    assert 0 <= whole.beside.min() <= scale and round(300 * scale) - 1 - scale <= whole.beside.max() < round(
        300 * scale
    )


def test_verifying_a_scaled_run(tmp_path: Path, sized: Predictor, image: Path) -> None:
    result = segment_image(image, tmp_path / "m.tif", sized, SegmentOptions(diameter="61", output_edge=34), verify=True)
    assert result.verification is not None and result.verification.differing_pixels == 0
    with open_slide(tmp_path / "m.tif") as mask:
        assert mask.shape == (211, 307)


def test_a_rim_is_brought_back_whole(tmp_path: Path, sized: Predictor) -> None:
    """Its outer edge lies where its probability is reached, not where the sure part of the object ends."""
    image = write_image(tmp_path / "image.tif", (151, 203))
    chances = segment(image, tmp_path / "c.tif", sized, write=("probabilities",), diameter="61")[1:].astype(int).sum(0)
    sure, rim = (float(part) / 255 for part in np.quantile(chances, (0.85, 0.6)))
    assert rim < sure
    rules = ObjectRules(threshold=sure, rim=rim, rim_width=16)
    ids = segment(image, tmp_path / "ids.tif", sized, write=("instances",), diameter="61", objects=rules)
    beside = ndimage.binary_dilation(ids > 0) & (ids == 0)
    assert beside.sum() > 200 and (beside & (chances > 255 * rim + 1)).sum() <= 0.02 * beside.sum()
