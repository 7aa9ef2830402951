"""RDF: the description of a bioimage.io model (rdf.yaml), formats 0.4 and 0.5, read into one form.

Format 0.4 writes axes as a text, "bcyx", and operations by `name`; 0.5 writes axes as tables and operations by `id`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

from unettile.errors import InputError
from unettile.typed import Unfit, from_plain, said

_MOST_BYTES = 2**20
_MOST_NODES = 2**17  # of the text with its aliases written out
_NAMES = {"batch": "b", "channel": "c", "index": "i", "time": "t"}

Text = Annotated[str, Meta(max_length=2**16)]
_List = Annotated[list[Any], Meta(max_length=64)]


@dataclass(frozen=True)
class Operation:
    """A step before or after the network, by name, with its arguments."""

    name: str
    given: dict[str, Any]


@dataclass(frozen=True)
class Tensor:
    """An input or an output.

    Args:
        name: of it.
        axes: a letter each: b, c, y, x; others for what is not taken.
        ids: of the axes, as operations name them.
        channels: names; empty if it does not say.
        range: of its values; None if it does not say.
        operations: in order.
        test: name of the file with its test values; "" for none.
    """

    name: str
    axes: str
    ids: tuple[str, ...]
    channels: tuple[str, ...]
    range: tuple[float, float] | None
    operations: tuple[Operation, ...]
    test: str


@dataclass(frozen=True)
class Weights:
    """One form of the parameters.

    Args:
        source: name of the file.
        sha256: of it, or "".
        architecture: what builds the network, as the description has it; None for whole programs.
        given: arguments for it.
    """

    source: str
    sha256: str
    architecture: str = ""
    given: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """A model's description.

    Args:
        card: what people should know.
        weights: by their form, such as onnx.
        header: of a checkpoint, in a package of ours.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weights: dict[str, Weights]
    card: dict[str, Any]
    header: str | None


@dataclass(frozen=True)
class _Raw:
    """Keys of either format, as far as they are read."""

    format_version: Text
    type: Text
    inputs: _List
    outputs: _List
    weights: dict[str, dict[str, Any]]
    name: Text = ""
    description: Text | None = None
    license: Text | None = None
    authors: _List = field(default_factory=list)
    cite: _List = field(default_factory=list)
    config: dict[str, Any] | None = None
    test_inputs: _List = field(default_factory=list)
    test_outputs: _List = field(default_factory=list)


@dataclass(frozen=True)
class _RawTensor:
    axes: Annotated[str, Meta(max_length=16)] | Annotated[list[Any], Meta(max_length=16)]
    id: Text | None = None
    name: Text | None = None
    data: Any = None
    data_range: Any = None
    preprocessing: _List | None = None
    postprocessing: _List | None = None
    test_tensor: Any = None


def read_description(text: bytes, path: Path) -> Description:
    """Read a description.

    Raises:
        InputError: no YAML, no model, another format, or values that cannot be meant.
    """
    try:
        raw = from_plain(_plain(text), _Raw)
        if raw.type != "model" or raw.format_version.split(".")[:2] not in (["0", "4"], ["0", "5"]):
            raise Unfit(f"it is a {raw.type} of format {raw.format_version}, need a model of 0.4 or 0.5")
        tests = [_source(one) for one in raw.test_inputs], [_source(one) for one in raw.test_outputs]
        inputs = tuple(_tensor(one, test) for one, test in _paired(raw.inputs, tests[0]))
        outputs = tuple(_tensor(one, test) for one, test in _paired(raw.outputs, tests[1]))
        weights = {kind[:40]: _weights(values) for kind, values in raw.weights.items()}
        own = (raw.config or {}).get("unettile")
        header = own.get("header") if isinstance(own, dict) else None
    except Unfit as error:
        raise InputError(f"{path} does not describe a model ({error}): take a fresh copy of the package") from error
    card = {
        "data": raw.description or "",
        "licence": raw.license or "",
        "name": raw.name,
        "authors": [one.get("name", "") for one in raw.authors if isinstance(one, dict)],
        "cite": [one.get("text", "") for one in raw.cite if isinstance(one, dict)],
    }
    card = {key: value for key, value in card.items() if value}
    return Description(inputs, outputs, weights, card, header if isinstance(header, str) else None)


def _plain(text: bytes) -> Any:
    """Return YAML as plain values; aliases are counted as what they stand for, so that a short text stays short."""
    if len(text) > _MOST_BYTES:
        raise Unfit(f"it has more than {_MOST_BYTES} bytes")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None or _count(root, {}, ()) > _MOST_NODES:
            raise Unfit("it is empty, or its aliases stand for more than any description has")
        return msgspec.to_builtins(yaml.load(text, Loader=yaml.SafeLoader), str_keys=True)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, UnicodeError) as error:
        if isinstance(error, Unfit):
            raise
        raise Unfit(f"it is no YAML ({' '.join(str(error).split())[:200]})") from error


def _count(node: yaml.Node, known: dict[int, int], above: tuple[int, ...]) -> int:
    if id(node) in above:
        raise Unfit("it refers to itself")
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_count(part, known, (*above, id(node))) for part in inner)
    return known[id(node)]


def _paired(raw: list[Any], tests: list[str]) -> list[tuple[Any, str]]:
    return [(one, tests[number] if number < len(tests) else "") for number, one in enumerate(raw)]


def _tensor(values: Any, test: str) -> Tensor:
    raw = from_plain(values, _RawTensor)
    axes: list[str] = []
    ids: list[str] = []
    channels: tuple[str, ...] = ()
    for axis in raw.axes:
        if isinstance(axis, str):
            axes.append(axis)
            ids.append({"b": "batch", "c": "channel"}.get(axis, axis))
            continue
        if not isinstance(axis, dict):
            raise Unfit(f"axes has {said(axis)}, need a table")
        kind = str(axis.get("type", ""))
        name = str(axis.get("id", "x" if kind == "space" else kind))  # as the format has it by default
        axes.append(_NAMES.get(kind, name if name in ("x", "y", "z") else "?"))
        ids.append(name)
        if kind == "channel" and isinstance(axis.get("channel_names"), list):
            channels = tuple(str(one)[:200] for one in axis["channel_names"][:1024])
    described = raw.data[0] if isinstance(raw.data, list) and raw.data else raw.data
    span = (
        raw.data_range
        if raw.data_range is not None
        else (described or {}).get("range")
        if isinstance(described or {}, dict)
        else None
    )
    operations = [_operation(one) for one in raw.preprocessing or raw.postprocessing or ()]
    name = str(raw.id or raw.name or "")
    return Tensor(
        name, "".join(axes), tuple(ids), channels, _range(span), tuple(operations), test or _source(raw.test_tensor)
    )


def _range(values: Any) -> tuple[float, float] | None:
    if not isinstance(values, list) or len(values) != 2:
        return None
    try:
        return float(values[0]), float(values[1])
    except (TypeError, ValueError):
        return None


def _operation(values: Any) -> Operation:
    name = values.get("id", values.get("name")) if isinstance(values, dict) else None
    if not isinstance(name, str):
        raise Unfit(f"an operation is {said(values)}, need a table with id or name")
    given = values.get("kwargs") or {}
    if not isinstance(given, dict):
        raise Unfit(f"{name} has arguments {said(given)}, need a table")
    return Operation(name[:80], given)


def _weights(values: dict[str, Any]) -> Weights:
    architecture, given = values.get("architecture"), values.get("kwargs") or {}
    if isinstance(architecture, dict):
        given = architecture.get("kwargs") or {}
        architecture = f"{architecture.get('import_from', '')}.{architecture.get('callable', '')}"
    sha256 = values.get("sha256")
    return Weights(
        _source(values.get("source")),
        sha256 if isinstance(sha256, str) else "",
        str(architecture or ""),
        given if isinstance(given, dict) else {},
    )


def _source(values: Any) -> str:
    """Return the name of a file, as either format has it."""
    if isinstance(values, dict):
        values = values.get("source")
    return values if isinstance(values, str) else ""
