"""Kinds of output: what is written of a network's logits, one entry a kind.

All that is written are numbers of 8 bits, made of operations that are rounded correctly, so that the value of a pixel
depends on its logits alone. A further kind is a further entry of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unettile.images.canvas import Layer
from unettile.images.colours import Colour
from unettile.inference.softmax import first_largest, softmax, to_levels


@dataclass(frozen=True)
class Outputs:
    """What a network says of windows, or several networks in the mean.

    Args:
        values: (N, K, h, w) float32, of the classes and then of the depth, if there is one: logits, or probabilities.
        classes: how many are of classes.
        blended: they are probabilities.
    """

    values: Tensor
    classes: int
    blended: bool = False

    @property
    def scores(self) -> Tensor:
        """Numbers of the classes, of which the largest wins."""
        return self.values[:, : self.classes]

    def shares(self) -> Tensor:
        """Return the probabilities of the classes."""
        return self.scores if self.blended else softmax(self.scores)

    def depth(self) -> Tensor:
        """Return the depth, (N, 1, h, w), none where the model has none.

        Of a logit z it is sigmoid(z): the softmax of (0, z) is (1 - sigmoid(z), sigmoid(z)).
        """
        z = self.values[:, self.classes :]
        return z if self.blended or not z.shape[1] else softmax(torch.cat((torch.zeros_like(z), z), dim=1))[:, 1:]

    def blend(self) -> Tensor:
        """Return the probabilities of the classes, and the depth after them."""
        return torch.cat((self.shares(), self.depth()), dim=1)


Make = Callable[[Outputs], Tensor]
"""From what networks say to planes (N, P, h, w) uint8."""


@dataclass(frozen=True)
class Kind:
    """A kind of output.

    Args:
        name: as `--write` has it.
        make: planes of logits; None for what is made of the finished image.
        by_class: it has a plane for each class, else one.
        reduction: how levels of a pyramid are made: `mean` or `majority`.
        named: its numbers, or its planes, are the classes, with their names and colours.
        names: of its own first numbers, where they are not the classes.
        background: of its first plane where nothing is computed; the others are 0.
        of_depth: it needs a model with a depth.
    """

    name: str
    make: Make | None
    by_class: bool = False
    reduction: str = "mean"
    named: bool = False
    names: tuple[str, ...] = ()
    background: int = 0
    of_depth: bool = False

    def planes(self, classes: int) -> int:
        """Return how many planes it takes for a model of so many classes."""
        return classes if self.by_class else 1

    def layer(self, names: tuple[str, ...], colours: tuple[Colour, ...], dtype: np.dtype[np.generic]) -> Layer:
        """Return what an image of it looks like, for classes of these names and colours."""
        if not self.named:
            return Layer(self.name, self.planes(len(names)), self.reduction, self.names, dtype=dtype)
        return Layer(self.name, self.planes(len(names)), self.reduction, names, colours, dtype=dtype)


def _probabilities(outputs: Outputs) -> Tensor:
    return to_levels(outputs.shares())


def _uncertainty(outputs: Outputs) -> Tensor:
    """Return round(255 · (1 - (p₁ - p₂))), p₁ and p₂ the two largest probabilities."""
    shares = outputs.shares()
    first, second = shares[:, :1], torch.zeros_like(shares[:, :1])
    for k in range(1, outputs.classes):
        other = shares[:, k : k + 1]
        second = torch.maximum(second, torch.minimum(first, other))
        first = torch.maximum(first, other)
    return to_levels(1 - (first - second))


def _depth(outputs: Outputs) -> Tensor:
    """Return round(255 · depth)."""
    return to_levels(outputs.depth())


def _classes(outputs: Outputs) -> Tensor:
    return first_largest(outputs.scores)[:, None]


KINDS = (
    Kind("probabilities", _probabilities, by_class=True, named=True, background=255),
    Kind("uncertainty", _uncertainty),
    Kind("depth", _depth, of_depth=True),
    Kind("instances", None, reduction="majority", names=("background",)),
    Kind("classes", _classes, reduction="majority", named=True),
)
"""In the order in which they are stored and written: Bio-Formats takes the palette of a file's first page for all."""

NAMES = tuple(kind.name for kind in KINDS)

LOGITS = Kind("logits", lambda outputs: outputs.values, by_class=True)
"""What is never written: float32, of the classes and then of the depth, for those who score a model."""


def kind_of(name: str) -> Kind:
    """Return the kind of that name."""
    return next(kind for kind in (*KINDS, LOGITS) if kind.name == name)


def in_order(names: Collection[str]) -> tuple[str, ...]:
    """Return names of kinds in the order of `KINDS`."""
    return tuple(name for name in NAMES if name in names)


def count_planes(names: Sequence[str], classes: int) -> int:
    """Return how many planes kinds take together."""
    return sum(kind_of(name).planes(classes) for name in names)


def planes_with(name: str, names: Sequence[str], classes: int) -> slice:
    """Return where the planes of one kind lie among those of several, which stand in this order."""
    start = count_planes(names[: list(names).index(name)], classes)
    return slice(start, start + kind_of(name).planes(classes))


def background_of(names: Sequence[str], classes: int) -> list[int]:
    """Return the value of each plane where nothing is computed."""
    values: list[int] = []
    for kind in map(kind_of, names):
        values += [kind.background] + [0] * (kind.planes(classes) - 1)
    return values


def make_planes(names: Sequence[str], classes: int, *, blended: bool = False) -> Callable[[Tensor], Tensor]:
    """Return what makes planes (N, P, h, w) uint8 of kinds from logits (N, K, h, w) float32, or from probabilities."""
    makes = [make for make in (kind_of(name).make for name in names) if make is not None]
    assert len(makes) == len(names), f"not all of {names} are made of logits"
    return lambda values: torch.cat([make(Outputs(values, classes, blended)) for make in makes], dim=1)
