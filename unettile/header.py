"""Header: what a checkpoint's file says of its parameters, as the JSON object in its metadata."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from msgspec import Meta

from unettile.geometry import Geometry
from unettile.images.normalize import Normalization
from unettile.objects.rules import ObjectRules
from unettile.objectsize import ObjectSize
from unettile.typed import Byte, Name, Positive, Unfit, from_plain, plain_json, said

FORMAT = 1
_OF_TEXT = ("data", "licence", "limits")


@dataclass(frozen=True)
class ClassInfo:
    """A class of the model: its name and its colour in a mask, (r, g, b) in 0 … 255."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    color: tuple[Byte, Byte, Byte]


@dataclass(frozen=True)
class Header:
    """All of a checkpoint but its parameters; `unettile.checkpoint.Checkpoint` says what the fields mean.

    Raises:
        Unfit: values that no model of ours has.
    """

    network: Name
    config: dict[str, Any]
    geometry: Geometry
    normalization: Normalization
    classes: Annotated[tuple[ClassInfo, ...], Meta(min_length=2, max_length=256)]
    grey_to_rgb: bool
    pixel_size_um: Positive | None
    recipe: dict[str, Any]
    card: dict[str, Any]
    depth: bool = False
    objects: dict[str, Any] = field(default_factory=dict)
    objects_px: ObjectSize | None = None
    difference: Annotated[float, Meta(ge=0, le=1)] | None = None

    def __post_init__(self) -> None:
        for key in _OF_TEXT:
            if not isinstance(self.card.get(key, ""), str):
                raise Unfit(f"card.{key} = {said(self.card[key])}, need a text")
        _ = self.rules  # refuses what is no rule

    @property
    def rules(self) -> ObjectRules:
        """How objects are made."""
        return ObjectRules.from_dict(self.objects)

    def to_json(self) -> str:
        """Return it as a checkpoint holds it; figures of the card that are not finite become null."""
        values = {
            **asdict(self),
            "format": FORMAT,
            "normalization": self.normalization.to_dict(),
            "card": _finite(self.card),
        }
        return json.dumps(values, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Header:
        """Read it.

        Raises:
            Unfit: damaged, or of another format.
        """
        values = plain_json(text)
        if not isinstance(values, dict) or "format" not in values:
            raise Unfit("format is missing")
        if values["format"] != FORMAT:
            raise Unfit(f"format = {said(values['format'])}, need {FORMAT}: a newer unettile may read it")
        return from_plain(values, cls)


def _finite(value: Any) -> Any:
    """Return plain values with None for scores that could not be computed, as JSON needs them."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
