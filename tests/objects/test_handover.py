"""Outlines in the forms of other programs, opened by those programs' own readers: they cover the objects' pixels."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import geopandas
import numpy as np
import pandas
import pytest
import roifile
import shapely
import tifffile
from numpy.typing import NDArray
from pycocotools.coco import COCO

import unettile
from tests.objects.test_job import field, silent
from unettile.errors import UsageError
from unettile.objects.job import find_objects
from unettile.objects.polygons import Outline
from unettile.objects.products import Products, Sources
from unettile.objects.rois import roi_bytes
from unettile.objects.rules import Foreground, Labelling

SHAPE = (90, 120)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """Blobs of two classes, one of them with holes."""
    classes = np.where(field(SHAPE) > 0.55, 1, 0).astype(np.uint8)
    classes[5:40, 5:60] = 2
    classes[10:20, 10:20] = classes[25, 30] = classes[26, 31] = 0
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, classes)
    return path


def make(mask: Path, folder: Path, edge: int, **names: str) -> NDArray[np.integer]:
    folder.mkdir()
    products = Products(folder / "ids.tif", **{kind: folder / name for kind, name in names.items()})
    find_objects(Sources(mask), Foreground(), Labelling(), products, overwrite=False, stage=silent, block_edge=edge)
    ids: NDArray[np.integer] = tifffile.imread(folder / "ids.tif")
    return ids


def covered(rings: list[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Return the pixels whose middles lie inside an odd number of rings."""
    y, x = np.indices(SHAPE)
    inside = np.zeros(SHAPE, bool)
    for ring in rings:
        inside ^= shapely.contains_xy(shapely.Polygon(ring), x + 0.5, y + 0.5)
    return inside


def test_imagej_opens_the_regions(tmp_path: Path, mask: Path) -> None:
    ids = make(mask, tmp_path / "a", 32, rois="cells.zip")
    regions = roifile.roiread(tmp_path / "a" / "cells.zip")
    assert len(regions) == ids.max()
    for number, region in enumerate(regions, start=1):
        rings = region.coordinates(multi=True)
        np.testing.assert_array_equal(covered(rings), ids == number)
    make(mask, tmp_path / "b", 500, rois="cells.zip")
    assert (tmp_path / "a" / "cells.zip").read_bytes() == (tmp_path / "b" / "cells.zip").read_bytes()


def test_a_region_far_away_or_reduced_keeps_its_place() -> None:
    ring = np.array([[70000, 40000], [70010, 40000], [70010, 40005], [70000, 40005]])
    region = roifile.ImagejRoi.frombytes(roi_bytes(Outline(1, ((ring,),))))
    np.testing.assert_array_equal(region.coordinates(), ring)
    region = roifile.ImagejRoi.frombytes(roi_bytes(Outline(1, ((ring // 1000,),)), (2.0, 2.5)))
    np.testing.assert_array_equal(region.coordinates(), ring // 1000 * (2.5, 2.0))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself
def test_coco_s_own_reader_gives_the_pixels(tmp_path: Path, mask: Path) -> None:
    ids = make(mask, tmp_path / "a", 32, coco="cells.json")
    found = COCO(tmp_path / "a" / "cells.json")
    assert found.dataset["images"] == [{"id": 1, "file_name": "mask.tif", "width": 120, "height": 90}]
    assert [kind["name"] for kind in found.dataset["categories"]] == ["class 1", "class 2"]
    entries = found.dataset["annotations"]
    assert [entry["id"] for entry in entries] == list(range(1, int(ids.max()) + 1))
    assert any(isinstance(entry["segmentation"], dict) for entry in entries), "one has holes"
    classes = tifffile.imread(mask)
    for entry in entries:
        own = ids == entry["id"]
        np.testing.assert_array_equal(found.annToMask(entry), own)
        rows, columns = np.nonzero(own)
        top, left = int(rows.min()), int(columns.min())
        assert entry["bbox"] == [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
        assert entry["area"] == own.sum() and entry["category_id"] == classes[own][0]


def test_geopandas_opens_the_polygons(tmp_path: Path, mask: Path) -> None:
    ids = make(mask, tmp_path / "a", 32, geoparquet="cells.parquet", geojson="cells.geojson")
    frame = geopandas.read_parquet(tmp_path / "a" / "cells.parquet")
    assert frame["id"].tolist() == list(range(1, int(ids.max()) + 1)) and frame.crs is None
    assert frame.geometry.area.tolist() == [np.count_nonzero(ids == number) for number in frame["id"]]
    features = json.loads((tmp_path / "a" / "cells.geojson").read_text("utf-8"))["features"]
    for polygon, feature in zip(frame.geometry, features, strict=True):
        assert polygon.is_valid and polygon.equals(shapely.geometry.shape(feature["geometry"]))
    assert set(frame["class_name"]) == {"class 1", "class 2"}


def test_a_mask_without_objects_gives_files_without_objects(tmp_path: Path) -> None:
    mask = tmp_path / "empty.tif"
    tifffile.imwrite(mask, np.zeros((9, 9), np.uint8))
    make(mask, tmp_path / "a", 32, coco="c.json", geoparquet="c.parquet", rois="c.zip", anndata="c.h5ad")
    assert COCO(tmp_path / "a" / "c.json").dataset["annotations"] == []
    assert len(geopandas.read_parquet(tmp_path / "a" / "c.parquet")) == 0


@pytest.mark.parametrize("names", [{"rois": "a.roi"}, {"coco": "a.csv"}, {"geoparquet": "a.gpkg"}, {"anndata": "a.h5"}])
def test_other_endings_are_refused(tmp_path: Path, names: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="need a name that ends with"):
        Products(**{kind: tmp_path / name for kind, name in names.items()})


def test_anndata_holds_the_table(tmp_path: Path, mask: Path) -> None:
    make(mask, tmp_path / "a", 32, anndata="cells.h5ad", table="cells.parquet")
    found = anndata.read_h5ad(tmp_path / "a" / "cells.h5ad")
    rows = pandas.read_parquet(tmp_path / "a" / "cells.parquet")
    assert found.obs_names.tolist() == [str(number) for number in rows["id"]]
    assert found.obs["class_name"].tolist() == rows["class_name"].tolist()
    assert found.var_names.tolist() == [name for name in rows if name not in ("id", "class", "class_name")]
    np.testing.assert_array_equal(found.X[:, found.var_names.get_loc("area_px")], rows["area_px"])
    np.testing.assert_array_equal(found.obsm["spatial"], rows[["centroid_x_px", "centroid_y_px"]])
    make(mask, tmp_path / "b", 500, anndata="cells.h5ad")
    assert (tmp_path / "a" / "cells.h5ad").read_bytes() == (tmp_path / "b" / "cells.h5ad").read_bytes()


def test_ids_that_are_measured_as_they_are_have_tables_without_classes(tmp_path: Path) -> None:
    ids = np.zeros((40, 50), np.uint16)
    ids[3:9, 4:9], ids[20:30, 20:40] = 5, 9
    files = {name: tmp_path / f"cells.{name}" for name in ("csv", "h5ad")}
    cells = unettile.objects(ids, instances=True, table=files["csv"], anndata=files["h5ad"])
    rows = pandas.read_csv(files["csv"])
    assert list(rows.columns) == list(cells.keys()) and "class_name" not in rows
    assert rows["id"].tolist() == [5, 9] and rows["area_px"].tolist() == [30, 200]
    assert anndata.read_h5ad(files["h5ad"]).obs_names.tolist() == ["5", "9"]
