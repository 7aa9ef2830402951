"""The table of objects as AnnData (.h5ad), which Scanpy and Squidpy open: figures in X, places in obsm["spatial"]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unettile.errors import InputError
from unettile.objects.table import Table

NAMED = ("id", "class", "class_name", "mask_id")
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


def write_h5ad(path: Path, table: Table) -> None:
    """Write all rows of a table, which are held in memory at once.

    Args:
        path: overwritten; a temporary one.
        table: of the objects.

    Raises:
        InputError: anndata is not installed.
        OSError: the file cannot be written.
    """
    import pandas

    chunks = list(table.chunks())
    columns = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    measured = [name for name in columns if name not in NAMED]
    described = {name: columns[name] for name in NAMED if name in columns}
    if "class_name" in columns:
        names, codes = np.unique(columns["class_name"].astype(str), return_inverse=True)
        kinds = pandas.Index([str(name) for name in names], dtype=object)  # anndata writes no other kind of text
        described["class_name"] = pandas.Categorical.from_codes(codes.reshape(-1), kinds)
    index = pandas.Index([str(number) for number in columns["id"].tolist()], dtype=object)
    data = import_anndata().AnnData(
        X=np.stack([columns[name].astype(np.float64) for name in measured], axis=1),
        obs=pandas.DataFrame(described, index=index),
        var=pandas.DataFrame(index=pandas.Index(measured, dtype=object)),
        obsm={"spatial": np.stack([columns["centroid_x_px"], columns["centroid_y_px"]], axis=1)},
    )
    data.write_h5ad(path, compression="gzip")
