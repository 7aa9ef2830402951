"""ND2: what is read is what the package nd2 reads, plane by plane and by region; what is missing is told of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nd2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.nd2s import write_nd2
from unettile.box import Box
from unettile.errors import InputError
from unettile.images.fingerprint import Fingerprint
from unettile.images.planes import stack_lengths
from unettile.images.slide import open_slide
from unettile.images.view import FIRST, View

SHAPE = 80, 90
WHOLE = Box.of_shape(SHAPE)
NAMES = ("DAPI", "GFP")


def noise(*shape: int, dtype: Any = np.uint16) -> NDArray[Any]:
    return np.random.default_rng(1).integers(0, 250, shape).astype(dtype)


def read(path: Path) -> NDArray[Any]:
    with nd2.ND2File(path) as file:
        pixels: NDArray[Any] = file.asarray()
    return pixels


@pytest.mark.parametrize(("padding", "compressed"), [(0, False), (6, False), (0, True)])
@pytest.mark.parametrize("axes", ["TPZ", "PTZ", "ZT", "P", ""])
def test_a_region_holds_the_pixels_of_its_plane(axes: str, padding: int, compressed: bool, tmp_path: Path) -> None:
    lengths = dict(zip("TPZ", (2, 2, 3), strict=True))
    frames = noise(*(lengths[axis] for axis in axes), *SHAPE, 2)
    path = write_nd2(tmp_path / "a.nd2", frames, axes, NAMES, padding=padding, compressed=compressed)
    assert np.array_equal(read(path), np.moveaxis(frames, -1, -3)), "what was written is no ND2"
    for place in np.ndindex(frames.shape[: len(axes)]):
        at = dict(zip(axes, place, strict=True))
        with open_slide(path, View(series=at.get("P", 0), t=at.get("T"), z=at.get("Z"))) as slide:
            assert (slide.reader, slide.shape, slide.channels, slide.dtype) == ("nd2", SHAPE, 2, np.uint16)
            assert slide.pixel_size_um == (0.25, 0.25) and slide.channel_names == NAMES
            assert np.array_equal(slide.read(Box(11, 40, 31, 77)), frames[place][11:31, 40:77])
            assert np.array_equal(slide.read(WHOLE), frames[place])
            before, view = Fingerprint.of(slide), slide.view
        with open_slide(path, view) as again:
            assert Fingerprint.of(again) == before
    one = View(series=0, t=0, z=0, channels=("GFP",))
    with open_slide(path, one) as slide:
        assert np.array_equal(slide.read(WHOLE)[..., 0], frames[(0,) * len(axes)][..., 1])
    assert stack_lengths(path, View(series=0)) == tuple(lengths[axis] if axis in axes else 1 for axis in "TZ")


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 6), (np.uint8, 1), (np.float32, 4)])
def test_types_and_colours(dtype: Any, channels: int, tmp_path: Path) -> None:
    """Colours lie blue first; here red is, as in every other format."""
    frames, names = noise(*SHAPE, channels, dtype=dtype), ("a",) * (channels // 3 if channels % 3 == 0 else channels)
    path = write_nd2(tmp_path / "a.nd2", frames, "", names)
    expected = frames.reshape(*SHAPE, -1, 3)[..., ::-1].reshape(frames.shape) if channels % 3 == 0 else frames
    assert np.array_equal(read(path).reshape(-1), np.moveaxis(frames.reshape(*SHAPE, len(names), -1), 2, 0).reshape(-1))
    with open_slide(path) as slide:
        assert (slide.channels, slide.dtype) == (channels, dtype)
        assert slide.channel_names == (names if len(names) == channels else ("",) * channels)
        assert np.array_equal(slide.read(WHOLE), expected)


def test_no_more_than_the_region_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nd2(tmp_path / "a.nd2", noise(2, 2000, 2000, 1, dtype=np.uint8), "Z", ("a",))
    counts, pread = [], os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, at: counts.append(count) or pread(file, count, at))
    with open_slide(path, View(z=1)) as slide:
        slide.read(Box(1200, 1300, 1210, 1310))
    assert sum(counts) < 2000 * 2000 / 3


def test_what_is_chosen_and_what_is_not_there(tmp_path: Path) -> None:
    path = write_nd2(tmp_path / "a.nd2", noise(2, 3, *SHAPE, 2), "PZ", NAMES, positions=("left", ""), kept=4)
    for wrong, said in (
        (FIRST, "it holds 2 images .*'left'"),
        (View(series=2), "--series 2 does not exist"),
        (View(series=0), "stack of 3 planes"),
        (View(series=0, z=3), "--z 3 does not exist"),
        (View(series=0, z=0, channels=("Cy5",)), "Cy5"),
        (View(series=0, z=0, level=1), "--level 1 does not exist"),
    ):
        with pytest.raises(InputError, match=said):
            open_slide(path, wrong)
    with open_slide(path, View(series=1, z=0)) as slide:
        slide.read(WHOLE)
    with (
        open_slide(path, View(series=1, z=1)) as slide,
        pytest.raises(InputError, match=r"a\.nd2 at .*ImageDataSeq\|4! is not in it: its recording was stopped before"),
    ):
        slide.read(WHOLE)


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_told_of_in_one_line(compressed: bool, tmp_path: Path) -> None:
    frames = noise(*SHAPE, 1)
    path = write_nd2(tmp_path / "a.nd2", frames, "", ("a",), compressed=compressed)
    content = path.read_bytes()
    place = content.index(b"ImageDataSeq|0!")
    damaged = [content[:length] for length in (5, 60, len(content) // 2, len(content) - 1)]
    damaged += [
        content[:at] + b"\xff" * 8 + content[at + 8 :] for at in (place - 16, place, place - 8, len(content) - 8)
    ]
    if compressed:
        damaged.append(content[: place + 4072 + 8] + b"\0" * 16 + content[place + 4072 + 24 :])
    for one in damaged:
        path.write_bytes(one)
        with pytest.raises(InputError, match=r"cannot read .*a\.nd2") as refused, open_slide(path) as slide:
            slide.read(WHOLE)
        assert "\n" not in str(refused.value)
