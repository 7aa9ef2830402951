"""Writing: the files of the numbered objects of a plane, of which every part is read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.atomic import naming
from unettile.box import Box
from unettile.images.canvas import Canvas
from unettile.objects.anchors import AnchorFinder, margin_of
from unettile.objects.columns import Figures, Known
from unettile.objects.files import Files
from unettile.objects.gallery import choose, draw_gallery
from unettile.objects.gather import Grouped
from unettile.objects.given import GivenObjects
from unettile.objects.idimage import confidence_canvas, confidence_values, ids_canvas, write_canvas
from unettile.objects.kept import Kept
from unettile.objects.measuring import Measuring
from unettile.objects.numbering import Numbered
from unettile.objects.opened import Method, Opened
from unettile.objects.outline import CornerFinder
from unettile.objects.overlay import Thumbnail, draw_overlay, write_overlay
from unettile.objects.plane import SINGLE, Plane
from unettile.objects.polygons import Outlined, Polygons
from unettile.objects.products import Products
from unettile.objects.scan import OnProgress, Scan, Stage
from unettile.objects.survey import Subject, Survey, survey
from unettile.objects.table import Table
from unettile.tiling import BlockGrid

Page = Callable[[Path, Survey], None]
"""Writes a page into a file."""


@dataclass(frozen=True)
class Context:
    """What is known of the objects beside them.

    Args:
        method: how they were found, and what is measured.
        directory: of temporary files.
        opened: what they are in.
        canvas: shape and metadata of the images of ids and of confidences.
        known: of the objects, for the table.
        plane: of a stack.
        page: writes the page of a report.
    """

    method: Method
    directory: Path
    opened: Opened
    canvas: Canvas
    known: Known
    plane: Plane = SINGLE
    page: Page | None = None

    @property
    def grid(self) -> BlockGrid:
        """Parts to go by where no image is written."""
        return BlockGrid(self.opened.mask.shape, self.method.block_edge)


class Writer:
    """Writes the products of the objects of a plane.

    Args:
        products: what is asked for.
        objects: numbered.
        context: what else there is to know.
        files: tables and outlines, which are open.
    """

    def __init__(self, products: Products, objects: Numbered, context: Context, files: Files) -> None:
        self._products, self._objects, self._context, self._files = products, objects, context, files
        measures, directory, count = context.method.measures, context.directory, objects.count
        beneath = context.opened.beneath
        self._measuring = Measuring(directory, objects, beneath, measures) if products.measured else None
        outlined = products.outlined or (products.tabled and measures.shape)
        self._corners = CornerFinder(directory, count, objects.shape) if outlined else None
        anchored = products.outlined and products.simplify
        self._anchors = AnchorFinder(directory, count, objects.shape, products.simplify) if anchored else None
        self._thumbnail = Thumbnail(objects.shape) if products.overlay is not None else None

    def close(self) -> None:
        """Let go of temporary files."""
        for part in (self._measuring, self._corners, self._anchors):
            if part is not None:
                part.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, temporaries: Mapping[Path, Path], stage: Stage, kept: Kept | None = None) -> None:
        """Write every product: images and pictures under their temporary names, the rest into the open files.

        Args:
            kept: of a stack, takes the ids, if an image of them is asked for; it is written when all planes are done.

        Raises:
            InputError: the image, or the probabilities, are damaged.
            OSError: a file cannot be written.
        """
        products, context = self._products, self._context
        names = ", ".join(path.name for path in products.paths)
        measuring = self._measuring
        pictures = [] if measuring is None else measuring.pictures
        measured = [] if measuring is None else measuring.lookers
        found = (*measured[:1], self._corners, self._anchors, self._thumbnail, *measured[1:])
        lookers = [looker for looker in found if looker is not None]
        with (
            stage(f"writing {names}" if names else "measuring") as on_progress,
            Scan(self._objects, pictures, lookers, on_progress, self._margin) as scan,
        ):
            if kept is not None and (products.labels is not None or products.confidence is not None):
                spill = kept.begin()
                for block in context.grid:
                    spill.write(block.index, scan.show(block.box, np.dtype(np.uint32)), 0)
            elif products.labels is not None:
                with naming(products.labels):
                    canvas = ids_canvas(context.canvas, self._objects.count)
                    write_canvas(
                        products.labels,
                        temporaries[products.labels],
                        canvas,
                        lambda box: scan.show(box, canvas.dtype),
                    )
            else:
                scan.show_all(context.grid)
            scan.wait()
        corners = None if self._corners is None else self._corners.finish()
        with ThreadPoolExecutor(3, "unettile-write") as pool:
            figures = None if measuring is None else pool.submit(measuring.finish, corners, parted=self._parted)
            texts = [pool.submit(self._add_outlines, corners)]
            if figures is not None:
                texts.append(pool.submit(self._add_table, figures))
            self._draw(temporaries, stage, figures)
            for text in texts:
                text.result()
        if products.confidence is not None and kept is None:
            with stage(f"writing {products.confidence.name}") as on_progress, naming(products.confidence):
                self._write_confidence(products.confidence, temporaries[products.confidence], on_progress)

    def _draw(self, temporaries: Mapping[Path, Path], stage: Stage, figures: Future[Figures] | None) -> None:
        """Draw pictures and the page."""
        products, context, opened = self._products, self._context, self._context.opened
        image, record = opened.beneath.image, opened.record
        if (path := products.overlay) is not None:
            assert self._thumbnail is not None
            with stage(f"drawing {path.name}") as on_progress, naming(path):
                write_overlay(temporaries[path], draw_overlay(self._thumbnail, image, on_progress))
        if (path := products.gallery) is not None:
            assert figures is not None
            with stage(f"drawing {path.name}") as on_progress, naming(path):
                rows = choose(figures.result(), products.gallery_objects)
                ids = context.known.ids
                write_overlay(temporaries[path], draw_gallery(self._objects, image, rows, ids, on_progress))
        if (path := products.report) is not None:
            assert figures is not None and context.page is not None
            subject = Subject(opened.image_name, self._objects.shape, opened.pixel_size_um)
            with stage(f"writing {path.name}"), naming(path):
                context.page(temporaries[path], survey(figures.result(), context.known, record, subject))

    def _add_table(self, figures: Future[Figures]) -> None:
        context, opened = self._context, self._context.opened
        self._files.add_table(Table(figures.result(), context.known, opened.record, opened.frames, context.plane))

    def _add_outlines(self, corners: Grouped | None) -> None:
        products, context = self._products, self._context
        if corners is None or not products.outlined:
            return
        anchors = None if self._anchors is None else self._anchors.finish()
        polygons = Polygons(corners, parted=self._parted, anchors=anchors, tolerance=products.simplify)
        classes, record = self._objects.numbers.classes, context.opened.record
        self._files.add_outlines(Outlined(polygons, classes, record, context.plane))

    @property
    def _parted(self) -> bool:
        """Whether objects may have several parts: those that are found are connected."""
        return isinstance(self._objects, GivenObjects)

    @property
    def _margin(self) -> int:
        return 1 if self._anchors is None else margin_of(self._products.simplify)

    def _write_confidence(self, path: Path, temporary: Path, on_progress: OnProgress) -> None:
        """Write the mean probability of every object, in 1/255."""
        objects, done = self._objects, 0
        assert objects.numbers.confidence is not None
        values = confidence_values(objects.numbers.confidence)

        def read(box: Box) -> NDArray[Any]:
            nonlocal done
            done += box.area
            on_progress(done, objects.shape[0] * objects.shape[1])
            return values[objects.read(box)]

        write_canvas(path, temporary, confidence_canvas(self._context.canvas), read)
