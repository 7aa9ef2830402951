"""From a mask to its objects and all that is written of them: what `unettile objects` does."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from unettile.atomic import atomic_group, naming, remove_leftovers
from unettile.errors import UsageError
from unettile.images.formats import label_images
from unettile.objects.files import About, Files
from unettile.objects.finding import describe, find_in_plane
from unettile.objects.found import Found
from unettile.objects.idimage import check_canvases
from unettile.objects.labelling import BLOCK_EDGE
from unettile.objects.measures import BASIC, Measures
from unettile.objects.opened import Method, open_mask
from unettile.objects.outputs import check_outputs
from unettile.objects.plane import SINGLE
from unettile.objects.products import Products, Sources
from unettile.objects.rules import Foreground, Labelling
from unettile.objects.scan import Stage
from unettile.objects.stack import choose_stack
from unettile.objects.stackjob import find_in_stack
from unettile.objects.write import Context, Page, Writer


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
    method = Method(foreground, labelling, measures, block_edge)
    planes = choose_stack(sources)
    if planes is not None:
        return find_in_stack(planes, method, products, overwrite=overwrite, stage=stage, scratch=scratch)
    with ExitStack() as stack:
        opened = open_mask(sources, method, products, stack)
        check_canvases(opened.canvas({}, products.zarr), products.labels, products.confidence)
        there = check_outputs(products, sources, opened.identity, overwrite)
        stack.enter_context(label_images(products.paths))
        for path in products.paths:
            remove_leftovers(path)
        directory = scratch or products.paths[0].parent
        stack.enter_context(naming(directory))  # of what fails below, files without a name are all that is not named
        objects, known = find_in_plane(opened, method, directory, stage, stack)
        canvas = opened.canvas(opened.identity | describe(objects, opened.record), products.zarr)
        context = Context(method, directory, opened, canvas, known, page=page)
        about = About((SINGLE,), objects.shape, opened.image_name, sources.instances, opened.georeference)
        with (
            atomic_group(products.paths, overwrite=overwrite) as temporaries,
            Files(products, temporaries, about) as files,
            Writer(products, objects, context, files) as writer,
        ):
            writer.write(temporaries, stage)
            files.finish()
        return replace(Found.of(objects, opened.record), was_there=there, columns=files.columns)
