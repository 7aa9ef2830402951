"""Writing: the files of numbered objects, of which every part is read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from unettile.images.georeference import Georeference
from unettile.images.record import Record
from unettile.images.slide import Slide
from unettile.objects.certainty import Chance, Rims
from unettile.objects.coco import write_coco
from unettile.objects.columns import Channels, Columns, Confidence, Figures, Frames, Known
from unettile.objects.gather import Grouped
from unettile.objects.geojson import write_geojson
from unettile.objects.geoparquet import write_geoparquet
from unettile.objects.h5ad import write_h5ad
from unettile.objects.intensity import Totals, Values
from unettile.objects.measure import Summing
from unettile.objects.measures import Measures
from unettile.objects.neighbours import nearest
from unettile.objects.numbering import Numbered
from unettile.objects.outline import CornerFinder
from unettile.objects.overlay import Thumbnail, draw_overlay, write_overlay
from unettile.objects.products import Products
from unettile.objects.rois import write_rois
from unettile.objects.scan import Looker, OnProgress, Picture, Scan
from unettile.objects.stains import Unmixed
from unettile.objects.table import Table, write_table
from unettile.tiling import BlockGrid

Stage = Callable[[str], AbstractContextManager[OnProgress]]
"""Opens a stage of the work that is named; gives what takes its progress."""


@dataclass(frozen=True)
class Beneath:
    """What lies under the objects.

    Args:
        image: for intensities and the overlay.
        stains: the same image's dyes.
        chance: the probability of an object.
        probable: the file that it is read from, if that is not the mask.
    """

    image: Slide | None = None
    stains: Unmixed | None = None
    chance: Chance | None = None
    probable: Slide | None = None


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
        measured = products.measured
        self.columns: Columns | None = None
        self._summing = Summing(directory, objects.numbers.first, objects.shape) if measured else None
        outlined = products.outlined or (measured and measures.shape)
        self._corners = CornerFinder(directory, count, objects.shape) if outlined else None
        self._thumbnail = Thumbnail(objects.shape) if products.overlay is not None else None
        self._pictures: list[Picture] = []
        self._channels: list[Channels] = []
        self._rims: Rims | None = None
        if measured:
            self._look_beneath()
        lookers = (self._summing, self._corners, self._thumbnail, *self._channel_lookers(), self._rims)
        self._lookers: list[Looker] = [looker for looker in lookers if looker is not None]

    def close(self) -> None:
        """Let go of temporary files."""
        for looker in self._lookers:
            if isinstance(looker, CornerFinder | Values):
                looker.close()

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
            stage(f"writing {names}" if names else "measuring") as on_progress,
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
        path, context = self._products.table, self._context
        if self._summing is None:
            return
        sums = self._summing.finish()
        for channels in self._channels:
            if isinstance(channels.values, Values):
                channels.values.finish()
        shape = context.measures.shape
        figures = Figures(
            sums,
            corners if shape else None,
            nearest(sums.centroids()) if shape else None,
            tuple(self._channels),
            self._confidence(),
        )
        table = Table(figures, context.known, context.record, context.frames)
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
        if corners is None:
            return
        if (path := products.geojson) is not None:
            with naming(path):
                places = self._places
                write_geojson(temporaries[path], corners, classes, record, products.object_type, places)
        if (path := products.rois) is not None:
            with naming(path):
                write_rois(temporaries[path], corners, record.downsample)
        if (path := products.coco) is not None:
            with naming(path):
                write_coco(temporaries[path], corners, classes, record, self._objects.shape, self._context.image_name)
        if (path := products.geoparquet) is not None:
            with naming(path):
                write_geoparquet(temporaries[path], corners, classes, record)

    def _look_beneath(self) -> None:
        """Choose who looks at the pictures under the objects."""
        beneath = self._beneath
        if beneath.image is not None:
            self._add_channels(beneath.image, [f"intensity_{k}" for k in range(beneath.image.channels)])
        if beneath.stains is not None:
            self._add_channels(beneath.stains, [f"od_{dye}" for dye in beneath.stains.dyes])
        if beneath.chance is not None:
            self._rims = Rims(self._context.directory, self._objects.count, len(self._pictures))
            self._pictures.append(beneath.chance)

    def _add_channels(self, picture: Picture, names: Sequence[str]) -> None:
        measures, directory, number = self._context.measures, self._context.directory, len(self._pictures)
        values: Totals | Values
        if measures.intensity or picture.dtype.kind == "f":
            origin = self._objects.numbers.first
            values = Values(directory, origin, self._objects.shape[1], picture, number)
        else:
            values = Totals(directory, self._objects.count, picture, number)
        percentiles = measures.percentiles if measures.intensity else None
        self._channels.append(Channels(tuple(names), values, percentiles))
        self._pictures.append(picture)

    def _channel_lookers(self) -> list[Looker]:
        return [channels.values for channels in self._channels]

    def _confidence(self) -> Confidence | None:
        inside, chance = self._objects.numbers.confidence, self._beneath.chance
        if inside is None or chance is None or self._rims is None:
            return None
        return Confidence(inside, self._rims, chance.scale)

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
            self._objects.shape, (layer,), dtype, pixel_size_um=size, metadata=metadata, georeference=georeference
        )


def _write_image(path: Path, temporary: Path, canvas: Canvas, read: Reader) -> None:
    """Write a canvas in the format of `path` to a temporary name."""
    form = format_of(path)
    form.check(canvas)
    if form.is_directory:
        temporary.mkdir()
    form.write(temporary, canvas, read)
