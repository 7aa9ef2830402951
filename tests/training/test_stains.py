"""Changes of stains happen in optical density: white stays white, and hematoxylin becomes what it is said to become."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage.color import rgb_from_hed

from unettile.training.augment import vary_values
from unettile.training.parts import AugmentPart
from unettile.training.stains import STAINS, as_brown, as_tissue, vary_stains

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


@pytest.mark.parametrize("seed", range(24))
def test_nuclei_stand_out_by_colour_or_by_density_and_glass_stays_white(seed: int) -> None:
    changed = as_brown(np.random.default_rng(seed), 0.0, tissue())
    nucleus, ground = -np.log(changed[:, 16, 16]), -np.log(changed[:, 30, 4])
    hue = [values / max(1e-3, values.sum()) for values in (nucleus, ground)]
    assert nucleus.sum() > 1.5 * ground.sum() or np.abs(hue[0] - hue[1]).max() > 0.1
    np.testing.assert_allclose(changed[:, :, 40:], 1, atol=1e-5)


def brownness(image: np.ndarray, y: int, x: int) -> float:
    """How much of the light lost at a place is blue: of DAB most, of hematoxylin least."""
    loss = -np.log(image[:, y, x])
    return float(loss[2] / max(1e-3, loss.sum()))


def test_nuclei_are_brown_in_some_and_blue_in_others_on_a_ground_that_is_brown_there() -> None:
    dab, blue = (STAINS[k, 2] / STAINS[k].sum() for k in (2, 0))
    changed = [as_brown(np.random.default_rng(seed), 0.0, tissue()) for seed in range(80)]
    nuclei = np.array([brownness(image, 16, 16) for image in changed])
    ground = np.array([brownness(image, 30, 4) for image in changed])
    assert nuclei.max() == pytest.approx(dab, rel=0.1) and nuclei.min() == pytest.approx(blue, rel=0.1)
    assert (nuclei > ground + 0.1).mean() > 0.2, "brown nuclei on a pale ground"
    assert (ground > nuclei + 0.1).mean() > 0.15, "blue nuclei in brown cells"


def cells() -> np.ndarray:
    """A disc that shines on a dark ground, grey in three channels."""
    y, x = np.mgrid[:64, :64]
    return np.repeat(((y - 32) ** 2 + (x - 32) ** 2 < 144).astype(np.float32)[None], 3, axis=0)


@pytest.mark.parametrize("seed", range(6))
def test_what_shines_becomes_hematoxylin_on_a_ground_of_eosin(seed: int) -> None:
    image = as_tissue(np.random.default_rng(seed), cells())
    assert image.shape == (3, 64, 64) and image.dtype == np.float32
    assert image.min() > 0 and image.max() <= 1
    density = -np.log(image)
    nucleus, ground = density[:, 26:38, 26:38].mean(axis=(1, 2)), density[:, :8].mean(axis=(1, 2))
    assert nucleus[0] > 2 * ground[0], "eosin takes next to nothing of red light"
    assert (nucleus / nucleus.sum())[0] == pytest.approx(STAINS[0, 0] / STAINS[0].sum(), abs=0.09)


def test_fluorescence_is_dyed_as_often_as_the_recipe_says() -> None:
    part = replace(STILL, dye=0.5)
    changed = [vary_values(np.random.default_rng(seed), part, cells()) for seed in range(60)]
    dyed = np.array([np.ptp(image, axis=0).max() > 0.1 for image in changed])
    assert 0.3 < dyed.mean() < 0.7
    for image in (image for image, done in zip(changed, dyed, strict=True) if not done):
        np.testing.assert_allclose(image, cells(), atol=1e-6)


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
