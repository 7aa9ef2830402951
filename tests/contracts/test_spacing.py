"""Spacing: how far planes lie apart, and points in time, is what the file states or unknown; and every stack says it.

Whoever reads a stack that was written here, ImageJ's metadata, the OME schema or OME-Zarr's models, finds the same.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import bioio_dv
import numpy as np
import ome_types
import pytest
import tifffile
import zarr
from ome_zarr_models.v04.image import ImageAttrs
from ome_zarr_models.v05 import Image
from pylibCZIrw import czi

from tests.contracts.test_bioio import write as write_dv
from tests.contracts.test_microscopes import write_czi, write_lif
from tests.nd2s import write_nd2
from tests.zarrs import put
from unettile.images.arrays import ArrayImage
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import write_image
from unettile.images.planes import stack_spacing
from unettile.images.slide import open_slide
from unettile.images.spacing import UNKNOWN, Spacing
from unettile.images.view import View

SHAPE = 24, 32
FIRST_PLANE = View(series=0, t=0, z=0)
STACK = np.zeros((2, 3, *SHAPE), np.uint8)
NONSENSE = [0.0, -1.0, float("nan"), float("inf")]


def spacing(path: Path, view: View = FIRST_PLANE) -> Spacing:
    return stack_spacing(path, view)


def approximately(z_um: float | None, time_s: float | None) -> tuple[Any, Any]:
    return tuple(None if one is None else pytest.approx(one, rel=1e-12) for one in (z_um, time_s))


@pytest.mark.parametrize(
    ("stated", "z_um", "time_s"),
    [
        ({"PhysicalSizeZ": 500, "PhysicalSizeZUnit": "nm", "TimeIncrement": 2, "TimeIncrementUnit": "min"}, 0.5, 120),
        ({"PhysicalSizeZ": 0.5, "TimeIncrement": 2.5}, 0.5, 2.5),
        ({"TimeIncrement": 40, "TimeIncrementUnit": "ms"}, None, 0.04),
        ({"PhysicalSizeZ": 1, "PhysicalSizeZUnit": "pixel", "TimeIncrement": 1, "TimeIncrementUnit": "m"}, None, None),
        *(({"PhysicalSizeZ": value, "TimeIncrement": value}, None, None) for value in NONSENSE),
    ],
)  # fmt: skip
def test_ome_tiffs(stated: dict[str, Any], z_um: float | None, time_s: float | None, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata={"axes": "TZYX"} | stated)
    found = spacing(tmp_path / "a.ome.tif")
    assert (found.z_um, found.time_s) == approximately(z_um, time_s)


@pytest.mark.parametrize(
    ("stated", "z_um", "time_s"),
    [
        ({"unit": "um", "spacing": 0.5, "finterval": 2.5}, 0.5, 2.5),
        ({"unit": "nm", "spacing": 500.0, "finterval": 2.5, "tunit": "min"}, 0.5, 150),
        ({"unit": "nm", "zunit": "\\u00B5m", "spacing": 0.5, "fps": 4.0}, 0.5, None),
        ({"unit": "micron", "spacing": 0.5, "finterval": 0.0, "fps": 4.0}, 0.5, None),
        ({"unit": "micron", "finterval": 2.0, "fps": 4.0}, None, 2.0),
        ({"spacing": 0.5}, None, None),
        ({"unit": "pixel", "spacing": 1.0, "finterval": 2.0, "tunit": "frame"}, None, None),
        *(({"unit": "um", "spacing": value, "finterval": value, "fps": value}, None, None) for value in NONSENSE[:3]),
        ({"unit": "um", "spacing": float("inf"), "finterval": float("inf")}, None, None),
    ],
    ids=str,
)
def test_stacks_of_imagej(stated: dict[str, Any], z_um: float | None, time_s: float | None, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "TZYX"} | stated)
    found = spacing(tmp_path / "a.tif")
    assert (found.z_um, found.time_s) == approximately(z_um, time_s)


def write_zarr(path: Path, version: str, units: dict[str, str], scale: list[float]) -> Path:
    """Write an image whose second level has half of the planes, too; a scale of everything stands in the entry."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    axes = [{"name": axis, **({"unit": units[axis]} if axis in units else {})} for axis in "tzyx"]
    datasets = []
    for level in range(2):
        some = STACK[:, :: 2**level, :: 2**level, :: 2**level]
        group.create_array(str(level), shape=some.shape, chunks=some.shape, dtype=some.dtype)[...] = some
        own = [1.0, *(2.0**level for _ in "zyx")]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": own}]})
    whole = [{"type": "scale", "scale": scale}]
    put(group, version, {"multiscales": [{"axes": axes, "datasets": datasets, "coordinateTransformations": whole}]})
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_omezarrs(version: str, tmp_path: Path) -> None:
    units = {"t": "minute", "z": "nanometer", "y": "micrometer", "x": "micrometer"}
    path = write_zarr(tmp_path / "a.zarr", version, units, [0.5, 500, 0.25, 0.25])
    assert spacing(path) == Spacing(0.5, 30.0)
    assert spacing(path, View(t=0, z=0, level=1)) == Spacing(1.0, 30.0), "of the planes that this level has"
    assert spacing(write_zarr(tmp_path / "b.zarr", version, {}, [0.5, 500, 0.25, 0.25])) == UNKNOWN
    assert spacing(write_zarr(tmp_path / "c.zarr", version, units, [0.0, -1.0, 0.25, 0.25])) == UNKNOWN


@pytest.mark.parametrize("text", ["2e-06", *map(str, NONSENSE)])
def test_czi(text: str, tmp_path: Path) -> None:
    path = write_czi(tmp_path / "a.czi", np.zeros((2, 3, 1, 80, 90), np.uint8), text)
    place = b"<Value>2e-06</Value>"
    content = path.read_bytes()
    assert content.count(place) == 1
    path.write_bytes(content.replace(place, f"<Value>{text}</Value>".encode().ljust(len(place))))
    with czi.open_czi(str(path)) as file:  # the library reads what was put in
        assert f"<Increment>{text}</Increment>" in file.raw_metadata and f"<Value>{text}</Value>" in file.raw_metadata
    found = spacing(path)
    assert (found.z_um, found.time_s) == (approximately(2.0, 2e-6) if text == "2e-06" else (None, None))


def test_steps_that_a_czi_does_not_state_are_unknown(tmp_path: Path) -> None:
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        file.write(np.zeros((*SHAPE, 1), np.uint8))
    assert spacing(tmp_path / "a.czi", View()) == UNKNOWN


@pytest.mark.parametrize(
    ("z_step", "t_step", "z_um", "time_s"),
    [(2e-6, 0.5, 2.0, 0.5), (-2e-6, -0.5, 2.0, None), (0.0, 0.0, None, None), (float("inf"), float("nan"), None, None)],
)
def test_lif(z_step: float, t_step: float, z_um: float | None, time_s: float | None, tmp_path: Path) -> None:
    """Length over planes less one; a stack that was taken downwards has a negative one."""
    write_lif(tmp_path / "a.lif", {"a": np.zeros((2, 3, 1, *SHAPE), np.uint8)}, z_step, t_step)
    with np.errstate(invalid="ignore"):
        found = spacing(tmp_path / "a.lif")
    assert (found.z_um, found.time_s) == approximately(z_um, time_s)


@pytest.mark.parametrize(
    ("z_step", "periods", "z_um", "time_s"),
    [
        (0.3, (2500.0,), 0.3, 2.5),
        (-0.3, (2500.0, 2500.0), 0.3, 2.5),
        (0.3, (2500.0, 100.0), 0.3, None),
        (float("nan"), (0.0,), None, None),
        (float("inf"), (-1.0,), None, None),
        (1.0, (float("nan"),), 1.0, None),
    ],
)
def test_nd2(
    z_step: float, periods: tuple[float, ...], z_um: float | None, time_s: float | None, tmp_path: Path
) -> None:
    frames = np.zeros((4, 3, *SHAPE, 1), np.uint16)
    write_nd2(tmp_path / "a.nd2", frames, "TZ", ("a",), z_step=z_step, periods=periods)
    found = spacing(tmp_path / "a.nd2")
    assert (found.z_um, found.time_s) == approximately(z_um, time_s)


def test_an_nd2_taken_as_fast_as_may_be_states_the_mean(tmp_path: Path) -> None:
    frames = np.zeros((4, *SHAPE, 1), np.uint16)
    for period, seconds in ((0.0, 1.5), (1000.0, 1.0)):
        write_nd2(tmp_path / "a.nd2", frames, "T", ("a",), periods=(period,), mean_period=1500.0)
        assert spacing(tmp_path / "a.nd2") == Spacing(None, seconds)


def test_what_bioio_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeltaVision's plugin says nothing of time; another says it, in seconds or in no unit, or cannot."""
    path, view = tmp_path / "a.dv", View(t=0, z=0)
    write_dv(path, "tz")
    assert spacing(path, view) == Spacing(1.0)

    def saying(interval: Any) -> property:
        def said(reader: object) -> Any:
            if isinstance(interval, Exception):
                raise interval
            return interval

        return property(said)

    for interval, seconds in (
        (timedelta(milliseconds=2500), 2.5),
        (timedelta(0), None),
        (2.5, None),
        (KeyError("no such element"), None),
    ):
        monkeypatch.setattr(bioio_dv.Reader, "time_interval", saying(interval))
        assert spacing(path, view) == Spacing(1.0, seconds)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "known", [Spacing(0.3, 2.5), Spacing(0.3), Spacing(None, 2.5), UNKNOWN], ids=["both", "z", "t", "none"]
)
def test_every_stack_says_it_to_every_reader(known: Spacing, channels: int, tmp_path: Path) -> None:
    layer = Layer("a", channels, "majority" if channels == 1 else "mean")
    canvas = Canvas(SHAPE, (layer,), pixel_size_um=(0.5, 0.25), stack=(2, 3), spacing=known)
    reads = [lambda box: np.zeros((channels, *box.shape), np.uint8)] * 6
    for name, version in (("a.tif", "0.5"), ("a.ome.tif", "0.5"), ("5.ome.zarr", "0.5"), ("4.ome.zarr", "0.4")):
        write_image(tmp_path / name, replace(canvas, zarr=version), reads)
        with open_slide(tmp_path / name, View(t=1, z=2)) as slide:
            assert slide.spacing == known, name
            assert slide.pixel_size_um == pytest.approx((0.5, 0.25), rel=1e-9)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        said, tags = file.imagej_metadata, file.pages.first.tags
        assert (said.get("spacing"), said.get("finterval")) == (known.z_um, known.time_s)
        assert said["unit"] == "um" and tags["ResolutionUnit"].value == 1, "one unit for all, as ImageJ itself writes"
        assert (tags["XResolution"].value, tags["YResolution"].value) == ((4, 1), (2, 1))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        xml = str(file.ome_metadata)
    ome_types.validate_xml(xml)
    pixels = ome_types.from_xml(xml).images[0].pixels
    assert (pixels.physical_size_z, pixels.time_increment) == (known.z_um, known.time_s)
    assert (pixels.physical_size_z_unit.value, pixels.time_increment_unit.value) == ("µm", "s")
    group = zarr.open_group(tmp_path / "5.ome.zarr", mode="r")
    newer = Image.from_zarr(group).attributes.ome.multiscales[0]
    older = ImageAttrs.model_validate(zarr.open_group(tmp_path / "4.ome.zarr", mode="r").attrs.asdict()).multiscales[0]
    units = {"t": known.time_s and "second", "z": known.z_um and "micrometer", "c": None}
    steps = {"t": known.time_s or 1.0, "c": 1.0, "z": known.z_um or 1.0, "y": 0.5, "x": 0.25}
    for image in (newer, older):
        axes = [axis.name for axis in image.axes]
        assert [axis.unit for axis in image.axes[:-2]] == [units[axis] for axis in axes[:-2]]
        for dataset in image.datasets:
            assert list(dataset.coordinateTransformations[0].scale) == [steps[axis] for axis in axes]


def test_steps_of_planes_whose_pixels_nobody_knows(tmp_path: Path) -> None:
    """A unit of all lengths would make µm of pixels in ImageJ: that of depth stands by itself."""
    canvas = Canvas(SHAPE, stack=(2, 3), spacing=Spacing(0.3, 2.5))
    for name in ("a.tif", "a.ome.tif", "a.ome.zarr"):
        write_image(tmp_path / name, canvas, [lambda box: np.zeros(box.shape, np.uint8)] * 6)
        with open_slide(tmp_path / name, FIRST_PLANE) as slide:
            assert (slide.spacing, slide.pixel_size_um) == (Spacing(0.3, 2.5), None)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert "unit" not in file.imagej_metadata and file.imagej_metadata["zunit"] == "um"


@pytest.mark.parametrize(
    ("stack", "expected"), [((1, 3), Spacing(0.3)), ((2, 1), Spacing(None, 2.5)), ((1, 1), UNKNOWN)]
)
def test_an_axis_of_one_place_has_no_step(stack: tuple[int, int], expected: Spacing, tmp_path: Path) -> None:
    canvas = Canvas(SHAPE, pixel_size_um=(0.5, 0.5), stack=stack, spacing=Spacing(0.3, 2.5))
    for name in ("a.tif", "a.ome.tif", "a.ome.zarr"):
        write_image(tmp_path / name, canvas, [lambda box: np.zeros(box.shape, np.uint8)] * canvas.images)
        assert spacing(tmp_path / name) == expected


@pytest.mark.parametrize("size", [0.02, 0.333, 17.3, 24.9])
def test_pixels_of_any_size_keep_it_in_stacks_of_imagej(size: float, tmp_path: Path) -> None:
    canvas = Canvas(SHAPE, pixel_size_um=(size, size), stack=(1, 2))
    write_image(tmp_path / "a.tif", canvas, [lambda box: np.zeros(box.shape, np.uint8)] * 2)
    with open_slide(tmp_path / "a.tif", View(z=0)) as slide:
        assert slide.pixel_size_um == pytest.approx((size, size), rel=1e-9)
    far = Canvas(SHAPE, pixel_size_um=(3.1e7, 3.1e7), stack=(1, 2))  # of a map of 31 m
    write_image(tmp_path / "b.tif", far, [lambda box: np.zeros(box.shape, np.uint8)] * 2)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        over, under = file.pages.first.tags["XResolution"].value
        assert under / over == pytest.approx(3.1e7, rel=1e-9)


def test_another_size_of_pixels_changes_no_step() -> None:
    image = ArrayImage(np.zeros((2, 3, 60, 80)), "tzyx", (0.5, 0.5), spacing=Spacing(0.3, 2.5))
    for view in (FIRST_PLANE, View(t=1, z=1, mpp=1.0)):
        with open_slide(image, view, filled=True) as slide:
            assert slide.spacing == Spacing(0.3, 2.5)
