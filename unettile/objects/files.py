"""Files: tables and outlines that are being written, to which the objects of one plane after another are added.

A single image is one plane, of which they say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from unettile.atomic import naming
from unettile.images.georeference import Georeference
from unettile.objects.coco import CocoFile
from unettile.objects.columns import Columns
from unettile.objects.geojson import GeoJsonFile
from unettile.objects.geopackage import GeoPackageFile
from unettile.objects.geoparquet import GeoParquetFile
from unettile.objects.h5ad import H5adFile
from unettile.objects.plane import Plane
from unettile.objects.polygons import Outlined
from unettile.objects.products import Products
from unettile.objects.rois import RoiFile
from unettile.objects.table import Table, open_table


class _OfTables(Protocol):
    def add(self, table: Table) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class _OfOutlines(Protocol):
    def add(self, found: Outlined) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class About:
    """What files say as a whole.

    Args:
        planes: in the order in which they are added.
        shape: of each, px.
        image_name: of the image that the objects are in.
        parted: objects may have several parts that are not connected.
        georeference: where on earth the mask's pixels lie, or None.
    """

    planes: Sequence[Plane]
    shape: tuple[int, int]
    image_name: str
    parted: bool
    georeference: Georeference | None


class Files:
    """The files of tables and outlines among products.

    Args:
        products: what is asked for.
        temporaries: under which name each is written.
        about: what else there is to know.

    Raises:
        InputError: a library is missing.
        OSError: a file cannot be written.
    """

    def __init__(self, products: Products, temporaries: Mapping[Path, Path], about: About) -> None:
        self._columns: list[Columns] | None = [] if products.columns else None
        self._tables: list[tuple[Path, _OfTables]] = []
        self._outlines: list[tuple[Path, _OfOutlines]] = []
        self._stack = ExitStack()
        names, parted, georeference = list(about.planes[0].numbers), about.parted, about.georeference
        tables: tuple[tuple[Path | None, Callable[[Path], _OfTables]], ...] = (
            (products.table, lambda path: open_table(path, _ending(products.table))),
            (products.anndata, H5adFile),
        )
        outlines: tuple[tuple[Path | None, Callable[[Path], _OfOutlines]], ...] = (
            (
                products.geojson,
                lambda path: GeoJsonFile(path, products.object_type, products.places(georeference)),
            ),
            (products.rois, RoiFile),
            (products.coco, lambda path: CocoFile(path, about.planes, about.shape, about.image_name)),
            (products.geoparquet, lambda path: GeoParquetFile(path, names, parted=parted)),
            (products.geopackage, lambda path: GeoPackageFile(path, names, georeference, parted=parted)),
        )
        with self._stack:
            for path, open_rows in tables:
                if path is not None:
                    with naming(path):
                        self._tables.append((path, open_rows(temporaries[path])))
                    self._stack.callback(self._tables[-1][1].close)
            for path, open_polygons in outlines:
                if path is not None:
                    with naming(path):
                        self._outlines.append((path, open_polygons(temporaries[path])))
                    self._stack.callback(self._outlines[-1][1].close)
            self._stack = self._stack.pop_all()  # all are open: they stay so

    def add_table(self, table: Table) -> None:
        """Write the rows of a plane.

        Raises:
            OSError: a file cannot be written.
        """
        for path, rows in self._tables:
            with naming(path):
                rows.add(table)
        if self._columns is not None:
            self._columns.append(table.columns())

    def add_outlines(self, found: Outlined) -> None:
        """Write the outlines of a plane.

        Raises:
            InputError: a place that a map's coordinates do not have.
            OSError: a file cannot be written.
        """
        for path, polygons in self._outlines:
            with naming(path):
                polygons.add(found)

    def finish(self) -> None:
        """Write the ends of all files.

        Raises:
            OSError: a file cannot be written.
        """
        for path, file in self._open():
            with naming(path):
                file.finish()

    @property
    def columns(self) -> Columns | None:
        """The rows of all planes, if they were asked for."""
        if not self._columns:
            return None
        return {name: np.concatenate([one[name] for one in self._columns]) for name in self._columns[0]}

    def _open(self) -> Iterator[tuple[Path, _OfTables | _OfOutlines]]:
        yield from self._tables
        yield from self._outlines

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _ending(path: Path | None) -> str:
    return "" if path is None else path.suffix.lower()
