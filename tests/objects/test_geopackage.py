"""GeoPackages of objects, as GDAL reads them."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import tifffile
from rasterio.transform import Affine, from_origin

import unettile
from unettile.errors import InputError

IDS = np.zeros((40, 50), np.uint8)
IDS[5:20, 5:20], IDS[8:12, 8:12], IDS[25:35, 10:45] = 1, 0, 2
PLACE = from_origin(500_000.0, 5_800_000.0, 0.5, 0.25)


def test_polygons_cover_their_objects(tmp_path: Path) -> None:
    """In px; a hole is a hole; of an object of two parts there are two; the same objects give the same bytes."""
    ids = IDS.copy()
    ids[0:3, 0:3] = 2
    tifffile.imwrite(tmp_path / "ids.tif", ids)
    for name in "ab":
        unettile.objects(tmp_path / "ids.tif", geopackage=tmp_path / f"{name}.gpkg", instances=True)
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "b.gpkg").read_bytes()
    found = geopandas.read_file(tmp_path / "a.gpkg")
    assert list(found.columns) == ["class", "class_name", "geometry"] and len(found) == 2
    assert list(found.geometry.geom_type) == ["Polygon", "MultiPolygon"] and found.is_valid.all()
    shapes = zip(found.geometry, (1, 2), strict=True)
    assert np.array_equal(rasterio.features.rasterize(shapes, ids.shape, transform=Affine.identity()), ids)
    unettile.objects(tmp_path / "ids.tif", geopackage=tmp_path / "a.gpkg", instances=True)
    unettile.objects(IDS, geopackage=tmp_path / "c.gpkg", simplify=1.0)
    (tmp_path / "d.gpkg").write_text("another")
    with pytest.raises(InputError, match="exists and is another"):
        unettile.objects(IDS, geopackage=tmp_path / "d.gpkg")


def test_polygons_of_a_map_lie_on_it(tmp_path: Path) -> None:
    form = {"driver": "GTiff", "width": 50, "height": 40, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "map.tif", "w", **form, crs="EPSG:32633", transform=PLACE) as file:
        file.write(IDS[None])
    unettile.objects(tmp_path / "map.tif", geopackage=tmp_path / "a.gpkg", instances=True)
    found = geopandas.read_file(tmp_path / "a.gpkg")
    assert found.crs == "EPSG:32633"
    shapes = zip(found.geometry, (1, 2), strict=True)
    assert np.array_equal(rasterio.features.rasterize(shapes, IDS.shape, transform=PLACE), IDS)
