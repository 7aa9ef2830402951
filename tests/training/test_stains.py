"""Changes of stains happen in optical density: white stays white, and hematoxylin becomes what it is said to become."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage.color import rgb_from_hed

from unettile.training.augment import vary_values
from unettile.training.parts import AugmentPart
from unettile.training.stains import STAINS, as_brown, vary_stains

STILL = AugmentPart(contrast=0.0, brightness=0.0, gamma=0.0)


def tissue() -> np.ndarray:
    """A disc of hematoxylin on a ground of eosin, white to the right of both."""
    y, x = np.mgrid[:32, :48]
    nucleus, ground = (y - 16) ** 2 + (x - 16) ** 2 < 64, x < 36
    density = 1.2 * nucleus[None] * STAINS[0][:, None, None] + 0.4 * ground[None] * STAINS[1][:, None, None]
    return np.exp(-density).astype(np.float32)


def test_the_vectors_are_those_of_ruifrok_and_johnston() -> None:
    np.testing.assert_allclose(STAINS, rgb_from_hed, atol=1e-6)


def test_no_strength_changes_nothing() -> None:
    image = tissue()
    np.testing.assert_allclose(vary_stains(np.random.default_rng(0), 0.0, image), image, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_stains_change_and_white_stays(seed: int) -> None:
    image = tissue()
    changed = vary_stains(np.random.default_rng(seed), 0.6, image)
    assert changed.dtype == np.float32 and changed.shape == image.shape
    np.testing.assert_allclose(changed[:, :, 40:], 1, atol=1e-5)
    assert np.abs(changed - image)[:, 16, 16].max() > 0.02


@pytest.mark.parametrize("seed", range(6))
def test_nuclei_become_brown_or_stay_blue_on_a_pale_ground(seed: int) -> None:
    changed = as_brown(np.random.default_rng(seed), 0.0, tissue())
    nucleus, ground = -np.log(changed[:, 16, 16]), -np.log(changed[:, 30, 4])
    assert nucleus.sum() > 2 * ground.sum(), "nuclei stand out"
    assert ground[1] < -np.log(tissue()[1, 30, 4]), "eosin has faded"


def test_brown_is_dab_in_some_and_hematoxylin_is_left_in_others() -> None:
    lost = [-np.log(as_brown(np.random.default_rng(seed), 0.0, tissue())[:, 16, 16]) for seed in range(40)]
    blueness = np.array([loss[0] / loss[2] for loss in lost])  # of DAB least is red
    assert blueness.min() == pytest.approx(STAINS[2, 0] / STAINS[2, 2], rel=0.2) and blueness.max() > 1.2


def test_fluorescence_and_grey_images_have_no_stains() -> None:
    part = replace(STILL, stain=0.8, brown=0.5)
    rng = np.random.default_rng
    dark = tissue() * np.float32(0.2)
    grey = np.repeat(tissue()[1:2], 3, axis=0)
    for image in (dark, grey):
        np.testing.assert_allclose(vary_values(rng(3), part, image), vary_values(rng(3), STILL, image), atol=1e-6)
    assert np.abs(vary_values(rng(3), part, tissue()) - tissue()).max() > 0.05


@pytest.mark.parametrize("channels", [1, 3])
def test_a_compression_keeps_the_range_and_the_picture_nearly(channels: int) -> None:
    image = (tissue()[:channels] * 3 - 1).astype(np.float32)
    for seed in range(4):
        found = vary_values(np.random.default_rng(seed), replace(STILL, jpeg=1.0), image)
        assert found.shape == image.shape and found.dtype == np.float32
        assert 0 < np.abs(found - image).mean() < 0.15
