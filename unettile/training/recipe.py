"""Recipe: everything that decides what training makes of the data, as one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from unettile.errors import InputError, UsageError
from unettile.networks import config_values, parse_config

SHIPPED = ("nuclei",)


@dataclass(frozen=True)
class NetworkPart:
    """Which network: its name, and what of its config the recipe says; the rest is the preset's, or the default.

    In the TOML file all stand in one table. `config` may name a `preset`; the number of classes is that of the labels'
    names. `encoder_parameters` is a file of ImageNet parameters that the network's encoder begins with.

    Raises:
        InputError: no such network, preset or key, or a value out of its range.
    """

    name: str = "unet"
    encoder_parameters: str = ""
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("name", "encoder_parameters"):
            if not isinstance(getattr(self, key), str):
                raise InputError(f"recipe: network.{key} = {getattr(self, key)!r} has the wrong type; need a text")
        if "classes" in self.config:
            raise InputError("recipe: network.classes is unknown: labels.names says how many classes there are")
        parse_config(self.name, self.config)

    @property
    def in_channels(self) -> int:
        return parse_config(self.name, self.config).in_channels

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> NetworkPart:
        own = {key: table[key] for key in ("name", "encoder_parameters") if key in table}
        return cls(**own, config={key: value for key, value in table.items() if key not in own})

    def to_table(self) -> dict[str, Any]:
        """Return it as the TOML file has it."""
        parts: dict[str, Any] = {"name": self.name, **self.config}
        return parts | {"encoder_parameters": self.encoder_parameters} if self.encoder_parameters else parts


@dataclass(frozen=True)
class ImagePart:
    """How images are scaled: percentiles become 0 and 1; `grey_to_rgb` feeds grey images to three channels."""

    low_percentile: float = 1.0
    high_percentile: float = 99.8
    per_channel: bool = False
    grey_to_rgb: bool = False


@dataclass(frozen=True)
class LabelPart:
    """What labels mean: `instances` (ids; every id > 0 is class 1) or `classes` (the value is the class).

    `gap` is the background, in px of the network's input, that is carved between touching instances.
    """

    kind: str = "instances"
    names: tuple[str, ...] = ("background", "object")
    gap: int = 2


@dataclass(frozen=True)
class AugmentPart:
    """Random changes of a sample; all that moves pixels is one resampling.

    `zoom` is the range of magnification; `elastic_std` the standard deviation (px) of displacements on a coarse grid
    of `elastic_grid` points a side; `contrast`, `brightness` and `gamma` are half-widths around no change;
    `color`, `noise` (of the range) and `blur` (σ, px) are strengths; `invert`, `grey` and `dim` are probabilities:
    `dim` takes up to 80 % of the range away, as where debris is brighter than every cell.
    """

    flip: bool = True
    rotate: bool = True
    zoom: tuple[float, float] = (0.7, 1.4)
    elastic_std: float = 10.0
    elastic_grid: int = 3
    contrast: float = 0.3
    brightness: float = 0.15
    gamma: float = 0.3
    color: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    invert: float = 0.0
    grey: float = 0.0
    dim: float = 0.0


@dataclass(frozen=True)
class LossPart:
    """Weighted cross entropy: w0 and σ (px) of the border term; class weights `balanced` or `none`."""

    w0: float = 10.0
    sigma: float = 5.0
    class_weights: str = "none"


@dataclass(frozen=True)
class OptimizerPart:
    """AdamW or SGD with a linear warm-up and a cosine to zero over the whole run."""

    name: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    warmup_steps: int = 100
    clip_norm: float = 1.0


@dataclass(frozen=True)
class RunPart:
    """How long, how much at once, and what decides which epoch was the best: `iou`, `ap` (objects) or `loss`."""

    epochs: int = 50
    steps_per_epoch: int = 100
    batch: int = 8
    output_edge: int = 196
    select: str = "iou"
    seed: int = 0


@dataclass(frozen=True)
class CardPart:
    """What the model's card says besides its scores: where the data come from, the model's licence, its limits."""

    data: str = ""
    licence: str = ""
    limits: str = ""


CHOICES = {
    "labels.kind": ("instances", "classes"),
    "loss.class_weights": ("balanced", "none"),
    "optimizer.name": ("adamw", "sgd"),
    "run.select": ("iou", "ap", "loss"),
}
AT_LEAST = {
    "run.epochs": 1, "run.steps_per_epoch": 1, "run.batch": 1, "run.seed": 0, "labels.gap": 0, "loss.w0": 0,
    "augment.elastic_std": 0, "augment.elastic_grid": 2, "optimizer.warmup_steps": 0,
}  # fmt: skip
ABOVE = {"loss.sigma": 0, "optimizer.learning_rate": 0, "optimizer.clip_norm": 0}


@dataclass(frozen=True)
class Recipe:
    """A whole recipe; each part is a table of the TOML file.

    Raises:
        InputError: a value out of its range.
    """

    network: NetworkPart = field(default_factory=NetworkPart)
    images: ImagePart = field(default_factory=ImagePart)
    labels: LabelPart = field(default_factory=LabelPart)
    augment: AugmentPart = field(default_factory=AugmentPart)
    loss: LossPart = field(default_factory=LossPart)
    optimizer: OptimizerPart = field(default_factory=OptimizerPart)
    run: RunPart = field(default_factory=RunPart)
    card: CardPart = field(default_factory=CardPart)

    def __post_init__(self) -> None:
        for key, choices in CHOICES.items():
            if self.value(key) not in choices:
                raise InputError(f"recipe: {key} = {self.value(key)!r} is not known; need one of {', '.join(choices)}")
        for key, least in AT_LEAST.items():
            if self.value(key) < least:
                raise InputError(f"recipe: {key} = {self.value(key)!r} is too small; need at least {least}")
        for key, bound in ABOVE.items():
            if self.value(key) <= bound:
                raise InputError(f"recipe: {key} = {self.value(key)!r} is too small; need more than {bound}")
        low, high = self.augment.zoom
        if not 0 < low <= high:
            raise InputError(f"recipe: augment.zoom = {self.augment.zoom} is no range; need 0 < low <= high")
        if len(self.labels.names) < 2 or (self.labels.kind == "instances" and len(self.labels.names) != 2):
            raise InputError("recipe: labels.names needs two names for instances, and at least two for classes")
        self.network_config()

    def value(self, key: str) -> Any:
        part, name = key.split(".")
        return getattr(getattr(self, part), name)

    @property
    def classes(self) -> int:
        return len(self.labels.names)

    def network_config(self) -> dict[str, Any]:
        """Return the network's whole config as plain values, classes included.

        Raises:
            InputError: a network that cannot tell so many classes apart.
        """
        return config_values(parse_config(self.network.name, self.network.config | {"classes": self.classes}))

    def to_dict(self) -> dict[str, Any]:
        parts = {entry.name: asdict(getattr(self, entry.name)) for entry in fields(self) if entry.name != "network"}
        return {"network": self.network.to_table()} | {
            part: {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
            for part, values in parts.items()
        }


def read_recipe(name: str, changes: tuple[str, ...] = ()) -> Recipe:
    """Read a shipped recipe by name, or a TOML file, and apply `KEY=VALUE` changes such as `run.epochs=20`.

    A key without a table is the network's: `prune=2`.

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
    for change in changes:
        _apply(values, change)
    return recipe_from_dict(values)


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """Return the recipe of nested plain values; raises InputError as `read_recipe` does."""
    parts: dict[str, Any] = {}
    known = get_type_hints(Recipe)
    for name, table in values.items():
        if name not in known:
            raise InputError(f"recipe: unknown table [{name}]{_nearest(name, tuple(known))}")
        if not isinstance(table, dict):
            raise InputError(f"recipe: {name} must be a table of keys")
        parts[name] = NetworkPart.from_table(table) if name == "network" else _part(known[name], name, table)
    return Recipe(**parts)


def _part(kind: Any, part: str, table: dict[str, Any]) -> Any:
    names = tuple(entry.name for entry in fields(kind))
    default = kind()
    values = {}
    for key, value in table.items():
        if key not in names:
            raise InputError(f"recipe: unknown key {part}.{key}{_nearest(key, names)}")
        values[key] = _convert(f"{part}.{key}", value, getattr(default, key))
    return kind(**values)


def _convert(key: str, value: Any, like: Any) -> Any:
    """Return `value` as the type that the key's default has; whole numbers serve for fractions, nothing else does."""
    if isinstance(like, tuple) and isinstance(value, list | tuple) and value:
        return tuple(_convert(key, item, like[0]) for item in value)
    if isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(like):
        raise InputError(f"recipe: {key} = {value!r} has the wrong type; need one like {like!r}")
    return value


def _nearest(name: str, known: tuple[str, ...]) -> str:
    found = get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]}?" if found else f"; known are {', '.join(known)}"


def _apply(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    part, dot, name = key.strip().rpartition(".")
    if not dot:
        part = "network"  # prune=2, encoder_parameters=FILE
    if not (equals and part and name):
        raise UsageError(f"--set {change!r} is not understood: need TABLE.KEY=VALUE, such as run.epochs=20")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a string
    table = values.setdefault(part, {})
    if isinstance(table, dict):
        table[name] = value
