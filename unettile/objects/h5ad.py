"""The table of objects as AnnData (.h5ad), which Scanpy and Squidpy open: figures in X, places in obsm["spatial"]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unettile.errors import InputError
from unettile.objects.columns import Columns
from unettile.objects.plane import COLUMNS
from unettile.objects.table import Table

NAMED = (*COLUMNS.values(), "id", "class", "class_name", "mask_id")
"""Columns that describe an object and are no measurement."""


def import_anndata() -> Any:
    """Return the library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import anndata
    except ImportError as error:
        raise InputError(
            "AnnData needs anndata, which is not installed: pip install 'unettile[anndata]', or write --table"
        ) from error
    return anndata


class H5adFile:
    """Writes all rows of tables, which are held in memory until the end.

    Args:
        path: overwritten; a temporary one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks: list[Columns] = []
        self._names: list[str] = []

    def add(self, table: Table) -> None:
        """Take the rows of a plane."""
        plane = table.plane.suffix[1:]
        for chunk in table.chunks():
            self._chunks.append(chunk)
            self._names += [f"{plane}_{number}" if plane else str(number) for number in chunk["id"].tolist()]

    def finish(self) -> None:
        """Write the file.

        Raises:
            OSError: it cannot be written.
        """
        import pandas

        columns = {name: np.concatenate([chunk[name] for chunk in self._chunks]) for name in self._chunks[0]}
        measured = [name for name in columns if name not in NAMED]
        described = {name: columns[name] for name in NAMED if name in columns}
        if "class_name" in columns:
            names, codes = np.unique(columns["class_name"].astype(str), return_inverse=True)
            kinds = pandas.Index([str(name) for name in names], dtype=object)  # anndata writes no other kind of text
            described["class_name"] = pandas.Categorical.from_codes(codes.reshape(-1), kinds)
        data = import_anndata().AnnData(
            X=np.stack([columns[name].astype(np.float64) for name in measured], axis=1),
            obs=pandas.DataFrame(described, index=pandas.Index(self._names, dtype=object)),
            var=pandas.DataFrame(index=pandas.Index(measured, dtype=object)),
            obsm={"spatial": np.stack([columns["centroid_x_px"], columns["centroid_y_px"]], axis=1)},
        )
        data.write_h5ad(self._path, compression="gzip")

    def close(self) -> None:
        """Let go of a file that is not finished."""
