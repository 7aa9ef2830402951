"""Damaged PNGs: whatever single bit of one is flipped, it is refused; none becomes other pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.slide import open_labels

PIXELS = np.random.default_rng(0).integers(0, 4, (9, 7)).astype(np.uint8)


def palette() -> Image.Image:
    image = Image.fromarray(PIXELS)
    image.putpalette(range(12))
    return image


@pytest.mark.parametrize(
    "image",
    [Image.fromarray(PIXELS), Image.fromarray(PIXELS.astype(np.uint16) * 999), Image.fromarray(PIXELS > 1), palette()],
    ids=["8 bits", "16 bits", "1 bit", "palette"],
)
def test_no_flipped_bit_passes(image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    image.save(path)
    data = path.read_bytes()
    with open_labels(path) as whole:
        expected = whole.read(Box.of_shape(whole.shape))
        assert np.array_equal(expected[..., 0], np.asarray(image))
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot read"):
            open_labels(path)
