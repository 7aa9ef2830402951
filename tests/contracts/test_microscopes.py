"""Microscopes' own files: the pixels that were written, by region; without the extra, a line that names it."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import liffile
import numpy as np
import pytest
from numpy.typing import NDArray
from pylibCZIrw import czi

from tests.nd2s import write_nd2
from unettile.box import Box
from unettile.errors import InputError
from unettile.images.fingerprint import Fingerprint
from unettile.images.planes import stack_lengths
from unettile.images.slide import open_slide
from unettile.images.view import FIRST, View

SHAPE = 80, 90


def noise(*shape: int, dtype: Any = np.uint16) -> NDArray[Any]:
    return np.random.default_rng(1).integers(0, 250, shape).astype(dtype)


def write_czi(path: Path, stack: NDArray[Any], increment: str = "") -> Path:
    """Write (T, Z, C, Y, X) by Zeiss's library: scene 0 in two tiles, scene 1 its upper half elsewhere.

    Args:
        increment: of time, s; its element takes the place of a long title, since the library cannot write it.
    """
    half = SHAPE[1] // 2
    with czi.create_czi(str(path)) as file:
        for t, z, c in np.ndindex(stack.shape[:3]):
            plane, pixels = {"T": t, "Z": z, "C": c}, stack[t, z, c][..., None]
            file.write(pixels[:, :half].copy(), plane=plane, location=(-5, 7), scene=0)
            file.write(pixels[:, half:].copy(), plane=plane, location=(half - 5, 7), scene=0)
            file.write(pixels[:40].copy(), plane=plane, location=(300, 7), scene=1)
        title = "a" * 200 if increment else "a"
        file.write_metadata(title, {0: "DAPI", 1: "GFP"}, scale_x=0.25e-6, scale_y=0.5e-6, scale_z=2e-6)
    if increment:
        time = f"<T><Positions><Interval><Increment>{increment}</Increment></Interval></Positions></T>"
        element = f"</Title></Document><Image><Dimensions>{time}</Dimensions></Image><Document><Title>"
        path.write_bytes(path.read_bytes().replace(b"a" * 200, element.encode().ljust(200)))
    return path


def write_lif(path: Path, images: dict[str, NDArray[Any]], z_step: float = 2e-6, t_step: float = 1.0) -> Path:
    """Write images (T, Z, C, Y, X) as Leica does: a header of XML in UTF-16, then a block of memory for each.

    Args:
        z_step, t_step: metres and seconds.
    """
    elements = []
    for number, (name, stack) in enumerate(images.items()):
        size = stack.dtype.itemsize
        steps = dict(zip("TZCYX", (stride for stride in stack.strides), strict=True))
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{8 * size}" NameOfMeasuredQuantity=""'
            f' Min="0" Max="1" Unit="" LUTName="" IsLUTInverted="0" BytesInc="{c * steps["C"]}" BitInc="0"/>'
            for c in range(stack.shape[2])
        )
        lengths = dict(zip("TZCYX", stack.shape, strict=True))
        dimensions = "".join(
            f'<DimensionDescription DimID="{code}" NumberOfElements="{lengths[axis]}" Origin="0"'
            f' Length="{(lengths[axis] - 1) * step!r}" Unit="m" BitInc="0" BytesInc="{steps[axis]}"/>'
            for axis, code, step in (("X", 1, 0.25e-6), ("Y", 2, 0.5e-6), ("Z", 3, z_step), ("T", 4, t_step))
            if lengths[axis] > 1
        )
        elements.append(
            f'<Element Name="{name}" Visibility="1" UniqueID="{number}"><Data><Image TextDescription="">'
            "<ImageDescription>"
            f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
            f'<Memory Size="{stack.nbytes}" MemoryBlockID="MemBlock_{number}"/></Element>'
        )
    text = (
        '<LMSDataContainerHeader Version="2"><Element Name="a.lif" Visibility="1" UniqueID="r"><Data/><Memory Size="0"'
        f' MemoryBlockID="none"/><Children>{"".join(elements)}</Children></Element></LMSDataContainerHeader>'
    )
    with path.open("wb") as file:
        file.write(struct.pack("<IIBI", 0x70, 2 * len(text) + 5, 0x2A, len(text)) + text.encode("utf-16-le"))
        for number, stack in enumerate(images.values()):
            block = f"MemBlock_{number}"
            file.write(struct.pack("<IIBQBI", 0x70, 2 * len(block) + 14, 0x2A, stack.nbytes, 0x2A, len(block)))
            file.write(block.encode("utf-16-le") + stack.tobytes())
    return path


@pytest.mark.parametrize("form", ["czi", "lif"])
def test_a_region_holds_the_pixels_of_its_plane(form: str, tmp_path: Path) -> None:
    stack = noise(2, 3, 2, *SHAPE)
    path = tmp_path / f"a.{form}"
    if form == "czi":
        write_czi(path, stack)
    else:
        write_lif(path, {"first": stack, "second": stack[:, :, :, :40].copy()})
        with liffile.LifFile(path) as file:  # what was written here is what Leica's readers take for a LIF
            assert np.array_equal(file.images[0].asarray(), stack)
    assert stack_lengths(path, View(series=0)) == (2, 3)
    with open_slide(path, View(series=0, t=1, z=2)) as slide:
        assert (slide.reader, slide.shape, slide.channels, slide.dtype) == (form, SHAPE, 2, np.uint16)
        assert slide.pixel_size_um == pytest.approx((0.5, 0.25))
        assert np.array_equal(slide.read(Box.of_shape(SHAPE)), np.moveaxis(stack[1, 2], 0, 2))
        assert np.array_equal(slide.read(Box(11, 40, 31, 77)), np.moveaxis(stack[1, 2, :, 11:31, 40:77], 0, 2))
        before, view = Fingerprint.of(slide), slide.view
    with open_slide(path, view) as again:
        assert Fingerprint.of(again) == before
    with open_slide(path, View(series=1, t=0, z=1, channels=(1,))) as slide:
        assert np.array_equal(slide.read(Box(0, 0, 40, 90))[..., 0], stack[0, 1, 1, :40])
    if form == "czi":
        with open_slide(path, View(series=0, t=0, z=0, channels=("GFP",))) as slide:
            assert slide.channel_names == ("GFP",)
            assert np.array_equal(slide.read(Box(0, 0, 9, 9))[..., 0], stack[0, 0, 1, :9, :9])
    for wrong, said in (
        (FIRST, "it holds 2 images"),
        (View(series=2), "--series 2 does not exist"),
        (View(series=0, t=0), "stack of 3 planes"),
        (View(series=0, t=0, z=3), "--z 3 does not exist"),
        (View(series=0, t=0, z=0, level=1), "--level 1 does not exist"),
    ):
        with pytest.raises(InputError, match=said):
            open_slide(path, wrong)


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 3), (np.uint8, 1), (np.float32, 1)])
def test_types_and_colours_of_czi(dtype: Any, channels: int, tmp_path: Path) -> None:
    """Zeiss's library takes blue first; here red is, as in every other format."""
    path, pixels = tmp_path / "a.czi", noise(*SHAPE, channels, dtype=dtype)
    with czi.create_czi(str(path)) as file:
        file.write(pixels[..., ::-1].copy())
    with open_slide(path) as slide:
        assert slide.channels == channels and slide.dtype == dtype and slide.pixel_size_um is None
        assert np.array_equal(slide.read(Box.of_shape(SHAPE)), pixels)
    with open_slide(path, View(channels=(channels - 1,))) as slide:
        assert np.array_equal(slide.read(Box(3, 4, 30, 40))[..., 0], pixels[3:30, 4:40, -1])


@pytest.mark.parametrize("form", ["czi", "lif"])
def test_a_damaged_file_is_refused(form: str, tmp_path: Path) -> None:
    stack = noise(1, 1, 1, *SHAPE)
    path = tmp_path / f"a.{form}"
    write_czi(path, stack) if form == "czi" else write_lif(path, {"a": stack})
    content = path.read_bytes()
    for length in (9, 40, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"cannot read .*a\."), open_slide(path, View(series=0)) as slide:
            slide.read(Box(0, 0, 40, 90))


@pytest.mark.parametrize(("form", "module"), [("czi", "pylibCZIrw"), ("lif", "liffile"), ("nd2", "nd2")])
def test_without_the_extra_a_line_names_it(
    form: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = noise(1, 1, 1, *SHAPE)
    path = tmp_path / f"a.{form}"
    if form == "nd2":
        write_nd2(path, stack[0, 0, 0, ..., None], "", ("a",))
    else:
        write_czi(path, stack) if form == "czi" else write_lif(path, {"a": stack})
    for name in [one for one in sys.modules if one.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"need {module} for {form.upper()} files; install it with .*microscopes"):
        open_slide(path)
