"""Writing: the files of numbered objects, of which every part is read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.atomic import naming
from unettile.box import Box
from unettile.images.canvas import Canvas, Layer, Reader
from unettile.images.formats import format_of
from unettile.images.georeference import Georeference
from unettile.images.record import Record
from unettile.objects.anchors import AnchorFinder, margin_of
from unettile.objects.coco import write_coco
from unettile.objects.columns import Columns, Figures, Frames, Known
from unettile.objects.gallery import choose, draw_gallery
from unettile.objects.gather import Grouped
from unettile.objects.geojson import write_geojson
from unettile.objects.geopackage import write_geopackage
from unettile.objects.geoparquet import write_geoparquet
from unettile.objects.given import GivenObjects
from unettile.objects.h5ad import write_h5ad
from unettile.objects.measures import Measures
from unettile.objects.measuring import Beneath, Measuring
from unettile.objects.numbering import Numbered
from unettile.objects.outline import CornerFinder
from unettile.objects.overlay import Thumbnail, draw_overlay, write_overlay
from unettile.objects.polygons import Polygons
from unettile.objects.products import Products
from unettile.objects.rois import write_rois
from unettile.objects.scan import OnProgress, Scan
from unettile.objects.survey import Subject, Survey, survey
from unettile.objects.table import Table, write_table
from unettile.tiling import BlockGrid

Stage = Callable[[str], AbstractContextManager[OnProgress]]
"""Opens a stage of the work that is named; gives what takes its progress."""


Page = Callable[[Path, Survey], None]
"""Writes a page into a file."""


@dataclass(frozen=True)
class Context:
    """What the files need to know beside the objects.

    Args:
        grid: parts to go by where no image is written.
        directory: of temporary files.
        record: of the mask.
        frames: units of the table.
        metadata: of the image of ids.
        measures: what the table holds.
        known: of the objects, for the table.
        image_name: of the image that the objects are in.
        georeference: where on earth the mask's pixels lie, or None.
        page: writes the page of a report.
    """

    grid: BlockGrid
    directory: Path
    record: Record
    frames: Frames
    metadata: dict[str, Any]
    measures: Measures
    known: Known
    image_name: str = ""
    georeference: Georeference | None = None
    page: Page | None = None


class Writer:
    """Writes the products of objects under temporary names.

    Args:
        products: what is asked for.
        objects: numbered.
        beneath: what lies under them.
        context: what else there is to know.
    """

    def __init__(self, products: Products, objects: Numbered, beneath: Beneath, context: Context) -> None:
        self._products, self._objects, self._beneath, self._context = products, objects, beneath, context
        self._places = products.places(context.georeference)
        measures, directory, count = context.measures, context.directory, objects.count
        self.columns: Columns | None = None
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

    def write(self, temporaries: Mapping[Path, Path], stage: Stage) -> None:
        """Write every product under its temporary name.

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
            if products.labels is not None:
                with naming(products.labels):
                    self._write_labels(products.labels, temporaries[products.labels], scan)
                scan.wait()
            else:
                scan.show_all(context.grid)
        corners = None if self._corners is None else self._corners.finish()
        with ThreadPoolExecutor(3, "unettile-write") as pool:
            figures = None if measuring is None else pool.submit(measuring.finish, corners, parted=self._parted)
            texts = [pool.submit(self._write_outlines, temporaries, corners)]
            if figures is not None:
                texts.append(pool.submit(self._write_table, temporaries, figures))
            self._draw(temporaries, stage, figures)
            for text in texts:
                text.result()
        if products.confidence is not None:
            with stage(f"writing {products.confidence.name}") as on_progress, naming(products.confidence):
                self._write_confidence(products.confidence, temporaries[products.confidence], on_progress)

    def _draw(self, temporaries: Mapping[Path, Path], stage: Stage, figures: Future[Figures] | None) -> None:
        """Draw pictures and the page."""
        products, context, image = self._products, self._context, self._beneath.image
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
            subject = Subject(context.image_name, self._objects.shape, context.frames.pixel_size_um)
            with stage(f"writing {path.name}"), naming(path):
                context.page(temporaries[path], survey(figures.result(), context.known, context.record, subject))

    def _write_table(self, temporaries: Mapping[Path, Path], figures: Future[Figures]) -> None:
        path, context = self._products.table, self._context
        table = Table(figures.result(), context.known, context.record, context.frames)
        if path is not None:
            with naming(path):
                write_table(temporaries[path], table, path.suffix.lower())
        if (path := self._products.anndata) is not None:
            with naming(path):
                write_h5ad(temporaries[path], table)
        if self._products.columns:
            self.columns = table.columns()

    def _write_outlines(self, temporaries: Mapping[Path, Path], corners: Grouped | None) -> None:
        products, classes, record = self._products, self._objects.numbers.classes, self._context.record
        if corners is None or not products.outlined:
            return
        anchors = None if self._anchors is None else self._anchors.finish()
        polygons = Polygons(corners, parted=self._parted, anchors=anchors, tolerance=products.simplify)
        if (path := products.geojson) is not None:
            with naming(path):
                write_geojson(temporaries[path], polygons, classes, record, products.object_type, self._places)
        if (path := products.rois) is not None:
            with naming(path):
                write_rois(temporaries[path], polygons, record.downsample)
        if (path := products.coco) is not None:
            shape, name = self._objects.shape, self._context.image_name
            with naming(path):
                write_coco(temporaries[path], polygons.exact, classes, record, shape, name)
        if (path := products.geoparquet) is not None:
            with naming(path):
                write_geoparquet(temporaries[path], polygons, classes, record)
        if (path := products.geopackage) is not None:
            with naming(path):
                write_geopackage(temporaries[path], polygons, classes, record, self._context.georeference)

    @property
    def _parted(self) -> bool:
        """Whether objects may have several parts: those that are found are connected."""
        return isinstance(self._objects, GivenObjects)

    @property
    def _margin(self) -> int:
        return 1 if self._anchors is None else margin_of(self._products.simplify)

    def _write_labels(self, path: Path, temporary: Path, scan: Scan) -> None:
        """Write the ids: 16 bits where they fit, else 32."""
        dtype = np.dtype(np.uint16 if self._objects.count < 2**16 else np.uint32)
        layer = Layer("instances", reduction="majority", names=("background",))
        canvas = self._canvas(layer, dtype, self._context.metadata)
        _write_image(path, temporary, canvas, lambda box: scan.show(box, dtype))

    def _write_confidence(self, path: Path, temporary: Path, on_progress: OnProgress) -> None:
        """Write the mean probability of every object, in 1/255."""
        objects, done = self._objects, 0
        assert objects.numbers.confidence is not None
        values = np.concatenate([[0.0], np.rint(255 * objects.numbers.confidence)]).astype(np.uint8)

        def read(box: Box) -> NDArray[Any]:
            nonlocal done
            done += box.area
            on_progress(done, objects.shape[0] * objects.shape[1])
            return values[objects.read(box)]

        metadata = {key: value for key, value in self._context.metadata.items() if not key.startswith("id_")}
        canvas = self._canvas(Layer("confidence", reduction="mean"), values.dtype, metadata | {"content": "confidence"})
        _write_image(path, temporary, canvas, read)

    def _canvas(self, layer: Layer, dtype: np.dtype[Any], metadata: dict[str, Any]) -> Canvas:
        size, georeference = self._context.frames.pixel_size_um, self._context.georeference
        return Canvas(
            self._objects.shape,
            (layer,),
            dtype,
            pixel_size_um=size,
            metadata=metadata,
            georeference=georeference,
            zarr=self._products.zarr,
        )


def _write_image(path: Path, temporary: Path, canvas: Canvas, read: Reader) -> None:
    """Write a canvas in the format of `path` to a temporary name."""
    form = format_of(path)
    form.check(canvas)
    if form.is_directory:
        temporary.mkdir()
    form.write(temporary, canvas, read)
