"""Recipe: everything that decides what training makes of the data, as one TOML file."""

from __future__ import annotations

import json
import math
import operator
import tomllib
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from unettile.changes import parse_change
from unettile.errors import InputError, UsageError
from unettile.images.normalize import Normalization
from unettile.networks import NETWORKS, config_values, parse_config
from unettile.networks.config import Config, did_you_mean
from unettile.objects.rules import ObjectRules
from unettile.training.parts import (
    ABOVE,
    AT_LEAST,
    AT_MOST,
    BELOW,
    CHOICES,
    AugmentPart,
    CardPart,
    ImagePart,
    LabelPart,
    LossPart,
    OptimizerPart,
    RunPart,
    SamplePart,
    SourcePart,
    SplitPart,
)

SHIPPED = ("nuclei", "nuclei-valid", "semantic", "adam", "paper")
OWN_KEYS = ("name", "encoder_parameters", "start")  # of [network]; the others are its config's


@dataclass(frozen=True)
class NetworkPart:
    """Which network: its name, and what of its config the recipe says; the rest is the preset's, or the default.

    In the TOML file all stand in one table. `config` may name a `preset`; the number of classes is that of the labels'
    names. `encoder_parameters` is a file of ImageNet parameters that the network's encoder begins with; `start` a
    model of the same network, by name or file, whose parameters all of it begins with.

    Raises:
        InputError: no such network, preset or key, or a value out of its range.
    """

    name: str = "unet"
    encoder_parameters: str = ""
    start: str = ""
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in OWN_KEYS:
            if not isinstance(getattr(self, key), str):
                raise InputError(f"recipe: network.{key} = {getattr(self, key)!r} has the wrong type; need a text")
        if "classes" in self.config:
            raise InputError("recipe: network.classes is unknown: labels.names says how many classes there are")
        self.parsed()

    @property
    def in_channels(self) -> int:
        return self.parsed().in_channels

    def parsed(self) -> Config:
        """Return the network's config for two classes, which every network can tell apart; the labels may have more."""
        return parse_config(self.name, self.config | {"classes": 2})

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> NetworkPart:
        own = {key: table[key] for key in OWN_KEYS if key in table}
        return cls(**own, config={key: value for key, value in table.items() if key not in own})

    def to_table(self) -> dict[str, Any]:
        """Return it as the TOML file has it."""
        parts: dict[str, Any] = {"name": self.name, **self.config}
        return parts | {key: getattr(self, key) for key in OWN_KEYS[1:] if getattr(self, key)}


@dataclass(frozen=True)
class Recipe:
    """A whole recipe; each part is a table of the TOML file, `sources` one of tables.

    Raises:
        InputError: a value out of its range.
    """

    network: NetworkPart = field(default_factory=NetworkPart)
    images: ImagePart = field(default_factory=ImagePart)
    labels: LabelPart = field(default_factory=LabelPart)
    split: SplitPart = field(default_factory=SplitPart)
    samples: SamplePart = field(default_factory=SamplePart)
    augment: AugmentPart = field(default_factory=AugmentPart)
    loss: LossPart = field(default_factory=LossPart)
    optimizer: OptimizerPart = field(default_factory=OptimizerPart)
    run: RunPart = field(default_factory=RunPart)
    objects: ObjectRules = field(default_factory=ObjectRules)
    card: CardPart = field(default_factory=CardPart)
    sources: dict[str, SourcePart] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, choices in CHOICES.items():
            if self.value(key) not in choices:
                raise InputError(f"recipe: {key} = {self.value(key)!r} is not known; need one of {', '.join(choices)}")
        for limits, fits, need in (
            (AT_LEAST, operator.ge, "at least"),
            (AT_MOST, operator.le, "at most"),
            (ABOVE, operator.gt, "more than"),
            (BELOW, operator.lt, "less than"),
        ):
            for key, limit in limits.items():
                if not fits(self.value(key), limit):
                    raise InputError(f"recipe: {key} = {self.value(key)!r} is out of range; need {need} {limit}")
        low, high = self.augment.zoom
        if not 0 < low <= high:
            raise InputError(f"recipe: augment.zoom = {self.augment.zoom} is no range; need 0 < low <= high")
        self._check_labels()
        loss = self.loss
        if not loss.cross_entropy + loss.dice + loss.focal > 0:
            raise InputError("recipe: the loss has no term; need loss.cross_entropy, loss.dice or loss.focal above 0")
        if self.run.batch % self.run.accumulate:
            raise InputError(
                f"recipe: run.batch = {self.run.batch} cannot be split into run.accumulate = {self.run.accumulate} "
                "passes; use a multiple"
            )
        if self.run.calibrate and self.run.select == "loss":
            raise InputError('recipe: run.calibrate goes by a score of masks; need run.select = "iou" or "ap" with it')
        if any(not weight > 0 for weight in self.samples.weights.values()):
            raise InputError(f"recipe: samples.weights = {self.samples.weights}; need figures above 0")

    def _check_labels(self) -> None:
        part = self.labels
        if len(part.names) < 2 or (part.are_objects and len(part.names) != 2):
            raise InputError("recipe: labels.names needs two names for objects, and at least two for classes")
        if part.border and not part.are_objects:
            raise InputError('recipe: labels.border lies between objects; need labels.kind = "instances" with it')
        if part.depth and not part.are_objects:
            raise InputError('recipe: labels.depth is that of objects; need labels.kind = "instances" with it')
        if isinstance(part.diameter, str) and part.diameter != "auto":
            raise InputError(f'recipe: labels.diameter = {part.diameter!r} is no size; need px, or "auto"')
        if isinstance(part.diameter, float) and part.diameter < 0:
            raise InputError(f"recipe: labels.diameter = {part.diameter:g} is out of range; need at least 0")
        if part.diameter and part.kind != "instances":
            raise InputError('recipe: labels.diameter is that of objects; need labels.kind = "instances" with it')
        if part.ignore >= 0 and part.kind == "components":
            raise InputError("recipe: labels.ignore is a number of a label image, of which components keep none")
        if part.values and (part.kind != "classes" or len(part.values) != len(part.names)):
            raise InputError(
                f"recipe: labels.values has {len(part.values)} numbers for {len(part.names)} names: need one for each, "
                'and labels.kind = "classes"'
            )
        if part.values and (len(set(part.values)) < len(part.values) or 0 <= part.ignore < len(part.names)):
            raise InputError("recipe: labels.values needs numbers that differ, and labels.ignore none of the classes'")
        if part.colors and len(part.colors) != self.classes:
            raise InputError(f"recipe: labels.colors has {len(part.colors)} colours for {self.classes} classes")
        if any(not 0 <= value <= 255 for color in part.colors for value in color):
            raise InputError("recipe: labels.colors needs three whole numbers from 0 to 255 for each class")
        self.network_config()

    def value(self, key: str) -> Any:
        part, name = key.split(".")
        return getattr(getattr(self, part), name)

    @property
    def classes(self) -> int:
        return len(self.labels.class_names)

    @property
    def outputs(self) -> int:
        """The network's output channels: one a class, and the depth, if it is asked for, last."""
        return self.classes + self.labels.depth

    @property
    def in_channels(self) -> int:
        return self.network.in_channels

    @property
    def normalization(self) -> Normalization:
        part = self.images
        return Normalization(part.low_percentile, part.high_percentile, part.per_channel, part.signed)

    def network_config(self) -> dict[str, Any]:
        """Return the network's whole config as plain values, `classes` included, which counts all outputs.

        Raises:
            InputError: a network that cannot tell so many classes apart, or has no output for a depth.
        """
        if self.labels.depth and getattr(self.network.parsed(), "one_logit", False):
            raise InputError(
                "recipe: labels.depth needs an output of its own, and network.one_logit leaves one for all: set "
                "labels.depth=false, or network.one_logit=false"
            )
        return config_values(parse_config(self.network.name, self.network.config | {"classes": self.outputs}))

    def to_dict(self) -> dict[str, Any]:
        single = [entry.name for entry in fields(self) if entry.name not in ("network", "sources")]
        parts = {name: _plain(asdict(getattr(self, name))) for name in single}
        sources = {name: _plain(asdict(part)) for name, part in self.sources.items()}
        return {"network": self.network.to_table()} | parts | ({"sources": sources} if sources else {})

    def to_toml(self) -> str:
        """Return the recipe as a TOML file that `read_recipe` reads back."""
        values = self.to_dict()
        sources = values.pop("sources", {})
        named = [*values.items(), *((f"sources.{json.dumps(name)}", table) for name, table in sources.items())]
        tables = (
            "\n".join([f"[{part}]", *(f"{key} = {_toml(value)}" for key, value in table.items())])
            for part, table in named
        )
        return "\n\n".join(tables) + "\n"


def read_recipe(name: str, changes: tuple[str, ...] = ()) -> Recipe:
    """Read a shipped recipe by name, or a TOML file, and apply `KEY=VALUE` changes such as `run.epochs=20`.

    A key without a table is the network's: `prune=2`. Another `network.name` or `network.preset` leaves behind what
    the recipe says of its own network, so give other keys of the network after these.

    Raises:
        InputError: no such recipe, not TOML, an unknown key (the nearest known one is named) or a wrong value.
        UsageError: a change that is not KEY=VALUE.
    """
    path = Path(__file__).parent / "recipes" / f"{name}.toml" if name in SHIPPED else Path(name)
    if not path.is_file():
        raise InputError(f"no recipe {name!r}: need one of {', '.join(SHIPPED)}, or the path of a TOML file")
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a TOML file: {error}") from error
    if any(change.partition("=")[0].strip() == "sources" for change in changes):
        values.pop("card", None)  # its words are about other images
    return recipe_from_dict(with_changes(values, changes))


def with_changes(values: dict[str, Any], changes: tuple[str, ...]) -> dict[str, Any]:
    """Return a recipe's plain values, changed in place.

    Raises:
        UsageError: a change that is not KEY=VALUE.
    """
    for change in changes:
        _apply(values, change)
    return values


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """Return the recipe of nested plain values; raises InputError as `read_recipe` does."""
    parts: dict[str, Any] = {}
    known = get_type_hints(Recipe)
    for name, table in values.items():
        if name not in known:
            raise InputError(f"recipe: unknown table [{name}]{did_you_mean(name, known)}")
        if not isinstance(table, dict):
            raise InputError(f"recipe: {name} must be a table of keys")
        if name == "network":
            parts[name] = NetworkPart.from_table(table)
        elif name == "sources":
            parts[name] = {source: _part(SourcePart, f"sources.{source}", keys) for source, keys in table.items()}
        else:
            parts[name] = _part(known[name], name, table)
    return Recipe(**parts)


def _part(kind: Any, part: str, table: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    values = {}
    if not isinstance(table, dict):
        raise InputError(f"recipe: {part} must be a table of keys")
    for missing in [entry.name for entry in fields(kind) if entry.default is MISSING and not _has_factory(entry)]:
        if missing not in table:
            raise InputError(f"recipe: {part}.{missing} is missing")
    for key, value in table.items():
        if key not in hints:
            raise InputError(f"recipe: unknown key {part}.{key}{did_you_mean(key, hints)}")
        values[key] = _convert(f"{part}.{key}", value, hints[key])
    try:
        return kind(**values)
    except UsageError as error:
        raise InputError(f"recipe: [{part}] {error}") from error


def _has_factory(entry: Field[Any]) -> bool:
    return entry.default_factory is not MISSING


def _convert(key: str, value: Any, kind: Any) -> Any:
    """Return `value` as the type of the key; whole numbers serve for fractions, nothing else does."""
    parts = get_args(kind)
    if kind == float | str:
        return value if isinstance(value, str) else _convert(key, value, float)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        if parts[-1] is ... or len(value) == len(parts):
            return tuple(_convert(key, item, parts[0]) for item in value)
    elif get_origin(kind) is dict and isinstance(value, dict):
        return {str(name): _convert(f"{key}.{name}", item, parts[1]) for name, item in value.items()}
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
    elif type(value) is kind:
        return value
    raise InputError(f"recipe: {key} = {value!r} has the wrong type; need {_described(kind)}")


def _described(kind: Any) -> str:
    simple = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if kind in simple:
        return simple[kind]
    parts = get_args(kind)
    if get_origin(kind) is dict:
        return f"a table of {_described(parts[1])} each"
    return f"a list, each {_described(parts[0])}" if parts[-1] is ... else f"a list of {len(parts)}"


def _plain(value: Any) -> Any:
    """Return a value with lists for tuples, as JSON and TOML would bring it back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def _apply(values: dict[str, Any], change: str) -> None:
    example = "TABLE.KEY=VALUE, such as run.epochs=20"
    key, value = parse_change(change, example)
    part, dot, name = key.rpartition(".")
    if not dot and name == "sources":  # sources={}: images and labels of one's own
        values[name] = value
        return
    if not dot:
        _check_network_key(name, change)
        part = "network"  # prune=2, encoder_parameters=FILE
    if not (part and name):
        raise UsageError(f"--set {change!r} is not understood: need {example}")
    table = values
    for step in part.split("."):  # sources.NAME.weight=2
        table = table.setdefault(step, {}) if isinstance(table, dict) else {}
    if isinstance(table, dict):
        if part == "network" and name in ("name", "preset") and table.get(name) != value:
            for old in [key for key in table if key != "name"]:  # the config of another network
                del table[old]
        table[name] = value


def _check_network_key(name: str, change: str) -> None:
    """Refuse a key without its table that no network has and another table has: epochs=3 is run.epochs=3.

    Raises:
        UsageError: names the key with its table.
    """
    of_networks = {entry.name for network in NETWORKS for entry in fields(network.default)}
    parts = {part: kind for part, kind in get_type_hints(Recipe).items() if is_dataclass(kind) and part != "network"}
    homes = [f"{part}.{name}" for part, kind in parts.items() if name in get_type_hints(kind)]
    if homes and name not in of_networks:
        raise UsageError(f"--set {change!r}: a network has no key {name}; did you mean {' or '.join(homes)}?")
