"""Writing: the files of numbered objects, of which every part is read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
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
from unettile.images.record import Record
from unettile.objects.coco import write_coco
from unettile.objects.columns import Frames, Known
from unettile.objects.gather import Grouped
from unettile.objects.geojson import write_geojson
from unettile.objects.geoparquet import write_geoparquet
from unettile.objects.h5ad import write_h5ad
from unettile.objects.labelling import Objects
from unettile.objects.measures import Measures
from unettile.objects.measuring import Beneath, Measuring
from unettile.objects.outline import CornerFinder
from unettile.objects.overlay import Thumbnail, draw_overlay, write_overlay
from unettile.objects.products import Products
from unettile.objects.rois import write_rois
from unettile.objects.scan import Looker, OnProgress, Picture, Scan
from unettile.objects.table import Table, write_table
from unettile.tiling import BlockGrid

Stage = Callable[[str], AbstractContextManager[OnProgress]]
"""Opens a stage of the work that is named; gives what takes its progress."""


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
        mask_ids: ids in the mask, or None.
        image_name: of the image that the objects are in.
    """

    grid: BlockGrid
    directory: Path
    record: Record
    frames: Frames
    metadata: dict[str, Any]
    measures: Measures
    mask_ids: NDArray[np.uint32] | None = None
    image_name: str = ""


class Writer:
    """Writes the products of objects under temporary names.

    Args:
        products: what is asked for.
        objects: numbered.
        beneath: what lies under them.
        context: what else there is to know.
    """

    def __init__(self, products: Products, objects: Objects, beneath: Beneath, context: Context) -> None:
        self._products, self._objects, self._beneath, self._context = products, objects, beneath, context
        measures, directory, numbers = context.measures, context.directory, objects.numbers
        measured = products.measured
        self._measuring = Measuring(numbers.first, objects.shape, beneath, measures, directory) if measured else None
        outlined = products.outlined or (measured and measures.shape)
        self._corners = CornerFinder(directory, objects.count, objects.shape) if outlined else None
        self._thumbnail = Thumbnail(objects.shape) if products.overlay is not None else None
        self._pictures: list[Picture] = [] if self._measuring is None else self._measuring.pictures
        self._lookers: list[Looker] = [] if self._measuring is None else self._measuring.lookers
        self._lookers += [looker for looker in (self._corners, self._thumbnail) if looker is not None]

    def close(self) -> None:
        """Let go of temporary files."""
        for one in (self._measuring, self._corners):
            if one is not None:
                one.close()

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
        with (
            stage(f"writing {names}") as on_progress,
            Scan(self._objects, self._pictures, self._lookers, on_progress) as scan,
        ):
            if products.labels is not None:
                with naming(products.labels):
                    self._write_labels(products.labels, temporaries[products.labels], scan)
                scan.wait()
            else:
                scan.show_all(context.grid)
        corners = None if self._corners is None else self._corners.finish()
        with ThreadPoolExecutor(2, "unettile-write") as pool:
            texts = [
                pool.submit(self._write_table, temporaries, corners),
                pool.submit(self._write_outlines, temporaries, corners),
            ]
            if products.overlay is not None:
                assert self._thumbnail is not None
                with stage(f"drawing {products.overlay.name}") as on_progress, naming(products.overlay):
                    picture = draw_overlay(self._thumbnail, self._beneath.image, on_progress)
                    write_overlay(temporaries[products.overlay], picture)
            for text in texts:
                text.result()
        if products.confidence is not None:
            with stage(f"writing {products.confidence.name}") as on_progress, naming(products.confidence):
                self._write_confidence(products.confidence, temporaries[products.confidence], on_progress)

    def _write_table(self, temporaries: Mapping[Path, Path], corners: Grouped | None) -> None:
        products, context, numbers = self._products, self._context, self._objects.numbers
        if self._measuring is None:
            return
        with naming(context.directory):
            figures = self._measuring.finish(corners, numbers.confidence)
        known = Known(numbers.classes, numbers.shares, context.mask_ids)
        table = Table(figures, known, context.record, context.frames)
        if (path := products.table) is not None:
            with naming(path):
                write_table(temporaries[path], table, path.suffix.lower())
        if (path := products.anndata) is not None:
            with naming(path):
                write_h5ad(temporaries[path], table)

    def _write_outlines(self, temporaries: Mapping[Path, Path], corners: Grouped | None) -> None:
        products, classes, record = self._products, self._objects.numbers.classes, self._context.record
        if corners is None:
            return
        if (path := products.geojson) is not None:
            with naming(path):
                write_geojson(temporaries[path], corners, classes, record, products.object_type)
        if (path := products.rois) is not None:
            with naming(path):
                write_rois(temporaries[path], corners, record.downsample)
        if (path := products.coco) is not None:
            with naming(path):
                write_coco(temporaries[path], corners, classes, record, self._objects.shape, self._context.image_name)
        if (path := products.geoparquet) is not None:
            with naming(path):
                write_geoparquet(temporaries[path], corners, classes, record)

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
        size = self._context.frames.pixel_size_um
        return Canvas(self._objects.shape, (layer,), dtype, pixel_size_um=size, metadata=metadata)


def _write_image(path: Path, temporary: Path, canvas: Canvas, read: Reader) -> None:
    """Write a canvas in the format of `path` to a temporary name."""
    form = format_of(path)
    form.check(canvas)
    if form.is_directory:
        temporary.mkdir()
    form.write(temporary, canvas, read)
