"""Losses: each term against its definition, worked out by hand in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from unettile.training.kinds import UNKNOWN
from unettile.training.losses import SMOOTH, depth_loss, dice_loss, focal_loss, training_loss, weighted_cross_entropy
from unettile.training.parts import LossPart


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of three classes, true classes and weights, some of them 0."""
    torch.manual_seed(0)
    weights = torch.rand(2, 5, 6)
    weights[:, 0] = 0
    return torch.randn(2, 3, 5, 6), torch.randint(3, (2, 5, 6)), weights


def chances(logits: torch.Tensor, classes: torch.Tensor) -> np.ndarray:
    """Probability of the true class of each pixel."""
    powers = np.exp(logits.double().numpy())
    shares = powers / powers.sum(axis=1, keepdims=True)
    return np.take_along_axis(shares, classes.numpy()[:, None], axis=1)[:, 0]


def test_cross_entropy_and_focal_loss(batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    logits, classes, weights = batch
    p, w = chances(logits, classes), weights.numpy()
    assert float(weighted_cross_entropy(*batch)) == pytest.approx((-np.log(p) * w).mean(), rel=1e-5)
    assert float(focal_loss(*batch, 2.0)) == pytest.approx(((1 - p) ** 2 * -np.log(p) * w).mean(), rel=1e-5)
    assert float(focal_loss(*batch, 0.0)) == pytest.approx(float(weighted_cross_entropy(*batch)), rel=1e-6)


def test_dice_by_image_without_background_and_without_pixels_of_weight_0(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    logits, classes, weights = batch
    p = logits.double().softmax(dim=1).numpy()
    figures = []
    for n in range(2):
        counted = weights[n].numpy() > 0
        for k in (1, 2):
            true, found = (classes[n].numpy() == k)[counted], p[n, k][counted]
            figures.append((2 * (true * found).sum() + SMOOTH) / (true.sum() + found.sum() + SMOOTH))
    assert float(dice_loss(*batch)) == pytest.approx(1 - np.mean(figures), rel=1e-5)


def test_a_pixel_of_unknown_kind_teaches_that_it_is_of_some(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    """Its probability is the sum over the kinds; of a known kind all is as it was; a border is no kind."""
    logits, classes, weights = batch
    unknown = (torch.rand(2, 5, 6) < 0.4) & (classes > 0)
    told = torch.where(unknown, UNKNOWN, classes)
    p, w = chances(logits, classes), weights.numpy()
    shares = logits.double().softmax(dim=1).numpy()
    together = np.where(unknown.numpy(), shares[:, 1:].sum(axis=1), p)
    terms = -np.log(together) * w
    assert float(weighted_cross_entropy(logits, told, weights, 2)) == pytest.approx(terms.mean(), rel=1e-5)
    assert float(focal_loss(logits, told, weights, 2.0, 2)) == pytest.approx(
        ((1 - together) ** 2 * terms).mean(), rel=1e-5
    )
    for loss in (weighted_cross_entropy, lambda *given: focal_loss(*given[:3], 2.0, *given[3:])):
        assert float(loss(*batch, 2)) == pytest.approx(float(loss(*batch)), rel=1e-6)
    figures = []
    for n in range(2):
        counted = weights[n].numpy() > 0
        for number in (1, 2, UNKNOWN):  # the last for all kinds together
            some = counted if number == UNKNOWN else counted & ~unknown[n].numpy()
            true = (classes[n].numpy() > 0 if number == UNKNOWN else classes[n].numpy() == number)[some]
            found = (shares[n, 1:].sum(axis=0) if number == UNKNOWN else shares[n, number])[some]
            figures.append((2 * (true * found).sum() + SMOOTH) / (true.sum() + found.sum() + SMOOTH))
    assert float(dice_loss(logits, told, weights, 2)) == pytest.approx(1 - np.mean(figures), rel=1e-5)
    four = torch.randn(1, 4, 1, 1, requires_grad=True)  # background, two kinds, a border
    alone = torch.full((1, 1, 1), UNKNOWN)
    part = LossPart(cross_entropy=1.0)
    training_loss(four, alone, torch.ones(1, 1, 1), part, None, 2).backward()  # type: ignore[no-untyped-call]
    assert four.grad is not None
    push, share = four.grad.ravel(), four.detach().ravel().softmax(dim=0)
    assert (
        push[0] > 0 and push[3] > 0 and float(push[1] / push[2]) == pytest.approx(float(share[1] / share[2]), rel=1e-4)
    )


def test_terms_add_up_and_side_outputs_count_as_the_recipe_says(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    logits, classes, weights = batch
    part = LossPart(cross_entropy=0.5, dice=2.0, focal=3.0)
    expected = 0.5 * weighted_cross_entropy(*batch) + 2 * dice_loss(*batch) + 3 * focal_loss(*batch, 2.0)
    assert float(training_loss(logits, classes, weights, part)) == pytest.approx(float(expected), rel=1e-6)
    side = torch.randn_like(logits)
    both = training_loss([logits, side], classes, weights, replace(part, side_outputs=0.4))
    alone = training_loss(side, classes, weights, part)
    assert float(both) == pytest.approx(float((expected + 0.4 * alone) / 1.4), rel=1e-6)
    without = training_loss([logits, side], classes, weights, replace(part, side_outputs=0.0))
    assert float(without) == pytest.approx(float(expected), rel=1e-6)


def test_a_pair_of_logits_0_and_z_is_the_sigmoid_of_z() -> None:
    z, truth = torch.randn(1, 1, 4, 4), torch.randint(2, (1, 4, 4))
    pair = torch.cat([torch.zeros_like(z), z], dim=1)
    binary = torch.nn.functional.binary_cross_entropy_with_logits(z[:, 0], truth.float())
    assert float(weighted_cross_entropy(pair, truth, torch.ones(1, 4, 4))) == pytest.approx(float(binary), rel=1e-6)


def test_extreme_logits_have_finite_gradients() -> None:
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0]]).view(1, 2, 1, 2).requires_grad_()
    part = LossPart(cross_entropy=1.0, dice=1.0, focal=1.0)
    training_loss(logits, torch.tensor([[[0, 0]]]), torch.ones(1, 1, 2), part).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_the_depth_is_the_last_output_and_counts_beside_the_classes() -> None:
    outputs = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    classes, weights = torch.ones(2, 4, 5, dtype=torch.int64), torch.ones(2, 4, 5)
    depth = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(1))
    part = LossPart(depth=0.5)
    p = torch.sigmoid(outputs[:, 2])
    expected = -(depth * p.log() + (1 - depth) * (1 - p).log()).mean()
    alone = training_loss(outputs[:, :2], classes, weights, part)
    assert float(training_loss(outputs, classes, weights, part, depth)) == pytest.approx(float(alone + 0.5 * expected))
    counted = weights.clone()
    counted[0] = 0
    shared = depth_loss(outputs[:, 2], depth, counted)
    assert float(shared) == pytest.approx(float(depth_loss(outputs[1:, 2], depth[1:], weights[1:])) / 2)
