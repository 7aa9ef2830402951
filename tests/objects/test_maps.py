"""Objects of maps: polygons and ids lie where the mask does, as GeoPandas and rasterio read them."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from rasterio.transform import Affine, from_origin

from tests.scenarios.conftest import Cli, cli

__all__ = ["cli"]
UTM = "EPSG:32633"
TURNED = from_origin(500_000.25, 5_800_000.5, 0.3, 0.25) * Affine.rotation(30)
NORTH_UP = from_origin(500_000.25, 5_800_000.5, 0.3, 0.25)


def discs() -> NDArray[np.uint8]:
    """Return a mask of two classes; one object has a hole."""
    y, x = np.mgrid[:60, :90]
    near = (y - 25) ** 2 + (x - 30) ** 2
    mask = ((near < 300) & (near > 60)).astype(np.uint8)
    mask[(y - 40) ** 2 + (x - 70) ** 2 < 120] = 2
    return mask


def write_mask(path: Path, transform: Affine, crs: str = UTM) -> Path:
    form = {"driver": "GTiff", "width": 90, "height": 60, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **form, crs=crs, transform=transform) as file:
        file.write(discs(), 1)
    return path


def outlines(transform: Affine) -> list[shapely.Geometry]:
    """Return the polygons that rasterio makes of the mask."""
    return [shapely.geometry.shape(form) for form, value in shapes(discs(), transform=transform) if value]


@pytest.mark.parametrize("transform", [NORTH_UP, TURNED], ids=["north up", "turned"])
def test_polygons_are_in_the_coordinate_system_of_the_map(transform: Affine, cli: Cli, tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "mask.tif", transform)
    for name, options in (("map", ()), ("lonlat", ("--lonlat",)), ("pixels", ("--pixels",))):
        done = cli("objects", mask, "--geojson", tmp_path / f"{name}.geojson", *options)
        assert done.code == 0, done.err
    on_map, on_earth = (geopandas.read_file(tmp_path / f"{name}.geojson") for name in ("map", "lonlat"))
    assert on_map.crs == UTM and on_earth.crs == "EPSG:4326"
    assert "crs" not in json.loads((tmp_path / "lonlat.geojson").read_text())
    for found in (on_map, on_earth.to_crs(UTM)):
        for polygon, expected in zip(found.geometry, outlines(transform), strict=True):
            assert polygon.symmetric_difference(expected).area < 1e-3 * expected.area
    for frame in (on_map, on_earth):  # RFC 7946: outer rings run counterclockwise, holes clockwise
        assert all(ring.is_ccw for ring in frame.geometry.exterior)
        assert not any(hole.is_ccw for polygon in frame.geometry for hole in polygon.interiors)
    in_px = [shapely.geometry.shape(one["geometry"]) for one in features(tmp_path / "pixels.geojson")]
    for polygon, expected in zip(in_px, outlines(Affine.identity()), strict=True):
        assert polygon.equals(expected)


def features(path: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(path.read_text())["features"]
    return found


def test_ids_lie_where_their_mask_does(cli: Cli, tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "mask.tif", TURNED)
    assert cli("objects", mask, "-o", tmp_path / "ids.tif").code == 0
    with rasterio.open(tmp_path / "ids.tif") as file:
        assert file.transform.almost_equals(TURNED, 1e-9) and file.crs == UTM


def test_what_cannot_be_told_in_geojson_is_refused(cli: Cli, tmp_path: Path) -> None:
    odd = write_mask(tmp_path / "odd.tif", NORTH_UP, "+proj=laea +lat_0=52 +lon_0=10 +x_0=43210 +ellps=GRS80 +units=m")
    done = cli("objects", odd, "--geojson", tmp_path / "a.geojson")
    assert done.code == 3 and "EPSG has no number" in done.err and not (tmp_path / "a.geojson").exists()
    assert cli("objects", odd, "--geojson", tmp_path / "a.geojson", "--pixels").code == 0
    plain = tmp_path / "plain.png"
    from PIL import Image

    Image.fromarray(discs()).save(plain)
    done = cli("objects", plain, "--geojson", tmp_path / "b.geojson", "--lonlat")
    assert done.code == 3 and "does not say where on earth it lies" in done.err
    assert cli("objects", odd, "-o", tmp_path / "c.tif", "--lonlat").code == 2
