"""What plugins of bioio read, here DeltaVision's: the pixels that another program wrote, by plane and by region."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mrc
import numpy as np
import pytest
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.fingerprint import Fingerprint
from unettile.images.planes import stack_lengths
from unettile.images.slide import open_slide
from unettile.images.view import FIRST, View

SHAPE = 80, 90


def write(path: Path, axes: str, dtype: Any = np.uint16) -> NDArray[Any]:
    """Write a stack of two axes (t, z; w is channels), with pixels of 0.5 × 0.25 µm; return it as (T, Z, C, y, x)."""
    stack = np.random.default_rng(1).integers(0, 250, (2, 3, *SHAPE)).astype(dtype)
    mrc.imsave(str(path), stack, resolution=(0.25, 0.5, 1.0), zAxisOrder=axes)
    return stack[:, :, None] if axes == "tz" else stack[None]


@pytest.mark.parametrize(("axes", "dtype"), [("tz", np.uint16), ("zw", np.float32)])
def test_a_region_holds_the_pixels_of_its_plane(axes: str, dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.dv"
    stack = write(path, axes, dtype)
    times, depths, channels = stack.shape[:3]
    assert stack_lengths(path, FIRST) == (times, depths)
    for t, z in np.ndindex(times, depths):
        with open_slide(path, View(t=t, z=z)) as slide:
            assert (slide.reader, slide.shape, slide.channels, slide.dtype) == ("bioio", SHAPE, channels, dtype)
            assert slide.pixel_size_um == pytest.approx((0.5, 0.25))
            assert np.array_equal(slide.read(Box.of_shape(SHAPE)), np.moveaxis(stack[t, z], 0, 2))
            assert np.array_equal(slide.read(Box(11, 40, 31, 77)), np.moveaxis(stack[t, z, :, 11:31, 40:77], 0, 2))
            before, view = Fingerprint.of(slide), slide.view
        with open_slide(path, view) as again:
            assert Fingerprint.of(again) == before
    with open_slide(path, View(t=0, z=1, channels=(channels - 1,))) as slide:
        assert np.array_equal(slide.read(Box.of_shape(SHAPE))[..., 0], stack[0, 1, -1])
    for wrong, said in (
        (FIRST, "it is a stack of"),
        (View(t=0, z=3), "--z 3 does not exist"),
        (View(series=1), "--series 1 does not exist"),
        (View(t=0, z=0, level=1), "--level 1 does not exist"),
    ):
        with pytest.raises(InputError, match=said):
            open_slide(path, wrong)


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.dv"
    write(path, "tz")
    content = path.read_bytes()
    for length in (5, 600, len(content) // 2):
        path.write_bytes(content[:length])
        with (
            pytest.raises(InputError, match=r"cannot read .*a\.dv") as refused,
            open_slide(path, View(t=1, z=2)) as slide,
        ):
            slide.read(Box.of_shape(SHAPE))
        assert "\n" not in str(refused.value)
    (tmp_path / "a.xyz").write_text("no image")
    with pytest.raises(InputError, match=r"need a TIFF.*'unettile\[bioio\]' and the plugin"):
        open_slide(tmp_path / "a.xyz")
    path.write_bytes(content)
    monkeypatch.setitem(sys.modules, "bioio", None)
    with pytest.raises(
        InputError, match=r"need a TIFF.*for files of other microscopes, pip install 'unettile\[bioio\]'"
    ):
        open_slide(path)
