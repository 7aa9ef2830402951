"""Finding: the numbered objects of a mask that is open, those that it numbers or those that are in its classes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unettile.errors import InputError
from unettile.images.idclasses import IdClasses
from unettile.images.record import Record
from unettile.images.slide import Slide
from unettile.objects.columns import Known
from unettile.objects.foreground import ChosenIds, ClassMap
from unettile.objects.geojson import MOST_CLASSES
from unettile.objects.given import GivenObjects
from unettile.objects.labelling import Cutter, label_objects
from unettile.objects.numbering import Numbered, Numbers
from unettile.objects.opened import Method, Opened
from unettile.objects.rules import Foreground
from unettile.objects.scan import Stage
from unettile.objects.spill import Spill
from unettile.tiling import BlockGrid


def find_in_plane(
    opened: Opened, method: Method, directory: Path, stage: Stage, stack: ExitStack
) -> tuple[Numbered, Known]:
    """Return the numbered objects of a mask, and what is known of them.

    Args:
        directory: of a temporary file, which `stack` closes.

    Raises:
        InputError: an image that is damaged, or no ids where they are taken as they are.
        OSError: the temporary file cannot be written.
    """
    mask, record, labelling = opened.mask, opened.record, method.labelling
    grid = BlockGrid(mask.shape, method.block_edge)
    if opened.given:
        with stage("looking for ids") as on_progress:
            objects = GivenObjects(mask, grid, on_progress)
        return objects, _known_of(objects, record)
    classes = _classes(mask, opened.foreground, record)
    cutter = Cutter(classes, labelling.splitting, opened.depth, labelling.merged, opened.beneath.chance)
    spill = stack.enter_context(Spill(grid, directory))
    with stage("labelling") as on_progress:
        found = label_objects(cutter, labelling, grid, spill, on_progress, opened.beneath.chance)
    mask_ids = None
    if record.ids is not None:
        mask_ids = found.numbers.classes
        found.numbers = _of_ids(found.numbers, record.ids, str(mask.path))
    return found, Known(found.numbers.classes, found.numbers.shares, mask_ids)


def describe(objects: Numbered, record: Record) -> dict[str, Any]:
    """Return what the image of ids says of its objects: how many, of which classes, named and coloured how."""
    found: dict[str, Any] = {"objects": objects.count}
    if record != Record():
        found |= {"view": record.view.to_dict(), "downsample": list(record.downsample)}
    if np.unique(objects.numbers.classes).size > MOST_CLASSES:  # ids of another program
        return found
    found |= IdClasses(objects.numbers.classes, objects.numbers.shares).to_metadata()
    if record.names:
        found["classes"] = list(record.names.values())
        found["colours"] = [[0, 0, 0], *(list(record.colour(k)) for k in range(1, len(record.names)))]
    return found


def _known_of(objects: GivenObjects, record: Record) -> Known:
    """Return what is known of objects that have their ids already.

    Raises:
        InputError: an id that the mask's metadata do not know.
    """
    if record.ids is None:
        return Known(None, ids=objects.ids)
    numbers = _of_ids(replace(objects.numbers, classes=objects.ids.astype(np.uint32)), record.ids, "the mask")
    return Known(numbers.classes, numbers.shares, ids=objects.ids)


def _classes(mask: Slide, foreground: Foreground, record: Record) -> ClassMap:
    """Return the classes of the pixels; of a mask whose ids have classes, the ids of those that are chosen."""
    if record.ids is None or foreground.classes is None or foreground.threshold is not None:
        return ClassMap(mask, foreground)
    chosen = np.concatenate([[False], np.isin(record.ids.classes, foreground.classes)])
    return ClassMap(ChosenIds(mask, chosen), replace(foreground, classes=None))


def _of_ids(numbers: Numbers, ids: IdClasses, name: str) -> Numbers:
    """Return the objects of an image of ids with the classes that its ids have.

    Raises:
        InputError: an id that the metadata do not know.
    """
    known = numbers.classes.astype(np.int64) - 1
    if known.size and known.max() >= ids.classes.size:
        raise InputError(
            f"{name} holds the id {known.max() + 1}, its metadata know {ids.classes.size}: take a fresh copy of it"
        )
    return replace(numbers, classes=ids.classes[known], shares=None if ids.shares is None else ids.shares[known])
