"""The predictor: the same pixel for any window, batch and place; probabilities that are those of a softmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.narrow import make_checkpoint
from unettile.errors import InputError
from unettile.inference.predict import Predictor
from unettile.inference.softmax import first_largest, softmax, to_levels

WINDOWS = np.random.default_rng(0).random((3, 380, 380, 1), np.float32)


@pytest.mark.parametrize("widths", [(2, 3, 4, 5, 6), (3, 3, 7, 7, 9), (4, 4), (16, 32)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batch_and_edge_change_no_bit(widths: tuple[int, ...], precision: str) -> None:
    predictor = Predictor(make_checkpoint(widths=widths), "cpu", precision)
    geometry = predictor.geometry
    small = geometry.input_edge(geometry.smallest_output_edge(1))
    edge = geometry.input_edge(geometry.smallest_output_edge(180))
    windows = WINDOWS[:, :edge, :edge]
    together = predictor.probabilities(windows)
    for number in range(3):
        alone = predictor.probabilities(windows[number : number + 1])
        np.testing.assert_array_equal(alone[0], together[number])
    least = predictor.probabilities(windows[:1, :small, :small])
    np.testing.assert_array_equal(least[0], together[0, :, : least.shape[2], : least.shape[3]])


def test_it_computes_what_the_network_computes() -> None:
    checkpoint = make_checkpoint(classes=3)
    predictor = Predictor(checkpoint, "cpu", "fp32")
    with torch.inference_mode():
        logits = checkpoint.build()(torch.from_numpy(WINDOWS).permute(0, 3, 1, 2))
    expected = torch.softmax(logits.double(), dim=1).numpy()
    found = predictor.probabilities(WINDOWS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(
        predictor.planes(("probabilities",), WINDOWS), np.floor(found * np.float32(255) + np.float32(0.5))
    )
    assert (predictor.planes(("classes",), WINDOWS)[:, 0] == expected.argmax(axis=1)).mean() > 0.999


def test_an_overflow_is_named() -> None:
    checkpoint = make_checkpoint()
    checkpoint.parameters["head.bias"] = torch.tensor([0.0, float("inf")])
    with pytest.raises(InputError, match="overflows in fp32"):
        Predictor(checkpoint, "cpu", "fp32").planes(("classes",), WINDOWS)


def test_softmax_is_true_and_the_same_everywhere_in_the_array() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 5, 37, 41, generator=generator) * torch.logspace(-3, 2.5, 41)
    found = softmax(logits)
    assert float((found - torch.softmax(logits.double(), dim=1)).abs().max()) < 1e-6
    for start in range(1, 40):
        part = logits[..., start:].contiguous()
        assert torch.equal(softmax(part), found[..., start:])
    assert torch.equal(to_levels(torch.tensor([0.0, 0.5 / 255, 0.4999 / 255, 1.0])), torch.tensor([0, 1, 0, 255]))


def test_the_first_of_equals_wins() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [0.0, 1.0, 5.0]]).T[None, :, None, :]
    assert first_largest(logits).tolist() == [[[1, 0, 2]]]
