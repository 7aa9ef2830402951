"""From a mask to its objects and all that is written of them: what `unettile objects` does."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from unettile import __version__
from unettile.atomic import atomic_group, naming, remove_leftovers
from unettile.errors import InputError, UsageError
from unettile.images.fingerprint import Fingerprint
from unettile.images.idclasses import IdClasses
from unettile.images.record import Record, read_metadata, read_record
from unettile.images.slide import ImageSource, Slide, open_labels, open_slide
from unettile.images.view import FIRST, View
from unettile.objects.certainty import Chance
from unettile.objects.columns import Frames, Known
from unettile.objects.foreground import ChosenIds, ClassMap
from unettile.objects.found import Found
from unettile.objects.geojson import MOST_CLASSES
from unettile.objects.given import GivenObjects
from unettile.objects.labelling import BLOCK_EDGE, Cutter, label_objects
from unettile.objects.measures import BASIC, Measures
from unettile.objects.measuring import Beneath
from unettile.objects.numbering import Numbered, Numbers
from unettile.objects.products import Products, Sources, check_outputs
from unettile.objects.rules import Foreground, Labelling, object_classes
from unettile.objects.spill import Spill
from unettile.objects.stains import Unmixed
from unettile.objects.write import Context, Page, Stage, Writer
from unettile.tiling import BlockGrid


def find_objects(
    sources: Sources,
    foreground: Foreground,
    labelling: Labelling,
    products: Products,
    *,
    overwrite: bool,
    stage: Stage,
    measures: Measures = BASIC,
    block_edge: int = BLOCK_EDGE,
    scratch: Path | None = None,
    page: Page | None = None,
) -> Found:
    """Find the objects of a mask and write what is asked for, each file under its name only when it is whole.

    Args:
        measures: what the table holds.
        block_edge: px; changes memory and time, and no byte of any file.
        scratch: directory of temporary files; None for that of the first product.
        page: writes the page of a report, if one is asked for.

    Raises:
        UsageError: inputs or options that do not go together.
        InputError: an input that is refused, or an output that exists or cannot be written.
    """
    if sources.depth is not None and labelling.splitting is None:
        raise UsageError("a depth map is for splitting: give --split with it")
    if sources.instances and (labelling != Labelling() or foreground != Foreground() or products.confidence):
        raise UsageError("instances are taken as they are: leave out what changes how objects are found")
    with ExitStack() as stack:
        amounts = foreground.threshold is not None  # probabilities, not ids
        mask = stack.enter_context(open_labels(sources.mask, sources.view, lossy=amounts))
        record = read_record(sources.mask, sources.series)
        if foreground.classes is None and not sources.instances:
            foreground = replace(foreground, classes=object_classes(record.class_names))
        if record.ids is not None and labelling.merged:
            raise UsageError(f"{mask.path} holds ids, each an object of its own: leave --merge-classes out")
        georeference = record.georeference or mask.georeference
        products.places(georeference)  # refused before any work
        beneath = _open_beneath(sources, mask, record, foreground, stack)
        image = beneath.image
        for given, option in ((labelling.min_confidence, "--min-confidence"), (products.confidence, "--confidence")):
            if given and beneath.chance is None:
                raise UsageError(f"{option} needs to know probabilities: give --probabilities with it")
        depth = None
        if sources.depth is not None:
            channels = None if sources.depth_channel is None else (sources.depth_channel,)
            depth = stack.enter_context(open_slide(sources.depth, replace(sources.plane, channels=channels)))
        identity = _identity(mask, depth, beneath.probable, foreground, labelling)
        if sources.plane != FIRST:
            identity["plane"] = {"t": sources.t, "z": sources.z}
        there = check_outputs(products, sources, identity, overwrite)
        for path in products.paths:
            remove_leftovers(path)
        grid = BlockGrid(mask.shape, block_edge)
        directory = scratch or products.paths[0].parent
        stack.enter_context(naming(directory))  # of what fails below, files without a name are all that is not named
        objects: Numbered
        if sources.instances:
            with stage("looking for ids") as on_progress:
                objects = GivenObjects(mask, grid, on_progress)
            known = _known_of(objects, record)
        else:
            cutter = Cutter(
                _classes(mask, foreground, record), labelling.splitting, depth, labelling.merged, beneath.chance
            )
            spill = stack.enter_context(Spill(grid, directory))
            with stage("labelling") as on_progress:
                objects = found = label_objects(cutter, labelling, grid, spill, on_progress)
            mask_ids = None
            if record.ids is not None:
                mask_ids = found.numbers.classes
                found.numbers = _of_ids(found.numbers, record.ids, str(mask.path))
            known = Known(found.numbers.classes, found.numbers.shares, mask_ids)
        size = sources.pixel_size_um or mask.pixel_size_um or (image.pixel_size_um if image is not None else None)
        context = Context(
            grid,
            directory,
            record,
            Frames(record.downsample, size),
            identity | _described(objects, record),
            measures,
            known,
            (mask if image is None else image).path.name,
            georeference,
            page,
        )
        with (
            atomic_group(products.paths, overwrite=overwrite) as temporaries,
            Writer(products, objects, beneath, context) as writer,
        ):
            writer.write(temporaries, stage)
    return replace(Found.of(objects, record), was_there=there, columns=writer.columns)


def _open_beneath(sources: Sources, mask: Slide, record: Record, foreground: Foreground, stack: ExitStack) -> Beneath:
    """Open what lies under the objects; `stack` closes it.

    Raises:
        UsageError: stains of an image without colours.
        InputError: another size than the mask's, or no probabilities.
    """
    image = stains = chance = probable = None
    if sources.image is not None:
        view = _view_beneath(sources, record) if isinstance(sources.image, Path) else FIRST  # an array is what it is
        image = stack.enter_context(open_slide(sources.image, view))
        _check_shape(image, mask)
        stains = None if sources.stains is None else Unmixed(image, sources.stains)
    if sources.probabilities is not None:
        probable = stack.enter_context(_open_probabilities(sources.probabilities, sources.plane))
        _check_shape(probable, mask)
        chance = Chance(probable, _object_planes(sources.probabilities, foreground))
    elif foreground.threshold is not None:
        chance = Chance(mask, foreground.classes)
    return Beneath(image, stains, chance, probable)


def _view_beneath(sources: Sources, record: Record) -> View:
    """Return which image a mask was made of, and of the planes of a stack that one which the mask's plane shows."""
    described = read_metadata(sources.mask) if isinstance(sources.mask, Path) and sources.mask.exists() else {}
    made = described.get("planes")
    numbers: dict[str, int | None] = {}
    for axis, given in (("t", sources.t), ("z", sources.z)):
        listed = made.get(axis) if isinstance(made, dict) else None
        some = [one for one in listed if isinstance(one, int)] if isinstance(listed, list) else []
        numbers[axis] = some[given or 0] if (given or 0) < len(some) else given
    if numbers == {"t": None, "z": None}:
        return record.view
    return replace(record.view, t=numbers["t"], z=numbers["z"])


def _known_of(objects: GivenObjects, record: Record) -> Known:
    """Return what is known of objects that have their ids already.

    Raises:
        InputError: an id that the mask's metadata do not know.
    """
    if record.ids is None:
        return Known(None, ids=objects.ids)
    numbers = _of_ids(replace(objects.numbers, classes=objects.ids.astype(np.uint32)), record.ids, "the mask")
    return Known(numbers.classes, numbers.shares, ids=objects.ids)


def _check_shape(picture: Slide, mask: Slide) -> None:
    """Refuse a picture that is not of the mask's size.

    Raises:
        InputError: it is not.
    """
    if picture.shape != mask.shape:
        raise InputError(
            f"{picture.path} is {picture.shape[1]} × {picture.shape[0]} px, {mask.path} {mask.shape[1]} × "
            f"{mask.shape[0]}: need the image that the mask is of"
        )


def _open_probabilities(path: ImageSource, plane: View) -> Slide:
    """Open probabilities; of a file of several kinds, as `segment` writes it, the image that holds them."""
    kinds = read_metadata(path).get("write") if isinstance(path, Path) and path.is_file() else None
    if isinstance(kinds, list) and "probabilities" in kinds:
        return open_slide(path, replace(plane, series=kinds.index("probabilities")))
    return open_slide(path, plane)


def _object_planes(path: ImageSource, foreground: Foreground) -> tuple[int, ...] | None:
    """Return the classes whose probabilities add up to that of an object: those chosen, or all that are objects."""
    return foreground.classes or object_classes(tuple(read_record(path).names.values()))


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


def _described(objects: Numbered, record: Record) -> dict[str, Any]:
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


def _identity(
    mask: Slide,
    depth: Slide | None,
    probable: Slide | None,
    foreground: Foreground,
    labelling: Labelling,
) -> dict[str, Any]:
    """Return all that decides an id, as JSON gives it back."""
    decided = {
        "unettile": __version__,
        "content": "instances",
        "mask": Fingerprint.of(mask).to_dict(),
        "depth": None if depth is None else Fingerprint.of(depth).to_dict(),
        "foreground": asdict(foreground),
        "labelling": asdict(labelling),
    }
    if probable is not None and labelling.min_confidence:
        decided["probabilities"] = Fingerprint.of(probable).to_dict()
    found: dict[str, Any] = json.loads(json.dumps(decided))
    return found
