"""Augmentation: one map moves image, labels and weights alike, and a sample number decides it."""

from __future__ import annotations

import numpy as np
import pytest

from unettile.images.normalize import Scaling
from unettile.training.augment import (
    Warp,
    draw_plain_warp,
    draw_warp,
    reflect,
    resample,
    resample_labels,
    resample_map,
    vary_values,
)
from unettile.training.parts import AugmentPart

SAME = Scaling((0.0, 0.0), (1.0, 1.0))
STILL = AugmentPart(flip=False, rotate=False, zoom=(1.0, 1.0), elastic_std=0.0)


def test_without_any_change_a_warp_is_a_crop() -> None:
    warp = draw_warp(np.random.default_rng(0), STILL, 9, (25.0, 30.0))
    assert np.allclose(np.diff(warp.y, axis=0), 1, atol=1e-4) and np.allclose(np.diff(warp.y, axis=1), 0, atol=1e-4)
    assert np.allclose(np.diff(warp.x, axis=1), 1, atol=1e-4) and np.allclose(np.diff(warp.x, axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_zoom_magnifies(zoom: float) -> None:
    part = AugmentPart(flip=False, rotate=False, zoom=(zoom, zoom), elastic_std=0.0)
    warp = draw_warp(np.random.default_rng(0), part, 9, (25.0, 30.0))
    assert np.allclose(np.diff(warp.y, axis=0), 1 / zoom, atol=1e-4)


def test_rotation_keeps_lengths_and_flip_changes_handedness() -> None:
    for seed in range(8):
        warp = draw_warp(np.random.default_rng(seed), AugmentPart(zoom=(1.0, 1.0), elastic_std=0.0), 9, (25.0, 30.0))
        down = np.array([warp.y[1, 0] - warp.y[0, 0], warp.x[1, 0] - warp.x[0, 0]])
        right = np.array([warp.y[0, 1] - warp.y[0, 0], warp.x[0, 1] - warp.x[0, 0]])
        np.testing.assert_allclose([down @ down, right @ right, down @ right], [1, 1, 0], atol=1e-3)


@pytest.mark.parametrize("edge", [8, 9])
def test_a_plain_warp_takes_every_pixel_once_in_each_of_eight_orientations(edge: int) -> None:
    seen = set()
    for seed in range(100):
        warp = draw_plain_warp(np.random.default_rng(seed), AugmentPart(), edge, (25.3, 30.8))
        places = list(zip(warp.y.ravel().tolist(), warp.x.ravel().tolist(), strict=True))
        wanted = {
            (y, x)
            for y in range(int(warp.y.min()), int(warp.y.max()) + 1)
            for x in range(int(warp.x.min()), int(warp.x.max()) + 1)
        }
        assert len(wanted) == edge**2 and {(y, x) for y, x in places} == wanted
        assert warp.y.min() <= 25.3 <= warp.y.max() and warp.x.min() <= 30.8 <= warp.x.max()
        seen.add(tuple(places))
    assert len(seen) == 8
    still = draw_plain_warp(np.random.default_rng(0), STILL, edge, (25.3, 30.8))
    assert np.array_equal(still.x[0], np.arange(edge) + still.x[0, 0]) and np.all(np.diff(still.y, axis=0) == 1)


def test_elastic_displacements_have_the_asked_spread_and_are_smooth() -> None:
    part = AugmentPart(flip=False, rotate=False, zoom=(1.0, 1.0), elastic_std=10.0, elastic_grid=3)
    flat = np.arange(101) - 50.0
    moved = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        warp = draw_warp(rng, part, 101, (500.0, 500.0))
        shift = warp.y - flat[:, None]
        moved.append(shift[0, 0] - shift[-1, -1])  # two independent corners of the coarse grid
        assert np.abs(np.diff(shift, axis=0)).max() < 2
    assert np.std(moved) == pytest.approx(10 * 2**0.5, rel=0.25)


@pytest.mark.parametrize("length", [1, 2, 3, 17])
def test_reflect_equals_numpys_padding(length: int) -> None:
    line = np.arange(length, dtype=np.float32)
    padded = np.pad(line, 40, mode="reflect") if length > 1 else np.zeros(81, np.float32)
    beyond = np.arange(-40, length + 40, dtype=np.float32)[None]
    np.testing.assert_array_equal(reflect(beyond, length)[0], padded[: length + 80])


def test_resampling_at_pixel_centres_gives_the_pixels_and_between_them_the_mean() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((7, 11, 2), np.float32)
    y, x = np.meshgrid(np.arange(7, dtype=np.float32), np.arange(11, dtype=np.float32), indexing="ij")
    np.testing.assert_allclose(resample(image, y, x, SAME), image.transpose(2, 0, 1), atol=1e-5)
    half = resample(image, y[:-1] + np.float32(0.5), x[:-1], SAME)
    np.testing.assert_allclose(half, ((image[1:] + image[:-1]) / 2).transpose(2, 0, 1), atol=1e-5)
    labels = rng.integers(0, 9, (7, 11))
    np.testing.assert_array_equal(resample_labels(labels, y + np.float32(0.2), x - np.float32(0.2)), labels)


def test_image_and_labels_move_together() -> None:
    labels = np.zeros((80, 80), np.int32)
    labels[20:50, 30:70] = 1
    for seed in range(6):
        rng = np.random.default_rng(seed)
        warp = draw_warp(rng, AugmentPart(zoom=(0.7, 1.4)), 96, (40.0, 40.0))
        y, x = reflect(warp.y, 80), reflect(warp.x, 80)
        image = resample_map(labels.astype(np.float32), y, x)
        clear = np.abs(image - 0.5) > 0.49
        np.testing.assert_array_equal(image[clear] > 0.5, resample_labels(labels, y, x)[clear] > 0)


def test_grey_images_stay_grey_and_values_stay_finite() -> None:
    part = AugmentPart(color=0.3, noise=0.1, blur=1.0, invert=0.5)
    grey = np.repeat(np.random.default_rng(0).random((1, 20, 20), np.float32), 3, axis=0)
    for seed in range(20):
        varied = vary_values(np.random.default_rng(seed), part, grey)
        assert varied.dtype == np.float32 and np.isfinite(varied).all()
        np.testing.assert_allclose(varied[0], varied[2], atol=1e-6)


def test_the_middle_of_a_warp() -> None:
    grid = np.arange(81, dtype=np.float32).reshape(9, 9)
    np.testing.assert_array_equal(Warp(grid, grid).centre(3).y, grid[3:6, 3:6])
