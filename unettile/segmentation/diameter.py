"""Diameter: what a user says of the size of an image's objects."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from unettile.errors import UsageError

FRAMES = ("image", "model")
"""Whose pixels a mask has where the network sees the image at another size."""


@dataclass(frozen=True)
class Diameter:
    """A size that was given.

    Args:
        value: of objects, above 0.
        in_um: it is in µm, not in px of the image.
    """

    value: float
    in_um: bool = False


def parse_diameter(text: str) -> Diameter | None:
    """Return the size that `90`, `90px`, `90um` or `90µm` says; None for `auto` and `off`.

    Raises:
        UsageError: it is none of these, or not above 0.

    >>> parse_diameter("7.5um")
    Diameter(value=7.5, in_um=True)
    """
    if text in ("auto", "off"):
        return None
    found = re.fullmatch(r"([-+]?[0-9]*[.,]?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(px|um|µm|μm)?", text.strip())
    value = float(found[1].replace(",", ".")) if found else math.nan
    if not 0 < value < math.inf:
        raise UsageError(
            f"--diameter {text!r} is no size: need auto, off, or the objects' diameter above 0 in px, such as 90,"
            " or in µm, such as 12um"
        )
    assert found is not None
    return Diameter(value, in_um=found[2] not in (None, "px"))
