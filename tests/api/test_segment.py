"""Model.segment: the bytes are the command's, whatever the image comes in; nothing is left behind, nothing printed."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import unettile
from tests.narrow import make_pixels
from unettile.cli import run

Pixels = NDArray[np.uint8]

SAMPLE = Path(__file__).parent.parent.parent / "sample_data" / "nuclei.tif"


def command(*arguments: object) -> None:
    assert run(["segment", *map(str, arguments), "--device", "cpu", "--precision", "fp32", "--quiet"]) == 0


def pages(path: Path) -> list[NDArray[Any]]:
    """Return the pixels of every page and level of a TIFF."""
    with tifffile.TiffFile(path) as tif:
        return [level.asarray() for series in tif.series for level in series.levels]


def description(path: Path) -> dict[str, Any]:
    """Return the metadata of a plain TIFF."""
    with tifffile.TiffFile(path) as tif:
        found: dict[str, Any] = json.loads(tif.pages.first.description)
        return found


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, empty at first."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_file_gives_the_bytes_of_the_command(
    model: unettile.Model, model_file: Path, image_file: Path, tmp_path: Path
) -> None:
    command(
        image_file, "-o", tmp_path / "command.ome.tif", "-m", model_file, "--write", "classes", "--write", "instances"
    )
    result = model.segment(image_file, tmp_path / "api.ome.tif", write=["classes", "instances"])
    assert (tmp_path / "api.ome.tif").read_bytes() == (tmp_path / "command.ome.tif").read_bytes()
    assert result.output == tmp_path / "api.ome.tif" and not list(tmp_path.glob("*.run"))


def test_an_array_gives_the_file_of_the_command_but_for_the_image_s_fingerprint(
    model: unettile.Model, model_file: Path, image_file: Path, pixels: Pixels, tmp_path: Path
) -> None:
    command(image_file, "-o", tmp_path / "command.tif", "-m", model_file)
    model.segment(pixels, str(tmp_path / "api.tif"))
    found, expected = pages(tmp_path / "api.tif"), pages(tmp_path / "command.tif")
    assert len(found) == len(expected) > 1
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    said = [description(tmp_path / name) for name in ("api.tif", "command.tif")]
    assert {key for key in said[0] if said[0][key] != said[1][key]} == {"image"} and said[0].keys() == said[1].keys()
    differing = {key for key in said[0]["image"] if said[0]["image"][key] != said[1]["image"][key]}
    assert differing == {"bytes", "header_sha256", "content_sha256", "reader"}


@pytest.mark.parametrize("kind", ["classes", "probabilities", "instances"])
def test_what_is_returned_is_what_the_file_holds(
    model: unettile.Model, model_file: Path, image_file: Path, pixels: Pixels, tmp_path: Path, kind: str
) -> None:
    command(image_file, "-o", tmp_path / "mask.ome.tif", "-m", model_file, "--write", kind)
    found = model.segment(pixels, write=kind)
    expected = tifffile.imread(tmp_path / "mask.ome.tif", series=0, level=0)
    expected = np.moveaxis(expected, 0, -1) if expected.ndim == 3 else expected
    assert found.dtype == expected.dtype and found.flags.writeable
    assert np.array_equal(found, expected) and found.max() > 0
    assert np.array_equal(model.segment(image_file, write=kind), expected)


def test_several_kinds_are_a_dict_in_the_order_asked_for(model: unettile.Model, pixels: Pixels) -> None:
    found = model.segment(pixels, write=("instances", "classes"))
    assert list(found) == ["instances", "classes"]
    assert all(np.array_equal(found[kind], model.segment(pixels, write=kind)) for kind in found)
    assert found["classes"].dtype == np.uint8 and found["instances"].dtype == np.uint16


def lazily(name: str, pixels: NDArray[Any], folder: Path) -> Any:
    """Return an array of some library's that holds the pixels."""
    library = pytest.importorskip(name.split(" ")[0])
    chunks = (64, 100, *pixels.shape[2:])
    if name == "dask":
        return pytest.importorskip("dask.array").from_array(pixels, chunks=chunks)
    if name == "zarr":
        stored = library.create_array(folder / "image.zarr", shape=pixels.shape, chunks=chunks, dtype=pixels.dtype)
        stored[...] = pixels
        return stored
    if name == "tensorstore":
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / "ts.zarr")}}
        stored = library.open(spec, create=True, dtype=pixels.dtype, shape=pixels.shape).result()
        stored[...] = pixels
        return stored
    if name == "xarray":
        return library.DataArray(np.moveaxis(pixels, -1, 0), dims=("channel", "y", "x"))
    return library.DataArray(np.moveaxis(pixels, -1, 0), dims=("c", "y", "x")).chunk({"y": 50})  # of dask's


@pytest.mark.filterwarnings("default")  # of those libraries
@pytest.mark.parametrize("name", ["dask", "zarr", "tensorstore", "xarray", "xarray of dask"])
def test_lazy_arrays_give_the_mask_of_their_pixels(rgb_model: unettile.Model, tmp_path: Path, name: str) -> None:
    pixels = make_pixels(150, 170, 3)
    assert np.array_equal(rgb_model.segment(lazily(name, pixels, tmp_path)), rgb_model.segment(pixels))


class Slices:
    """A lazy array that notes the largest region it was asked for, and refuses to be taken whole."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels, self.shape, self.dtype, self.largest = pixels, pixels.shape, pixels.dtype, 0

    def __getitem__(self, key: Any) -> Pixels:
        part = self._pixels[key]
        self.largest = max(self.largest, part.size)
        return part

    def __array__(self, dtype: Any = None, copy: Any = None) -> Pixels:
        raise AssertionError("taken whole")


def test_a_large_array_is_read_window_by_window(model: unettile.Model, tmp_path: Path) -> None:
    lazy = Slices(make_pixels(1200, 1100))
    model.segment(lazy, tmp_path / "mask.tif")
    assert 0 < lazy.largest <= 512 * 512
    assert np.array_equal(unettile.open(tmp_path / "mask.tif").read(), model.segment(lazy._pixels))


def test_options_are_the_command_s(rgb_model: unettile.Model, rgb_file: Path, tmp_path: Path) -> None:
    pixels = make_pixels(150, 170, 4)
    tifffile.imwrite(tmp_path / "image.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    mask = np.zeros((75, 85), np.uint8)
    mask[20:60, 30:70] = 1
    tifffile.imwrite(tmp_path / "inside.tif", mask)
    options = ["--channel", "3,0,1", "--mask", tmp_path / "inside.tif", "--tile", "68", "--batch", "3"]
    command(tmp_path / "image.tif", "-o", tmp_path / "mask.tif", "-m", rgb_file, *options)
    expected = tifffile.imread(tmp_path / "mask.tif", key=0)
    found = rgb_model.segment(pixels, channel=(3, 0, 1), mask=mask, tile=68, batch=3)
    assert np.array_equal(found, expected) and 0 < np.count_nonzero(found) < found.size
    rules = {"min_size": 40, "split": True}
    sizes = np.bincount(rgb_model.segment(pixels, channel=(3, 0, 1), write="instances", changes=rules).ravel())[1:]
    assert sizes.min() >= 40


def test_a_diameter_is_px_or_a_text(tmp_path: Path) -> None:
    model = unettile.load("nuclei", device="cpu", precision="fp32")
    image = unettile.open(SAMPLE)[:200, :220]
    tifffile.imwrite(tmp_path / "image.tif", image)
    command(tmp_path / "image.tif", "-o", tmp_path / "mask.tif", "-m", "nuclei", "--diameter", "80")
    mask = model.segment(image, diameter=80)
    assert np.array_equal(mask, unettile.open(tmp_path / "mask.tif").read())
    small = model.segment(unettile.open(image, pixel_size=0.5), diameter="40um", frame="model")
    assert small.shape != mask.shape and not np.array_equal(mask, model.segment(image, diameter="off"))


def test_an_open_image_says_more_of_an_array(rgb_model: unettile.Model) -> None:
    pixels = make_pixels(120, 160, 3)
    planes = np.moveaxis(pixels, -1, 0)
    whole = rgb_model.segment(unettile.open(planes, axes="cyx"))
    assert np.array_equal(whole, rgb_model.segment(pixels))
    opened = unettile.open(planes, axes="cyx", pixel_size=0.5)
    assert rgb_model.segment(opened, mpp=1.0).shape == (60, 80)
    assert np.array_equal(rgb_model.segment(opened, mpp=1.0), rgb_model.segment(unettile.open(
        planes, axes="cyx", pixel_size=0.5, mpp=1.0)))  # fmt: skip
    with pytest.raises(unettile.InputError, match="pixel_size"):
        rgb_model.segment(pixels, mpp=1.0)
    with pytest.raises(unettile.InputError, match="axes='cyx'"):
        rgb_model.segment(planes)


def test_a_stopped_run_goes_on_with_the_same_call(model: unettile.Model, tmp_path: Path) -> None:
    pixels, output = make_pixels(700, 700), tmp_path / "mask.tif"
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.segment(pixels, output, tile=36, progress=stop)
    assert (tmp_path / "mask.tif.run").is_dir() and not output.exists()
    again: list[int] = []
    model.segment(pixels, output, tile=36, progress=lambda done, total: again.append(done))
    assert again[0] > pixels.size // 2 and not (tmp_path / "mask.tif.run").exists()
    assert np.array_equal(unettile.open(output).read(), model.segment(pixels))
    with pytest.raises(unettile.InputError, match="was made otherwise"):
        model.segment(pixels + 1, output)
    model.segment(pixels + 1, output, overwrite=True)


def test_nothing_is_left_in_memory_s_place_nor_printed(
    model: unettile.Model, pixels: Pixels, temporary: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = model.segment(pixels)
    assert not list(temporary.iterdir())

    def fail(done: int, total: int) -> None:
        assert list(temporary.iterdir())
        raise OSError("the caller's own")

    with pytest.raises(OSError, match="the caller's own"):
        model.segment(pixels, progress=fail)
    for none in (0, "1s"):
        with pytest.raises(unettile.Incomplete, match="max-time"):
            model.segment(pixels, max_time=none, progress=lambda done, total: time.sleep(1))
    assert not list(temporary.iterdir())
    assert np.array_equal(model.segment(pixels), expected)
    assert capfd.readouterr() == ("", "")


def test_progress_counts_pixels(model: unettile.Model, pixels: Pixels) -> None:
    seen: list[tuple[int, int]] = []
    model.segment(pixels, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (pixels.size, pixels.size) and seen == sorted(seen)


def test_a_mask_of_ours_is_no_image_unless_forced(model: unettile.Model, pixels: Pixels, tmp_path: Path) -> None:
    model.segment(pixels, tmp_path / "mask.tif")
    with pytest.raises(unettile.InputError, match="is a result of unettile"):
        model.segment(tmp_path / "mask.tif")
    assert model.segment(tmp_path / "mask.tif", channel=0, force=True).shape == pixels.shape


def test_a_sample_is_verified_where_that_is_asked_for(model: unettile.Model, pixels: Pixels, tmp_path: Path) -> None:
    result = model.segment(pixels, tmp_path / "mask.tif", verify=True)
    assert result.verification is not None and result.verification.differing_pixels == 0
    again = model.segment(pixels, tmp_path / "mask.tif")
    assert again.was_finished and again.tally.computed == 0


def test_advice_is_a_warning(model_file: Path, pixels: Pixels) -> None:
    from dataclasses import replace

    from unettile.checkpoint import load_checkpoint
    from unettile.face.model import Model

    coarse = Model(replace(load_checkpoint(model_file), pixel_size_um=2.0), "cpu", "fp32")
    with pytest.warns(unettile.Advice, match="the array has pixels of 0.5 µm, the model was trained at 2 µm") as told:
        coarse.segment(unettile.open(pixels, pixel_size=0.5), diameter="off")
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"write": "borders"}, unettile.UsageError, "borders"),
        ({"write": "depth"}, unettile.UsageError, "no depth"),
        ({"tile": 37}, unettile.UsageError, "37"),
        ({"changes": {"min_size": 3}}, unettile.UsageError, "instances"),
        ({"channel": 4}, unettile.InputError, "channel 4"),
        ({"overwrite": True}, unettile.UsageError, "output"),
        ({"max_time": "55"}, unettile.UsageError, "max_time 55 has no unit"),
        ({"output": "mask.txt"}, unettile.UsageError, "mask.txt"),
    ],
    ids=lambda part: str(part) if isinstance(part, dict) else "",
)
def test_what_cannot_be_meant_is_refused(
    model: unettile.Model, pixels: Pixels, options: dict[str, Any], kind: type[Exception], match: str
) -> None:
    with pytest.raises(kind, match=match) as refused:
        model.segment(pixels, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("image", [3, [[1, 2], [3, 4]], None])
def test_what_is_no_image_is_refused(model: unettile.Model, image: Any) -> None:
    with pytest.raises(unettile.UsageError, match="need the path of a file, or an array"):
        model.segment(image)
