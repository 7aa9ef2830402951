"""The checkpoint of an epoch: parameters, and what people and `segment` should know about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from unettile.checkpoint import Checkpoint, ClassInfo
from unettile.geometry import Geometry
from unettile.images.colours import Colour, distinct_colours
from unettile.images.palette import read_palette
from unettile.metrics.pixels import iou
from unettile.objectsize import ObjectSize
from unettile.training.draw import objects_seen
from unettile.training.job import PLAN, TRAINED_ON, TrainJob, plan_digest
from unettile.training.recipe import Recipe
from unettile.training.state import LogRow
from unettile.training.survey import Source, set_digest
from unettile.training.validate import Scores

SAME_SIZE = 1.05  # pixels of one size, as microscopes state it, differ by less
PALETTES_READ = 16  # label images whose palettes are compared


@dataclass(frozen=True)
class Seen:
    """What a network sees of the images that it is trained on.

    Args:
        size: of their objects, as they are shown; None if labels are no instances.
        pixel_size_um: edge of their pixels; None if unknown, or not the same in all.
        described: for the card: how many images and objects, their channels and sizes, a digest of them all.
    """

    size: ObjectSize | None
    pixel_size_um: float | None
    described: dict[str, Any]

    @classmethod
    def of(cls, sources: Sequence[Source], recipe: Recipe) -> Seen:
        """Return what is seen of images that were surveyed."""
        return cls(objects_seen(sources, recipe), _pixel_size(sources, recipe), _described(sources, recipe))


def _pixel_size(sources: Sequence[Source], recipe: Recipe) -> float | None:
    if recipe.images.pixel_size_um:
        return recipe.images.pixel_size_um
    sizes = [source.pixel_size_um for source in sources if source.pixel_size_um is not None]
    if len(sizes) < len(sources) or max(sizes) > SAME_SIZE * min(sizes):
        return None
    return float(f"{np.median(sizes):.4g}")


def _described(sources: Sequence[Source], recipe: Recipe) -> dict[str, Any]:
    by_area = sorted((source.shape for source in sources), key=lambda shape: (shape[0] * shape[1], shape))
    counts = [source.objects for source in sources if source.objects is not None]
    channels = Counter(source.channels for source in sources)
    return {
        "images": len(sources),
        **({"objects": sum(counts)} if len(counts) == len(sources) else {}),
        **({"kinds": _kinds(sources, recipe)} if recipe.labels.kinds else {}),
        "channels": {str(number): count for number, count in sorted(channels.items())},
        "smallest": list(by_area[0]),
        "largest": list(by_area[-1]),
        "sha256": set_digest(source.content for source in sources),
    }


def _kinds(sources: Sequence[Source], recipe: Recipe) -> dict[str, int]:
    """Return how many objects are of each kind, and of none that is known."""
    unknown, *counts = np.sum([source.kinds for source in sources], axis=0).tolist()
    each = dict(zip(recipe.labels.names[1:], counts, strict=True))
    return each | ({"of unknown kind": unknown} if unknown else {})


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
    job: TrainJob, network: nn.Module, geometry: Geometry, scores: Scores, row: LogRow, seen: Seen
) -> Checkpoint:
    """Return the checkpoint of a network as it was scored after an epoch."""
    recipe = job.recipe
    return replace(
        make_model(job, network, geometry),
        objects_px=seen.size,
        pixel_size_um=seen.pixel_size_um,
        card={
            **{key: text for key, text in asdict(recipe.card).items() if text},
            "images": {"training": len(job.training), "validation": len(job.validation), "test": len(job.test)},
            TRAINED_ON: seen.described,
            **({} if job.start is None else {"began_with": job.start.sha256}),
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
                **scores_of_kinds(scores, recipe),
            },
        },
    )


def scores_of_kinds(scores: Scores, recipe: Recipe) -> dict[str, Any]:
    """Return what a card says of kinds of objects; nothing where there are none."""
    return {} if scores.kinds is None else scores.kinds.to_card(recipe.labels.names[1:])


def _portable(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe for others to read: of a file of parameters its name, not where it lay on this machine."""
    network = recipe["network"]
    files = {key: Path(network[key]).name for key in ("encoder_parameters", "start") if key in network}
    return recipe | {"network": network | files}


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
