"""`unettile models`: what is shipped, and the card of one model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unettile.commands.console import Console, one_line
from unettile.commands.options import Json

if TYPE_CHECKING:
    from unettile.checkpoint import Checkpoint


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FILE]", help="A shipped model or a checkpoint; default: list them all."),
    ] = None,
    json: Json = False,
) -> None:
    """List the shipped models, or print the card of one: classes, geometry, licence, scores."""
    from unettile.checkpoint import load_checkpoint
    from unettile.models import MODELS, find_model

    console = Console(json_output=json)
    if name is not None:
        description = describe(name, load_checkpoint(find_model(name)))
        console.result(description)
        lines = _card(description)
    else:
        descriptions = [describe(known, load_checkpoint(find_model(known))) for known in MODELS]
        console.result({"models": descriptions})
        lines = [_summary(description) for description in descriptions]
    if not json:
        typer.echo("\n".join(lines))


def describe(name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return all that a person may want to know about a model, as JSON values."""
    return {
        "name": Path(name).stem,
        "network": checkpoint.network,
        "config": checkpoint.config,
        "parameters": sum(tensor.numel() for tensor in checkpoint.parameters.values()),
        "channels": checkpoint.in_channels,
        "grey_to_rgb": checkpoint.grey_to_rgb,
        "classes": [{"name": info.name, "color": list(info.color)} for info in checkpoint.classes],
        "geometry": checkpoint.geometry.to_dict(),
        "normalization": checkpoint.normalization.to_dict(),
        "pixel_size_um": checkpoint.pixel_size_um,
        "sha256": checkpoint.sha256,
        "card": checkpoint.card,
        "recipe": checkpoint.recipe,
    }


def _summary(model: dict[str, Any]) -> str:
    classes = ", ".join(info["name"] for info in model["classes"])
    size = f"{model['parameters']:,} parameters"
    text = f"{model['name']}  {model['network']}, {size}, {_channels(model)}; classes {classes}"
    licence = model["card"].get("licence") or model["card"].get("license")
    return one_line(f"{text}; licence {licence}" if licence else text)


def _card(model: dict[str, Any]) -> list[str]:
    geometry = model["geometry"]
    edges = f"{geometry['base']} + {geometry['stride']}k"
    law = f"margin {geometry['margin']} px, stride {geometry['stride']} px, output edges {edges}"
    rows = [
        ("name", model["name"]),
        ("network", f"{model['network']} {_values(model['config'])}"),
        ("parameters", f"{model['parameters']:,}"),
        ("input", _channels(model)),
        ("classes", ", ".join(f"{k} {info['name']}" for k, info in enumerate(model["classes"]))),
        ("geometry", law if geometry["exact"] else f"{law}; not exact: tiles may disagree"),
        ("normalisation", _values(model["normalization"])),
        ("pixel size", f"{model['pixel_size_um']} µm" if model["pixel_size_um"] else "any; none was declared"),
        ("sha256", model["sha256"]),
    ]
    # The card and the recipe come from a file that may be a stranger's: one_line keeps escapes off the terminal.
    rows += [(str(key), _values(value)) for key, value in model["card"].items()]
    width = max(len(label) for label, _ in rows)
    return [one_line(f"{label:<{width}}  {value}") for label, value in rows]


def _channels(model: dict[str, Any]) -> str:
    count = model["channels"]
    text = f"{count} channel{'s' if count > 1 else ''}"
    return f"{text}, or 1 repeated" if model["grey_to_rgb"] else text


def _values(value: Any) -> str:
    """Write a nested value on one line, without the quotes and braces of JSON."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_values(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_values(inner) for inner in value) + ")"
    return str(value)
