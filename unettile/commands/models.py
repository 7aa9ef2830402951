"""`unettile models`: what is shipped, the card of one model, and the same model with its config changed."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unettile.atomic import remove_leftovers
from unettile.changes import parse_changes
from unettile.commands.console import Console, one_line
from unettile.commands.help import WIDEST
from unettile.commands.options import Json, Overwrite, Trust
from unettile.errors import InputError, UsageError
from unettile.wording import counted

if TYPE_CHECKING:
    from unettile.checkpoint import Checkpoint

EDGES = (384, 768, 1536)
"""px that a tile writes at least, for which the cost is told."""


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="A shipped model, a checkpoint, .onnx, a .pt2 program or a bioimage.io package; default: list what is"
            " shipped.",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change the network's config where the model's parameters allow it, such as prune=2, or how objects"
            " are made, such as objects.min_size=30; repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the changed model as a checkpoint (.safetensors)."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FILE",
            help="Write the model for other programs: .onnx (needs unettile[onnx]), .pt2, or a bioimage.io package,"
            " .zip or a folder (needs unettile[bioimageio]).",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compute the test that a bioimage.io package brings, and compare."),
    ] = False,
    overwrite: Overwrite = False,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """List the shipped models, or print the card of one: geometry, cost, classes, licence, scores."""
    from unettile.checkpoint import save_checkpoint
    from unettile.images.provenance import finished_line
    from unettile.models import MODELS, find_model
    from unettile.program import load_model
    from unettile.protection import protect

    console = Console(json_output=json)
    if name is None:
        if changes or output is not None or export is not None or check:
            raise UsageError("--set, -o, --export and --check need a model: give a NAME or a FILE")
        descriptions = [describe(known, load_model(find_model(known))) for known in MODELS]
        console.result({"models": descriptions})
        lines = [_summary(description) for description in descriptions]
    else:
        if check:
            _check_test(find_model(name), console, trust=trust)
        model = load_model(find_model(name), trust=trust)
        if changes:
            model = _changed(model, parse_changes(changes))
        if output is not None:
            protect([find_model(name)], [output])
            _check(output, changed=bool(changes))
            was_there = output.exists() and not overwrite
            model = save_checkpoint(model, output, overwrite=overwrite)
            remove_leftovers(output)
            console.message(finished_line(output) if was_there else f"wrote {output}")
        if export is not None:
            from unettile.export import export_model

            protect([find_model(name)], [export])
            was_there = export.exists() and not overwrite
            export_model(model, export, overwrite=overwrite)
            remove_leftovers(export)
            console.message(finished_line(export) if was_there else f"wrote {export}")
        description = describe(str(output or name), model)
        console.result(description)
        lines = _card(description)
    if not json:
        console.text("\n".join(lines) + "\n")


def describe(name: str, model: Checkpoint) -> dict[str, Any]:
    """Return all that a person may want to know about a model, as JSON values."""
    return {
        "name": Path(name).stem,
        "network": model.network,
        "config": model.config,
        "parameters": sum(tensor.numel() for tensor in model.parameters.values()),
        "channels": model.in_channels,
        "grey_to_rgb": model.grey_to_rgb,
        "classes": [{"name": info.name, "color": list(info.color)} for info in model.classes],
        "depth": model.depth,
        "objects": model.objects.to_dict(),
        "objects_px": model.objects_px.to_dict() if model.objects_px else None,
        "geometry": model.geometry.to_dict(),
        "largest_difference": model.difference,
        "receptive_field": model.receptive_field,
        "flops_per_pixel": [_cost(model, edge) for edge in EDGES],
        "normalization": model.normalization.to_dict(),
        "pixel_size_um": model.pixel_size_um,
        "sha256": model.sha256,
        "card": model.card,
        "recipe": model.recipe,
    }


def cautions(model: Checkpoint) -> list[str]:
    """Return what a user should know before segmenting with a model, a line each."""
    lines = []
    if model.module is not None:
        geometry, scaling = model.geometry, _values(model.normalization.to_dict())
        lines.append(
            f"the program's geometry was measured: margin {geometry.margin} px, stride {geometry.stride} px; "
            f"images are scaled by {scaling}; classes {', '.join(info.name for info in model.classes)}"
        )
    passes = max(1, len(model.members)) * (4 if model.tta else 1)
    if passes > 1:
        of_models = f"of {len(model.members)} models" if model.members else "of one model"
        turned = ", each window turned over in four ways" if model.tta else ""
        lines.append(f"probabilities are means {of_models}{turned}: {passes} passes for one")
    if not model.geometry.exact:
        seen = "" if model.difference is None else f" (by up to {model.difference:.2g} of a probability, on noise)"
        lines.append(
            f"this network looks further than any margin, so tiles may disagree{seen}; "
            "--verify measures it on the image"
        )
    return lines


def _cost(model: Checkpoint, length: int) -> dict[str, Any]:
    from unettile.networks.cost import measure_cost

    geometry = model.geometry
    edge = geometry.smallest_output_edge(length)
    cost = measure_cost(model.build_shapes(), model.in_channels, geometry.input_edge(edge))
    return {
        "tile": edge,
        "window": geometry.input_edge(edge),
        "flops": round(cost.flops / geometry.write_edge(edge) ** 2),
    }


def _changed(model: Checkpoint, changes: dict[str, Any]) -> Checkpoint:
    """Return the model with its network's config changed, or its objects' rules, whose keys begin with `objects.`."""
    from dataclasses import replace

    rules = {key.removeprefix("objects."): value for key, value in changes.items() if key.startswith("objects.")}
    config = {key.removeprefix("network."): value for key, value in changes.items() if not key.startswith("objects.")}
    if config:
        model = model.with_config(config)
    return replace(model, objects=model.objects.changed(rules), sha256="")


def _check_test(path: Path, console: Console, *, trust: bool) -> None:
    """Compare what a package's test gives here with what it should; refuse a package that fails."""
    from unettile.program import check_model

    found = check_model(path, trust=trust)
    said = f"largest difference {found.largest:.2g}, {found.apart:.2%} of values apart by more than is allowed"
    if not found.passed:
        raise InputError(f"{path} does not pass its own test here: {said}; need at most 0.01%")
    console.message(f"{path} passes its own test: {said}")


def _check(output: Path, *, changed: bool) -> None:
    if not changed:
        raise UsageError("-o writes a changed model: give --set, too")
    if output.suffix != ".safetensors":
        raise UsageError(f"-o {output} has the wrong ending: a checkpoint is a .safetensors file")


def _summary(model: dict[str, Any]) -> str:
    classes = ", ".join(info["name"] for info in model["classes"])
    size = f"{model['parameters']:,} parameters"
    text = f"{model['name']}  {model['network']}, {size}, {_channels(model)}; classes {classes}"
    licence = model["card"].get("licence") or model["card"].get("license")
    if model["objects_px"] is not None:
        text += f"; objects of {model['objects_px']['low']:.0f} to {model['objects_px']['high']:.0f} px"
    return one_line(f"{text}; licence {licence}" if licence else text)


def _card(model: dict[str, Any]) -> list[str]:
    geometry = model["geometry"]
    edges = f"{geometry['base']} + {geometry['stride']}k"
    law = f"margin {geometry['margin']} px, stride {geometry['stride']} px, output edges {edges}"
    seen = model["largest_difference"]
    apart = "" if seen is None else f" by up to {seen:.2g} of a probability, measured on noise"
    field = model["receptive_field"]
    costs = (f"{entry['flops'] / 1e6:.3g} M at tile {entry['tile']}" for entry in model["flops_per_pixel"])
    rows = [
        ("name", model["name"]),
        ("network", f"{model['network']} {_values(model['config'])}"),
        ("parameters", f"{model['parameters']:,}"),
        ("input", _channels(model)),
        ("classes", ", ".join(f"{k} {info['name']}" for k, info in enumerate(model["classes"]))),
        ("depth", "an output of its own" if model["depth"] else "none"),
        ("objects", _values(model["objects"])),
        ("object size", _size(model["objects_px"])),
        ("geometry", law if geometry["exact"] else f"{law}; not exact: tiles may disagree{apart}"),
        ("receptive field", f"{field} px" if field else "more than was tried"),
        ("operations a pixel", ", ".join(costs)),
        ("normalisation", _values(model["normalization"])),
        ("pixel size", f"{model['pixel_size_um']} µm" if model["pixel_size_um"] else "any; none was declared"),
        ("sha256", model["sha256"] or "none before it is written"),
    ]
    # The card and the recipe come from a file that may be a stranger's: one_line keeps escapes off the terminal.
    rows += [(str(key), _values(value)) for key, value in model["card"].items()]
    rows = [(one_line(label).replace("_", " "), one_line(value)) for label, value in rows]
    left = max(len(label) for label, _ in rows) + 2
    columns = max(left + 20, min(WIDEST, shutil.get_terminal_size().columns))
    lines = [textwrap.wrap(value, columns - left, break_on_hyphens=False) or [""] for _, value in rows]
    texts = zip(rows, lines, strict=True)
    return [
        f"{label if number == 0 else '':<{left}}{line}".rstrip()
        for (label, _), wrapped in texts
        for number, line in enumerate(wrapped)
    ]


def _channels(model: dict[str, Any]) -> str:
    count = model["channels"]
    text = counted(count, "channel")
    return f"{text}, or 1 repeated" if model["grey_to_rgb"] else text


def _size(size: dict[str, float] | None) -> str:
    if size is None:
        return "not known"
    return f"{size['low']:g} to {size['high']:g} px across, median {size['median']:g}"


def _values(value: Any) -> str:
    """Write a nested value on one line, without quotes and braces, figures with four digits, keys as --set has them."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_values(inner)}" for key, inner in value.items())
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_values(inner) for inner in value) + ")"
    return str(value)
