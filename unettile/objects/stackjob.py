"""The objects of a stack: of one plane after another, into one file of each kind.

plane --labelling--> ids --measuring, outlining--> rows and outlines, added to the open files
                      └--> a temporary file --when all are known--> the image of ids
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.atomic import atomic_group, naming, remove_leftovers
from unettile.box import Box
from unettile.images.byplane import merge_planes
from unettile.images.canvas import Canvas, Reader
from unettile.images.formats import label_images
from unettile.objects.files import About, Files
from unettile.objects.finding import describe, find_in_plane
from unettile.objects.found import Found, FoundInPlanes
from unettile.objects.idimage import check_canvases, confidence_canvas, confidence_values, ids_canvas, write_canvas
from unettile.objects.kept import Kept
from unettile.objects.opened import Method, open_mask
from unettile.objects.outputs import check_outputs
from unettile.objects.plane import Plane
from unettile.objects.products import Products, Sources
from unettile.objects.scan import OnProgress, Stage
from unettile.objects.stack import Stack
from unettile.objects.write import Context, Writer
from unettile.tiling import BlockGrid
from unettile.wording import counted


def find_in_stack(
    planes: Stack, method: Method, products: Products, *, overwrite: bool, stage: Stage, scratch: Path | None = None
) -> Found:
    """Find the objects of planes, each as it is alone, and write what is asked for; see `find_objects`.

    Raises:
        UsageError: options that do not go together, or a picture is asked for.
        InputError: an input that is refused, or an output that exists or cannot be written.
    """
    products.check_stack()
    planes.check()
    members = list(planes)
    canvas, about = _look(planes, members, method, products)
    there = check_outputs(products, planes.sources, canvas.metadata, overwrite, members[0][1])
    with ExitStack() as stack:
        stack.enter_context(label_images(products.paths))
        for path in products.paths:
            remove_leftovers(path)
        directory = scratch or products.paths[0].parent
        stack.enter_context(naming(directory))  # of what fails below, files without a name are all that is not named
        temporaries = stack.enter_context(atomic_group(products.paths, overwrite=overwrite))
        files = stack.enter_context(Files(products, temporaries, about))
        kept = stack.enter_context(Kept(BlockGrid(canvas.shape, method.block_edge), directory))
        work = _Work(method, products, directory, files, kept)
        with stage(counted(len(members), "plane")) as on_progress:
            for number, (sources, plane) in enumerate(members):
                work.do(sources, plane, _part_of(on_progress, number, len(members)))
        files.finish()
        work.write_images(canvas, planes, temporaries, stage)
    return replace(work.found.summed(), was_there=there, columns=files.columns)


class _Work:
    """What is done with planes, and what is kept of them."""

    def __init__(self, method: Method, products: Products, directory: Path, files: Files, kept: Kept) -> None:
        self._method, self._products, self._directory = method, products, directory
        self._files, self._kept = files, kept
        self.found = FoundInPlanes()
        self._described: list[dict[str, Any]] = []
        self._confidences: list[NDArray[np.uint8]] = []

    def do(self, sources: Sources, plane: Plane, stage: Stage) -> None:
        """Find the objects of a plane, and write all but their images."""
        products, images = self._products, self._products.labels is not None or self._products.confidence is not None
        with ExitStack() as stack:
            opened = open_mask(sources, self._method, products, stack)
            objects, known = find_in_plane(opened, self._method, self._directory, stage, stack)
            canvas = opened.canvas({}, products.zarr)
            context = Context(self._method, self._directory, opened, canvas, known, plane)
            writer = stack.enter_context(Writer(products, objects, context, self._files))
            writer.write({}, stage, self._kept)
            self.found.add(objects, opened.record, plane)
            if images:
                self._described.append(describe(objects, opened.record))
            if products.confidence is not None:
                assert objects.numbers.confidence is not None
                self._confidences.append(confidence_values(objects.numbers.confidence))

    def write_images(self, canvas: Canvas, planes: Stack, temporaries: Mapping[Path, Path], stage: Stage) -> None:
        """Write the images of the objects of all planes.

        Args:
            canvas: their shape, and all that decides an id.

        Raises:
            UsageError: a format that cannot hold so many ids.
            OSError: a file cannot be written.
        """
        if not self._described:
            return
        keys = set.intersection(*map(set, self._described))  # with very many classes in a plane, none are said
        described = [{key: one[key] for key in keys} for one in self._described]
        canvas = replace(canvas, metadata=canvas.metadata | merge_planes(planes.of_image, described))
        counts = [one["objects"] for one in described]
        ids = [partial(np.arange, count + 1, dtype=np.uint32) for count in counts]
        shares = [partial(np.ndarray.astype, values, np.uint32) for values in self._confidences]
        if (path := self._products.labels) is not None:
            self._write(path, temporaries[path], ids_canvas(canvas, max(counts)), ids, stage)
        if (path := self._products.confidence) is not None:
            self._write(path, temporaries[path], confidence_canvas(canvas), shares, stage)

    def _write(
        self,
        path: Path,
        temporary: Path,
        canvas: Canvas,
        values: Sequence[Callable[[], NDArray[np.uint32]]],
        stage: Stage,
    ) -> None:
        done, total = 0, canvas.shape[0] * canvas.shape[1] * canvas.images
        with stage(f"writing {path.name}") as on_progress, naming(path):

            def counting(read: Reader) -> Reader:
                def counted_read(box: Box) -> NDArray[Any]:
                    nonlocal done
                    done += box.area
                    on_progress(done, total)
                    return read(box)

                return counted_read

            readers = [counting(read) for read in self._kept.readers(values, canvas.dtype)]
            write_canvas(path, temporary, canvas, readers if canvas.images > 1 else readers[0])


def _look(
    planes: Stack, members: list[tuple[Sources, Plane]], method: Method, products: Products
) -> tuple[Canvas, About]:
    """Return what the images of ids will be, and what files say as a whole; refuse what cannot be, before any work."""
    files = all(
        isinstance(one, Path | None)
        for one in (planes.sources.mask, planes.sources.depth, planes.sources.probabilities)
    )
    identities = []
    for sources, _ in members[:1] if files else members:  # of a file, all planes have one fingerprint
        with ExitStack() as stack:
            opened = open_mask(sources, method, products, stack)
            identities.append(opened.identity)
    canvas = opened.canvas(merge_planes(planes.of_image, identities), products.zarr, planes.planes.shape)
    check_canvases(canvas, products.labels, products.confidence)
    shown = tuple(plane for _, plane in members)
    return canvas, About(shown, canvas.shape, opened.image_name, opened.given, opened.georeference)


def _part_of(on_progress: OnProgress, number: int, planes: int) -> Stage:
    """Return what takes the stages of one plane: labelling, and then writing, are half of it each."""
    halves = iter((0, 1))

    @contextmanager
    def stage(name: str) -> Iterator[OnProgress]:
        half = next(halves, 1)
        yield lambda done, total: on_progress(((2 * number + half) * total + done) // 2, planes * total)

    return stage
