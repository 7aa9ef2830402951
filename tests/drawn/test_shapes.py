"""Shapes: the pixels whose centres shapely finds inside, whatever region is asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from unettile.box import Box
from unettile.drawn.geojson import read_geojson
from unettile.drawn.ground import Ground
from unettile.drawn.shapes import Shapes
from unettile.errors import InputError
from unettile.images.georeference import Georeference

SHAPE = (60, 80)


def star(seed: int, corners: int = 9) -> NDArray[np.float64]:
    """Return a polygon that winds once around a place, its corners anywhere, some of them outside of the image."""
    random = np.random.default_rng(seed)
    turns = np.sort(random.uniform(0, 2 * np.pi, corners))
    reach = random.uniform(4, 30, (corners, 1))
    found: NDArray[np.float64] = random.uniform(5, 55, 2) + reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return np.asarray(np.rint(found * 256) / 256)


def centres() -> tuple[NDArray[Any], NDArray[Any]]:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    return x, y


def test_pixels_are_those_whose_centres_lie_inside() -> None:
    polygons = [star(seed) for seed in range(30)]
    shapes = Shapes.of_rings([[polygon] for polygon in polygons])
    x, y = centres()
    expected = np.zeros(SHAPE, np.uint32)
    for number, polygon in enumerate(polygons, 1):
        expected[shapely.contains_xy(shapely.Polygon(polygon), x, y)] = number
    assert np.array_equal(shapes.numbers(Box.of_shape(SHAPE)), expected) and len(np.unique(expected)) > 10


def test_a_ring_in_another_is_a_hole_and_parts_are_one_shape() -> None:
    outer, hole = np.array([[2, 2], [50, 4], [45.25, 50], [3, 40]]), np.array([[10, 10], [10, 30], [30, 30], [30, 10]])
    part = np.array([[60.25, 5], [75, 5], [70, 55.5]])
    shapes = Shapes.of_rings([[outer, hole, part]])
    expected = shapely.MultiPolygon([(outer, [hole]), (part, [])])
    assert np.array_equal(shapes.numbers(Box.of_shape(SHAPE)), shapely.contains_xy(expected, *centres()))


@pytest.mark.parametrize("box", [Box(0, 0, 7, 9), Box(20, 31, 44, 80), Box(59, 0, 60, 80), Box(33, 33, 34, 34)])
def test_a_region_holds_what_the_whole_has_there(box: Box) -> None:
    shapes = Shapes.of_rings([[star(seed, 40)] for seed in range(9)])
    assert np.array_equal(shapes.numbers(box), shapes.numbers(Box.of_shape(SHAPE))[box.slices])


def test_shapes_that_share_edges_share_no_pixel_and_leave_none_out() -> None:
    """Their edges go through centres of pixels."""
    random = np.random.default_rng(1)
    columns = [[0.0, *np.sort(random.integers(1, 79, 3) + 0.5), 80.0] for _ in range(5)]
    rows = [0.0, 12.5, 30.0, 44.5, 60.0]
    cells = []
    for row in range(4):
        for one in range(4):
            (a, b), (c, d) = columns[row][one : one + 2], columns[row + 1][one : one + 2]
            cells.append([np.array([[a, rows[row]], [b, rows[row]], [d, rows[row + 1]], [c, rows[row + 1]]])])
    whole = Box.of_shape(SHAPE)
    total = sum((Shapes.of_rings([cell]).numbers(whole) for cell in cells), np.zeros(SHAPE, np.uint32))
    assert (total == 1).all()


SQUARE = [[10, 10], [30, 10], [30, 30], [10, 30], [10, 10]]


def feature(corners: list[list[float]], **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]}, "properties": properties}


@pytest.mark.parametrize(
    "values",
    [
        {"type": "FeatureCollection", "features": [feature(SQUARE)]},
        [feature(SQUARE)],
        feature(SQUARE),
        {"type": "MultiPolygon", "coordinates": [[SQUARE]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": [SQUARE]}]},
        {"features": [feature(SQUARE), {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}]},
        {"features": [feature(SQUARE), {"type": "Feature", "geometry": None, "properties": None}]},
    ],
    ids=lambda values: str(values)[:30],
)
def test_the_forms_of_geojson(values: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(values))
    drawing = read_geojson(path)
    expected = np.zeros(SHAPE, np.uint32)
    expected[10:30, 10:30] = 1
    assert np.array_equal(drawing.shapes.numbers(Box.of_shape(SHAPE)), expected)


def test_classes_and_the_coordinate_system_are_known(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    features = [feature(SQUARE, classification={"name": "Tumor", "color": [1, 2, 3]}), feature(SQUARE)]
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    drawing = read_geojson(path)
    assert drawing.shapes.names == ("Tumor", "") and drawing.epsg == 32633
    crs["properties"] = {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}  # type: ignore[assignment]
    path.write_text(json.dumps({"crs": crs, "features": features}))
    assert read_geojson(path).epsg == 4326


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("3", "is no GeoJSON"),
        ('{"features":[{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]}}]}', "holds no polygon"),
        ('{"features":[{"type":"Feature","geometry":{"type":"Polygon"}}]}', "is no GeoJSON that can be read"),
        ('{"type":"Polygon","coordinates":[[[1,2],[3,"a"],[5,6]]]}', "is no GeoJSON that can be read"),
        ('{"crs":{"properties":{"name":"local"}},"type":"Polygon","coordinates":[[[1,2],[3,4],[5,9]]]}', "need one of"),
    ],
)
def test_what_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_geojson(tmp_path / "a.json")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "drawn.geojson")
    with pytest.raises(InputError, match=r"cannot read .*drawn.geojson: it is no regular file"):
        read_geojson(tmp_path / "drawn.geojson")


def test_polygons_beside_the_image_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(feature(SQUARE)))
    drawing = read_geojson(path)
    with pytest.raises(InputError, match="no polygon lies on the image; its coordinates are taken for px of the image"):
        Ground((9, 9)).place(drawing, path)
    earth = Georeference((0.3, 0.0, 5e5, 0.0, -0.3, 5.8e6), keys=(1, 1, 0, 1, 3072, 0, 1, 32633))
    with pytest.raises(InputError, match="no polygon lies on the image; its coordinates are taken for longitude and l"):
        Ground((9, 9), georeference=earth).place(drawing, path)
    with pytest.raises(InputError, match="EPSG has no number"):
        Ground((9, 9), georeference=Georeference(earth.affine)).place(drawing, path)
