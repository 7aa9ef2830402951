"""The checkpoint of an epoch: parameters, and what people and `segment` should know about them."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from unettile.checkpoint import Checkpoint, ClassInfo
from unettile.geometry import Geometry
from unettile.images.colours import Colour, distinct_colours
from unettile.images.palette import read_palette
from unettile.metrics.pixels import iou
from unettile.objectsize import ObjectSize
from unettile.training.job import PLAN, TrainJob, plan_digest
from unettile.training.state import LogRow
from unettile.training.validate import Scores

PALETTES_READ = 16  # label images whose palettes are compared


def make_model(job: TrainJob, network: nn.Module, geometry: Geometry) -> Checkpoint:
    """Return a network as `segment` would use it now, without a card; it shares the network's parameters."""
    recipe = job.recipe
    names = recipe.labels.class_names
    return Checkpoint(
        network=recipe.network.name,
        config=recipe.network_config(),
        geometry=geometry,
        normalization=recipe.normalization,
        classes=tuple(ClassInfo(name, color) for name, color in zip(names, class_colours(job), strict=True)),
        parameters=dict(network.state_dict()),
        depth=recipe.labels.depth,
        grey_to_rgb=recipe.images.grey_to_rgb,
        recipe=_portable(recipe.to_dict()),
        objects=recipe.objects,
    )


def make_checkpoint(
    job: TrainJob, network: nn.Module, geometry: Geometry, scores: Scores, row: LogRow, seen: ObjectSize | None
) -> Checkpoint:
    """Return the checkpoint of a network as it was scored after an epoch.

    Args:
        seen: how large the objects are that it was trained on.
    """
    recipe = job.recipe
    return replace(
        make_model(job, network, geometry),
        objects_px=seen,
        card={
            **{key: text for key, text in asdict(recipe.card).items() if text},
            "images": {"training": len(job.training), "validation": len(job.validation), "test": len(job.test)},
            "epoch": row.epoch,
            PLAN: plan_digest(job),
            "scores": {
                "iou": row.iou,
                "ap": row.ap,
                "loss": row.validation_loss,
                "classes": {
                    name: round(float(value), 6)
                    for name, value in zip(recipe.labels.class_names, iou(scores.confusion), strict=True)
                    if value == value  # JSON has no NaN, the IoU of a class that is nowhere
                },
            },
        },
    )


def _portable(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe for others to read: of a file of parameters its name, not where it lay on this machine."""
    network = recipe["network"]
    if "encoder_parameters" not in network:
        return recipe
    return recipe | {"network": network | {"encoder_parameters": Path(network["encoder_parameters"]).name}}


def class_colours(job: TrainJob) -> tuple[Colour, ...]:
    """Return the recipe's colours; else those of the label images' palette, if they have one and agree; else our own.

    Colours of ids are those of no class: the palette counts only where label values are classes.
    """
    part, count = job.recipe.labels, job.recipe.classes
    if part.colors:
        return part.colors
    if part.kind == "classes":
        palettes = {
            read_palette(pair.labels) if isinstance(pair.labels, Path) else None
            for pair in islice(job.training, PALETTES_READ)
        }
        palette = palettes.pop() if len(palettes) == 1 else None
        if palette is not None and len(set(palette[:count])) == count:
            return palette[:count]
    return distinct_colours(count)
