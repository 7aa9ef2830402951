"""What needs a library that is not there is refused in one line that names the extra, before any work."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.scenarios.conftest import Cli, cli

__all__ = ["cli"]


@pytest.mark.parametrize(
    ("option", "name", "module", "said"),
    [
        ("--table", "t.parquet", "pyarrow", "Parquet needs pyarrow, .* 'unettile\\[parquet\\]', or write .csv"),
        ("--geoparquet", "t.parquet", "pyarrow", "Parquet needs pyarrow, .* 'unettile\\[parquet\\]'"),
        ("--anndata", "t.h5ad", "anndata", "AnnData needs anndata, .* 'unettile\\[anndata\\]', or write --table"),
        ("--rois", "t.zip", "roifile", None),
        ("--geopackage", "t.gpkg", "pyogrio", None),
    ],
)
def test_a_library_that_is_missing(
    option: str, name: str, module: str, said: str | None, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ROI sets and GeoPackages are written without one."""
    mask = np.zeros((20, 20), np.uint8)
    mask[3:9, 3:9] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    for loaded in [one for one in sys.modules if one.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    done = cli("objects", tmp_path / "mask.tif", option, tmp_path / name)
    if said is None:
        assert done.code == 0 and (tmp_path / name).exists(), done.err
    else:
        assert done.code == 3 and done.err.count("\n") == 1 and not (tmp_path / name).exists()
        assert re.search(said, done.err), done.err
