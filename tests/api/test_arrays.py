"""Arrays as slides: any region of any layout and type is what NumPy says, and a fingerprint tells pixels apart."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.contracts.test_slides import pixels_of, random_boxes
from unettile.box import Box
from unettile.errors import InputError
from unettile.images.arrays import ArrayImage
from unettile.images.fingerprint import Fingerprint
from unettile.images.normalize import sample_boxes
from unettile.images.slide import open_labels, open_slide
from unettile.images.view import View


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int16", "uint32", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_region_is_that_of_the_array(dtype: str, channels: int) -> None:
    pixels = pixels_of(np.dtype(dtype).newbyteorder("=").name, channels).astype(dtype)
    with open_slide(ArrayImage(pixels)) as slide:
        assert slide.shape == pixels.shape[:2] and slide.channels == channels
        assert slide.dtype == np.dtype(dtype).newbyteorder("=") and slide.dtype.isnative
        for box in random_boxes(slide.shape, 30):
            found = slide.read(box)
            assert found.dtype == slide.dtype and np.array_equal(found, pixels[box.slices])


def test_axes_planes_and_channels_are_chosen_as_in_a_file() -> None:
    stack = np.random.default_rng(0).integers(0, 255, (2, 4, 3, 30, 40), np.uint8)
    image = ArrayImage(stack, "tczyx")
    with open_slide(image, View(t=1, z=2, channels=(3, 0))) as slide:
        found = slide.read(random_boxes(slide.shape, 0)[-1])
        assert np.array_equal(found, np.moveaxis(stack[1, [3, 0], 2], 0, -1))
        assert slide.view == View(0, 0, None, (3, 0), 2, 1)
    with pytest.raises(InputError, match="stack of 3 planes in depth"):
        open_slide(image, View(t=0))
    with pytest.raises(InputError, match="--level 1 does not exist"):
        open_slide(image, View(level=1, t=0, z=0))


def test_booleans_are_black_and_white_or_labels() -> None:
    pixels = np.eye(20, dtype=np.bool_)
    whole = random_boxes((20, 20), 0)[-1]
    assert open_slide(ArrayImage(pixels)).read(whole).max() == 255
    labels = open_labels(ArrayImage(pixels)).read(whole)
    assert labels.dtype == np.uint8 and np.array_equal(labels[..., 0], pixels)


@pytest.mark.parametrize(
    ("array", "axes", "match"),
    [
        (np.zeros((3, 50, 60)), None, "channels come first"),
        (np.zeros((5, 6, 7, 8)), None, "4 axes"),
        (np.zeros(5), None, "1 axes"),
        (np.zeros((5, 6)), "yxc", "do not fit"),
        (np.zeros((5, 6)), "yy", "do not fit"),
        (np.zeros((5, 6)), "cx", "do not fit"),
        (np.zeros((0, 6)), None, "no pixels"),
        (np.zeros((5, 6), np.complex64), None, "complex64"),
        (np.array([["a", "b"]]), None, "need integers or real numbers"),
    ],
)
def test_what_is_no_image_is_refused(array: NDArray[np.generic], axes: str | None, match: str) -> None:
    with pytest.raises(InputError, match=match):
        ArrayImage(array, axes)


def test_what_a_lazy_array_raises_is_an_error_of_the_input() -> None:
    class Broken:
        shape, dtype = (600, 700), np.dtype(np.uint8)

        def __getitem__(self, key: object) -> None:
            raise RuntimeError("the graph\nis broken")

    with pytest.raises(InputError, match="cannot read the array at y 512, x 0: the graph is broken") as refused:
        open_slide(ArrayImage(Broken())).read(Box(599, 0, 600, 1))
    assert isinstance(refused.value.__cause__, RuntimeError)


def test_a_chunk_is_computed_once_for_neighbouring_windows() -> None:
    asked: list[object] = []

    class Noting:
        shape, dtype, chunks = (1000, 900), np.dtype(np.uint16), ((300, 300, 300, 100), (450, 450))

        def __getitem__(self, key: object) -> NDArray[np.uint16]:
            asked.append(key)
            return np.arange(900_000, dtype=np.uint16).reshape(1000, 900)[key]  # type: ignore[index]

    with open_slide(ArrayImage(Noting())) as slide:
        for x in range(0, 800, 50):
            slide.read(Box(100, x, 200, x + 100))
    assert asked == [(slice(0, 300), slice(0, 450)), (slice(0, 300), slice(450, 900))]


def test_a_fingerprint_tells_pixels_apart() -> None:
    pixels = pixels_of("uint8", 3)
    prints = [pixels, pixels.copy(), np.asfortranarray(pixels), pixels + np.uint8(1), pixels.astype(np.uint16)]
    first, same, turned, other, wider = (Fingerprint.of(open_slide(ArrayImage(array))) for array in prints)
    assert first == same == turned and first.bytes == pixels.size and first.reader == "array"
    assert first.content_sha256 != other.content_sha256 and first != wider
    large = np.zeros((2100, 2100), np.uint8)
    before = Fingerprint.of(open_slide(ArrayImage(large)))
    seen = list(sample_boxes(large.shape))[-1]
    large[seen.y1 - 1, seen.x1 - 1] = 1
    assert Fingerprint.of(open_slide(ArrayImage(large))) != before
