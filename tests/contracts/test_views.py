"""The contract of views: whatever the form, a level, a plane and channels are found, with their pixel size, or refused.

A new form of file costs one function that writes levels (Z, C, H, W), and one line in FORMS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.zarrs import noise, write_zarr
from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.fingerprint import Fingerprint
from unettile.images.plain import PlainSlide
from unettile.images.resample import LARGEST_FACTOR, ResampledSlide
from unettile.images.slide import Slide, open_slide
from unettile.images.view import Level, View, whole_factor

NAMES = ("DAPI", "CD3", "CD8")
PIXEL_UM = (0.5, 0.25)
Levels = Sequence[NDArray[Any]]


def make_levels(depth: int, channels: int) -> Levels:
    """Return noise of 3 resolutions, each its own, (Z, C, H, W)."""
    random = np.random.default_rng(depth + channels)
    shapes = [(301, 203), (151, 102), (75, 50)]
    return [random.integers(0, 4000, (depth, channels, *shape)).astype(np.uint16) for shape in shapes]


def ome_tiff(path: Path, levels: Levels) -> None:
    metadata = {
        "axes": "ZCYX",
        "PhysicalSizeY": PIXEL_UM[0],
        "PhysicalSizeX": PIXEL_UM[1],
        "Channel": {"Name": list(NAMES[: levels[0].shape[1]])},
        "Plane": {"PositionY": [7.5] * len(levels[0]) * levels[0].shape[1], "PositionYUnit": ["mm"] * 99}
        | {"PositionX": [20.0] * len(levels[0]) * levels[0].shape[1], "PositionXUnit": ["µm"] * 99},
    }
    options: dict[str, Any] = {"tile": (32, 32), "photometric": "minisblack", "compression": "zlib"}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(levels[0], subifds=len(levels) - 1, metadata=metadata, **options)
        for level in levels[1:]:
            file.write(level, subfiletype=1, **options)


def plain_tiff(path: Path, levels: Levels) -> None:
    """Write pages of samples, each smaller than the last, and not marked as anything."""
    with tifffile.TiffWriter(path) as file:
        for level in levels:
            step = levels[0].shape[2] / level.shape[2]
            file.write(
                np.moveaxis(level[0], 0, 2) if level.shape[1] > 1 else level[0, 0],
                tile=(32, 32),
                photometric="minisblack",
                planarconfig="contig" if level.shape[1] > 1 else None,
                resolution=(1e4 / PIXEL_UM[1] / step, 1e4 / PIXEL_UM[0] / step),
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def centre_of_first(level: int) -> tuple[float, float]:
    """Return where the centre of a level's first pixel lies, whose corner is that of all levels."""
    y, x = (edge * (2**level - 1) / 2 for edge in PIXEL_UM)
    return 7500 + y, 20 + x


def ome_zarr(version: str) -> Callable[[Path, Levels], None]:
    """Return a writer of OME-Zarr of a version: 0.4 is Zarr v2, 0.5 is Zarr v3, here with shards."""

    def write(path: Path, levels: Levels) -> None:
        group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
        for number, level in enumerate(levels):
            shards = None if version == "0.4" else (1, 1, 64, 96)
            array = group.create_array(
                str(number), shape=level.shape, chunks=(1, 1, 32, 48), shards=shards, dtype="uint16"
            )
            array[:] = level
        axes = [{"name": "z", "type": "space"}, {"name": "c", "type": "channel"}]
        axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
        multiscales = {
            "axes": axes,
            "datasets": [
                {
                    "path": str(number),
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [1, 1, 0.5 * 2**number, 0.25 * 2**number]},
                        {"type": "translation", "translation": [0, 0, *centre_of_first(number)]},
                    ],
                }
                for number in range(len(levels))
            ],
        }
        channels = [{"label": name} for name in NAMES[: levels[0].shape[1]]]
        ome = {"version": version, "multiscales": [multiscales], "omero": {"channels": channels}}
        group.attrs.update(ome if version == "0.4" else {"ome": ome})

    return write


@dataclass(frozen=True)
class Form:
    """One form of file.

    Args:
        deep: it holds stacks.
        named: it names its channels.
    """

    name: str
    write: Callable[[Path, Levels], None]
    deep: bool = False
    named: bool = False


FORMS = (
    Form("OME-TIFF", ome_tiff, deep=True, named=True),
    Form("OME-Zarr 0.4", ome_zarr("0.4"), deep=True, named=True),
    Form("OME-Zarr 0.5, shards", ome_zarr("0.5"), deep=True, named=True),
    Form("TIFF of smaller and smaller pages", plain_tiff),
)

each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


def whole(slide: Slide) -> NDArray[Any]:
    return slide.read(Box.of_shape(slide.shape))


@each_form
def test_every_plane_of_every_level_is_found(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "image"
    levels = make_levels(4 if form.deep else 1, 3)
    form.write(path, levels)
    for number, level in enumerate(levels):
        for z in range(len(level)):
            with open_slide(path, View(level=number, z=z)) as slide:
                assert slide.shape == level.shape[2:]
                assert np.array_equal(whole(slide), np.moveaxis(level[z], 0, 2))
                assert slide.downsample == (2**number, 2**number)
                assert slide.pixel_size_um == pytest.approx((0.5 * 2**number, 0.25 * 2**number))
                assert slide.view == View(0, number, None, (0, 1, 2), z, 0)


@each_form
def test_channels_by_number_and_by_name(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "image"
    levels = make_levels(1, 3)
    form.write(path, levels)
    choices: list[tuple[tuple[int | str, ...], list[int]]] = [((2,), [2]), ((1, 0), [1, 0]), ((0, 0, 0), [0, 0, 0])]
    if form.named:
        choices += [(("cd8", 0), [2, 0])]
    for chosen, numbers in choices:
        with open_slide(path, View(level=1, channels=chosen)) as slide:
            assert np.array_equal(whole(slide), np.moveaxis(levels[1][0, numbers], 0, 2))
            assert np.array_equal(slide.read(Box(40, 30, 90, 70)), whole(slide)[40:90, 30:70])
            assert slide.view.channels == tuple(numbers)
            assert slide.channel_names == (tuple(NAMES[n] for n in numbers) if form.named else ("",) * len(numbers))


@each_form
def test_a_slide_opened_with_its_own_view_is_the_same(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "image"
    form.write(path, make_levels(3 if form.deep else 1, 2))
    for view in (View(z=0), View(mpp=0.5, channels=(1,), z=0), View(mpp=1.3, z=0), View(level=1, mpp=1.3, z=0)):
        with open_slide(path, view) as first, open_slide(path, first.view) as second:
            assert first.view == second.view == View.from_dict(second.view.to_dict())
            assert np.array_equal(whole(first), whole(second))
            assert Fingerprint.of(first) == Fingerprint.of(second)


@each_form
def test_what_is_not_there_is_refused_in_one_line(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "image"
    form.write(path, make_levels(4 if form.deep else 1, 3))
    for view, message in [
        (View(z=0, level=3), r"--level 3 does not exist: it has 3 levels \(0: 301 × 203 px, 1: 151 × 102 px, 2"),
        (View(z=0, series=1), r"--series 1 does not exist: it holds one image \(0: 301 × 203 px"),
        (View(z=4), r"--z 4 does not exist: it holds (4 planes in depth; use 0 to 3|one plane; leave --z out)"),
        (View(z=0, t=2), r"--time 2 does not exist: it holds one point in time; leave --time out"),
        (View(z=0, channels=(1, 3)), r"channel 3 does not exist: it has 3; use numbers from 0 to 2"),
        (View(z=0, channels=("PD1",)), "'PD1' does not exist: " + ("its channels" if form.named else "the file")),
        (View(z=0, mpp=100), "too far from its pixels of 2 × 1 µm"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=message) as caught:
            open_slide(path, view)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    if form.deep:
        with pytest.raises(InputError, match="stack of 4 planes in depth; need one: choose with --z N, from 0 to 3"):
            open_slide(path)


def test_numbers_that_cannot_be_meant() -> None:
    for name in ("series", "level", "z", "t"):
        with pytest.raises(UsageError, match="-1 cannot be meant"):
            View(**{name: -1})
    for mpp in (0.0, -0.5, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="cannot be meant: need micrometres per pixel"):
            View(mpp=mpp)
    with pytest.raises(UsageError, match="--channel names none"):
        View(channels=())


@pytest.mark.parametrize(
    ("mpp", "level", "resampled"),
    [
        (0.25, 0, False),
        (0.26, 0, False),  # within 5 %
        (0.4, 0, True),
        (0.5, 1, False),
        (0.9, 1, True),
        (1.0, 2, False),
        (1.6, 2, True),
        (0.1, 0, True),  # finer than there is
    ],
)
def test_the_level_for_a_pixel_size(mpp: float, level: int, resampled: bool) -> None:
    levels = [Level((100 // 2**n, 80 // 2**n), (2**n, 2**n), (0.25 * 2**n, 0.25 * 2**n)) for n in range(3)]
    assert View(mpp=mpp).pick_level(levels) == (level, mpp if resampled else None)


def test_a_position_in_a_tiff_is_kept(tmp_path: Path) -> None:
    ome_tiff(tmp_path / "image", make_levels(1, 1))
    for view in (View(), View(level=2), View(mpp=0.7)):
        with open_slide(tmp_path / "image", view) as slide:
            assert slide.origin_um == (7500, 20)


def test_a_pixel_size_takes_no_level_of_fewer_planes(tmp_path: Path) -> None:
    """Where levels are halved along z too, plane 5 of the largest is none of those of the next."""
    pixels = noise(8, 64, 64)
    write_zarr(tmp_path / "halved.zarr", pixels, "zyx", "0.5", halved="zyx")
    write_zarr(tmp_path / "whole.zarr", pixels, "zyx", "0.5")
    for name, level in (("halved", 0), ("whole", 1)):
        with open_slide(tmp_path / f"{name}.zarr", View(z=5, mpp=1.0)) as slide:
            assert slide.view.level == level
    with open_slide(tmp_path / "halved.zarr", View(z=2, level=1)) as slide:  # but who asks for it has it
        np.testing.assert_array_equal(slide.read(Box(0, 0, 32, 32))[..., 0], pixels[4, ::2, ::2])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_each_level_of_an_ome_zarr_has_its_own_position(version: str, tmp_path: Path) -> None:
    """It is that of a pixel's centre: the larger the pixel, the further from the corner that all levels share."""
    ome_zarr(version)(tmp_path / "image", make_levels(1, 1))
    for level in range(3):
        with open_slide(tmp_path / "image", View(level=level)) as slide:
            assert slide.origin_um == pytest.approx(centre_of_first(level), abs=1e-9)
    for view in (View(mpp=0.7), View(level=1, mpp=0.7)):
        with open_slide(tmp_path / "image", view) as slide:
            assert slide.origin_um == pytest.approx((7500 - 0.25 + 0.35, 20 - 0.125 + 0.35), abs=1e-9)


# Resampling.


class Memory(PlainSlide):
    """Pixels with a size, as a source."""

    def __init__(self, pixels: NDArray[Any], size: tuple[float, float] = (0.5, 0.5)) -> None:
        super().__init__(Path("memory"), pixels, size)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    factor=st.floats(0.2, 7),
    aspect=st.floats(0.5, 2),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "float32", "int64"]),
)
def test_a_region_of_a_resampled_slide_is_that_part_of_the_whole(
    seed: int, height: int, width: int, factor: float, aspect: float, dtype: str
) -> None:
    """Bit for bit: reading by tiles equals reading whole."""
    random = np.random.default_rng(seed)
    slide = ResampledSlide(
        Memory(random.integers(-99, 99, (height, width, 2)).astype(dtype), (0.5, 0.5 * aspect)), 0.5 * factor
    )
    pixels = whole(slide)
    assert pixels.dtype == dtype and pixels.shape[:2] == slide.shape
    for _ in range(5):
        y0, y1 = sorted(random.integers(0, slide.shape[0] + 1, 2).tolist())
        x0, x1 = sorted(random.integers(0, slide.shape[1] + 1, 2).tolist())
        assert np.array_equal(slide.read(Box(y0, x0, y1, x1)), pixels[y0:y1, x0:x1])


def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from unettile.images import resample

    slide = ResampledSlide(Memory(np.random.default_rng(0).integers(0, 255, (90, 70, 3)).astype(np.uint8)), 0.8)
    pixels = whole(slide)
    monkeypatch.setattr(resample, "BAND_PIXELS", 200)
    assert np.array_equal(whole(slide), pixels)


@pytest.mark.parametrize("factor", [0.3, 0.9, 1.7, 2.0, 5.3])
def test_resampling_moves_nothing(factor: float) -> None:
    """Away from the edges a slope stays where it is, to a tenth of a source pixel; a constant stays constant."""
    y, x = np.mgrid[:120, :140].astype(float)
    slope = (3 * (y + 0.5) + 2 * (x + 0.5))[..., None].astype(np.float64)
    slide = ResampledSlide(Memory(slope), 0.5 * factor)
    rows, columns = (np.arange(length) + 0.5 for length in slide.shape)
    expected = 3 * factor * rows[:, None] + 2 * factor * columns[None]
    edge = max(2, int(3 / factor) + 1)
    inside = np.s_[edge:-edge, edge:-edge]
    assert np.abs(whole(slide)[inside][..., 0] - expected[inside]).max() < 0.1 * (3 + 2)
    flat = ResampledSlide(Memory(np.full((50, 40, 1), 255, np.uint8)), 0.5 * factor)
    assert (whole(flat) == 255).all()


def test_fine_stripes_become_grey() -> None:
    """What is finer than the new pixels is averaged, not aliased."""
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(whole(ResampledSlide(Memory(stripes), 1.5))[4:-4, 4:-4].astype(int) - 100).max() <= 12


def test_a_pixel_size_beyond_reason_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    plain_tiff(path, make_levels(1, 1)[:1])
    for mpp in (0.5 * LARGEST_FACTOR * 1.1, 0.2 / LARGEST_FACTOR):
        with pytest.raises(InputError, match=r"too far from its pixels .* within a factor of 64"):
            open_slide(path, View(mpp=mpp))
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), metadata=None)
    with pytest.raises(InputError, match=r"--mpp 0.5 cannot be found: the file does not state the size of its pixels"):
        open_slide(path, View(mpp=0.5))


def test_whole_factors() -> None:
    for length in range(1, 400):
        for factor in (1, 2, 4, 8):
            for reduced in {max(1, length // factor), -(-length // factor)}:
                if length >= 2 * factor**2:
                    assert whole_factor(length, reduced) == factor
