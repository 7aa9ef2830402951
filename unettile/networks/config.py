"""Configs: what varies between networks of one kind, as frozen dataclasses that JSON and TOML can hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, asdict, fields, replace
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol

from unettile.geometry import Geometry
from unettile.networks.ranges import check_range
from unettile.typed import said


class Config(Protocol):
    """What every network's config has besides fields of its own.

    `in_channels`: of the image. `classes`: channels of the logits, background included. `stride`: px. `lost`: how many
    px the output is smaller than the window on each side, 0 where convolutions are padded. `base`: edges of the output
    are base + stride · k. `geometry`: what `segment` needs. A preset is a config with a name.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def in_channels(self) -> int: ...

    @property
    def classes(self) -> int: ...

    @property
    def stride(self) -> int: ...

    @property
    def lost(self) -> int: ...

    @property
    def base(self) -> int: ...

    @property
    def geometry(self) -> Geometry: ...

    def __hash__(self) -> int: ...


class Padded:
    """What configs of networks share whose convolutions are padded: the output is as large as the window."""

    @property
    def lost(self) -> int:
        return 0

    @property
    def base(self) -> int:
        return 0


def with_values(config: Config, values: dict[str, Any]) -> Config:
    """Return a config with some fields replaced by plain values, each of the type that the field has.

    Raises:
        ValueError: an unknown key (the nearest known one is named), a wrong type, or a value out of its range.
    """
    known = [entry.name for entry in fields(config)]
    converted = {}
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"unknown key {key!r}{did_you_mean(key, known)}")
        converted[key] = _convert(key, value, getattr(config, key))
    changed: Config = replace(config, **converted)
    for key in converted:
        check_range(key, converted[key])
    return changed


def config_values(config: Config) -> dict[str, Any]:
    """Return a config as plain values that JSON can hold."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known one, or all of them."""
    known = list(known)
    found = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else f"; known are {', '.join(known)}"


def check_channels(config: Config, *, one_logit: bool) -> None:
    """Refuse numbers of channels and classes that no network has.

    Raises:
        ValueError: says which.
    """
    if config.in_channels < 1 or config.classes < 2:
        raise ValueError(f"need in_channels >= 1 and classes >= 2, got {config.in_channels} and {config.classes}")
    if one_logit and config.classes != 2:
        raise ValueError(f"one_logit tells two classes apart, got {config.classes}: set one_logit to false")


def _convert(key: str, value: Any, like: Any) -> Any:
    """Return `value` as the type of `like`; whole numbers serve for fractions, nothing else does."""
    if isinstance(like, tuple) and isinstance(value, list | tuple):
        return tuple(_convert(key, item, like[0]) for item in value)
    if isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value)
    if type(value) is not type(like):
        raise ValueError(f"{key} = {said(value)} has the wrong type: need one like {like!r}")
    return value
