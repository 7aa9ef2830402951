"""Recipe: everything that decides what training makes of the data; `unettile.training.recipefile` reads one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from unettile.errors import InputError
from unettile.images.normalize import Normalization
from unettile.labels import BORDER
from unettile.networks import config_values, parse_config
from unettile.networks.config import Config
from unettile.objects.rules import ObjectRules
from unettile.training.keys import KEYS, LONGEST_NAME, MOST_SOURCES, WIDEST_WINDOW
from unettile.training.parts import (
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

OWN_KEYS = ("name", "encoder_parameters", "start")  # of [network]; the others are its config's


@dataclass(frozen=True)
class NetworkPart:
    """Which network: its name, and the keys of its config that the recipe sets; others are the preset's, or default.

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
        self._check_ranges()
        low, high = self.augment.zoom
        if not low <= high:
            raise InputError(f"recipe: augment.zoom = {self.augment.zoom} is no range; need 0 < low <= high")
        if self.run.output_edge / low > WIDEST_WINDOW:
            raise InputError(
                f"recipe: augment.zoom = {self.augment.zoom} makes samples of run.output_edge = {self.run.output_edge}"
                f" of {self.run.output_edge / low:.0f} px of an image; need at most {WIDEST_WINDOW}"
            )
        if not self.images.low_percentile < self.images.high_percentile:
            raise InputError("recipe: images.low_percentile must be less than images.high_percentile")
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
            raise InputError(
                'recipe: run.calibrate goes by a score of masks; need run.select = "iou", "ap" or "mpq" with it'
            )
        if self.run.select == "mpq" and not self.labels.kinds:
            raise InputError(
                'recipe: run.select = "mpq" goes by kinds of objects; need labels.names of several, and labels.kind ='
                ' "instances"'
            )

    def _check_ranges(self) -> None:
        if len(self.sources) > MOST_SOURCES:
            raise InputError(f"recipe: it has {len(self.sources)} sources; need at most {MOST_SOURCES}")
        try:
            for key in KEYS:
                table, name = key.name.rsplit(".", 1)
                for part in self.sources.values() if table == "sources.NAME" else (getattr(self, table),):
                    key.check(getattr(part, name))
        except ValueError as error:
            raise InputError(f"recipe: {error}") from error

    def _check_labels(self) -> None:
        part = self.labels
        if len(part.names) < 2 or (part.kind == "components" and len(part.names) != 2):
            raise InputError("recipe: labels.names needs at least two names, background first; two for components")
        names = [name.casefold() for name in part.names]
        if part.kinds and (BORDER in names or len(set(names)) < len(names)):
            raise InputError(
                f"recipe: labels.names = {', '.join(part.names)[:100]} are no kinds of objects: need names that differ"
                f" in more than case, none of them {BORDER!r}"
            )
        if len(set(part.names)) < len(part.names) or not all(0 < len(name) <= LONGEST_NAME for name in part.names):
            raise InputError(f"recipe: labels.names needs different names, each of 1 to {LONGEST_NAME} letters")
        if part.border and not part.are_objects:
            raise InputError('recipe: labels.border lies between objects; need labels.kind = "instances" with it')
        if part.depth and not part.are_objects:
            raise InputError(
                'recipe: labels.depth is that of objects: set labels.depth = false, or labels.kind = "instances"'
            )
        if isinstance(part.diameter, str) and part.diameter != "auto":
            raise InputError(f'recipe: labels.diameter = {part.diameter!r} is no size; need px, or "auto"')
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
        self.network_config()

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


OWN_KEYS = ("name", "encoder_parameters", "start")  # of [network]; the others are its config's


def _plain(value: Any) -> Any:
    """Return a value with lists for tuples, as JSON and TOML would bring it back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
