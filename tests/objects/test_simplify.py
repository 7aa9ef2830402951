"""Simplified outlines: few points, none far away, valid, and what touched touches still; the same for any blocks."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from tests.objects.shapes import SHAPES, InMemory, blobs, masks, reference
from tests.objects.test_job import field, silent
from unettile.errors import UsageError
from unettile.objects.anchors import AnchorFinder, margin_of
from unettile.objects.job import find_objects
from unettile.objects.outline import CornerFinder
from unettile.objects.polygons import Outline, Polygons
from unettile.objects.products import Products, Sources
from unettile.objects.rules import Foreground, Labelling
from unettile.objects.scan import Scan
from unettile.tiling import BlockGrid

SCRATCH = Path(tempfile.gettempdir())


def simplified(labels: NDArray[np.integer], tolerance: float, edge: int = 99) -> list[Outline]:
    objects = InMemory(labels)
    corners = CornerFinder(SCRATCH, objects.count, objects.shape)
    anchors = AnchorFinder(SCRATCH, objects.count, objects.shape, tolerance)
    with Scan(objects, (), (corners, anchors), lambda done, total: None, margin_of(tolerance)) as scan:
        scan.show_all(BlockGrid(objects.shape, edge))
    return list(Polygons(corners.finish(), anchors=anchors.finish(), tolerance=tolerance))


def polygon(outline: Outline) -> Polygon:
    (rings,) = outline.parts
    return Polygon(rings[0], rings[1:])


def exact(labels: NDArray[np.integer], number: int) -> Polygon:
    return shapely.union_all([shapely.box(x, y, x + 1, y + 1) for y, x in np.argwhere(labels == number)])


def check(labels: NDArray[np.integer], tolerance: float) -> int:
    """Hold all that is promised against Shapely; return the number of points."""
    found = simplified(labels, tolerance)
    shapes = [polygon(outline) for outline in found]
    for outline, shape in zip(found, shapes, strict=True):
        assert shapely.is_valid(shape), shapely.is_valid_reason(shape)
        assert shape.exterior.is_ccw and not any(hole.is_ccw for hole in shape.interiors)
        whole = exact(labels, outline.number)
        assert shapely.hausdorff_distance(shape.boundary, whole.boundary) <= tolerance + 1e-9
        assert len(shape.interiors) == len(whole.interiors) or whole.geom_type != "Polygon"
    assert shapely.coverage_is_valid(shapes), "neighbours share their borders, and none lies over another"
    return sum(len(ring) for outline in found for ring in outline.rings)


@settings(max_examples=60)
@given(mask=st.one_of(masks, blobs), tolerance=st.sampled_from((0.6, 1.0, 1.5, 3.0)))
def test_simplified_objects_are_valid_near_and_fit_together(mask: NDArray[np.uint32], tolerance: float) -> None:
    check(reference(mask), tolerance)


@pytest.mark.parametrize("name", SHAPES)
def test_hard_shapes(name: str) -> None:
    check(reference(SHAPES[name]), 1.0)
    check(reference(SHAPES[name] == 0), 2.0)


def cells(shape: tuple[int, int] = (160, 180), count: int = 30) -> NDArray[np.int64]:
    """Round cells, many of which touch: the nearest of some middles, near them."""
    middles = np.random.default_rng(1).uniform(0, 1, (count, 2)) * shape
    y, x = np.indices(shape)
    away = np.hypot(y[..., None] - middles[:, 0], x[..., None] - middles[:, 1])
    near = away.min(axis=2) < 16 + 2 * field(shape, 3)
    return reference(np.where(near, away.argmin(axis=2) + 1, 0)).astype(np.int64)


def test_cells_that_touch_lose_most_of_their_points() -> None:
    labels = cells()
    before = sum(len(ring) for outline in simplified(labels, 1e-6) for ring in outline.rings)
    assert check(labels, 1.0) < 0.5 * before
    shared = [polygon(outline) for outline in simplified(labels, 1.0)]
    pairs = {(a, b) for a, b in _neighbours(labels)}
    assert pairs
    for a, b in pairs:
        assert shapely.intersection(shared[a - 1], shared[b - 1]).length > 0, f"{a} and {b} had a border in common"


def _neighbours(labels: NDArray[np.integer]) -> set[tuple[int, int]]:
    found = set()
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        differ = (one != other) & (one > 0) & (other > 0)
        found |= {(min(a, b), max(a, b)) for a, b in zip(one[differ].tolist(), other[differ].tolist(), strict=True)}
    return found


def test_no_block_changes_a_point() -> None:
    labels = cells()
    for tolerance in (0.8, 2.5):
        whole, *others = (simplified(labels, tolerance, edge) for edge in (500, 7, 33, 64))
        for other in others:
            for one, two in zip(whole, other, strict=True):
                assert all(np.array_equal(a, b) for a, b in zip(one.rings, two.rings, strict=True))


def test_a_staircase_becomes_a_line() -> None:
    labels = np.tri(40, 40, dtype=np.int64)
    (outline,) = simplified(labels, 0.8)
    assert len(outline.rings[0]) <= 6
    disc = (np.hypot(*(np.indices((60, 60)) - 30)) < 25).astype(np.int64)
    sizes = [len(simplified(disc, tolerance)[0].rings[0]) for tolerance in (1e-6, 1.0, 2.0)]
    assert sizes[0] > 6 * sizes[1] and sizes[1] >= 2 * sizes[2] > 12


def test_files_hold_simplified_outlines_and_tables_do_not_change(tmp_path: Path) -> None:
    mask = tmp_path / "mask.tif"
    tifffile.imwrite(mask, cells().astype(np.uint8))
    files: dict[str, list[bytes]] = {}
    for folder, simplify, edge in (("a", 0.0, 64), ("b", 1.0, 64), ("c", 1.0, 500)):
        (tmp_path / folder).mkdir()
        names = ("cells.csv", "cells.geojson", "cells.zip", "cells.parquet", "cells.json")
        paths = [tmp_path / folder / name for name in names]
        products = Products(None, *paths[:2], rois=paths[2], geoparquet=paths[3], coco=paths[4], simplify=simplify)
        find_objects(Sources(mask), Foreground(), Labelling(), products, overwrite=False, stage=silent, block_edge=edge)
        for path in paths:
            files.setdefault(path.name, []).append(path.read_bytes())
    for name, (plain, few, other) in files.items():
        assert few == other, name
        if name in ("cells.csv", "cells.json"):
            assert plain == few, f"{name} is about pixels"
        else:
            assert len(few) < 0.9 * len(plain), name
    features = json.loads(files["cells.geojson"][1])["features"]
    assert shapely.coverage_is_valid([shapely.geometry.shape(feature["geometry"]) for feature in features])


def test_what_cannot_be_simplified_is_refused(tmp_path: Path) -> None:
    for simplify in (-1.0, 17.0, float("nan")):
        with pytest.raises(UsageError, match="--simplify"):
            Products(geojson=tmp_path / "a.geojson", simplify=simplify)
    with pytest.raises(UsageError, match="about outlines"):
        Products(table=tmp_path / "a.csv", simplify=1.0)


def test_an_id_in_several_parts_is_a_polygon_of_several_parts() -> None:
    labels = np.zeros((30, 40), np.int64)
    labels[2:14, 2:20] = labels[20:26, 5:9] = 1
    labels[4:12, 5:16] = 0
    labels[6:10, 7:13] = 1  # an island in the hole
    labels[7, 9] = 2
    labels[20:26, 30:36] = 2
    objects = InMemory(labels)
    corners = CornerFinder(SCRATCH, 2, objects.shape)
    with Scan(objects, (), (corners,), lambda done, total: None) as scan:
        scan.show_all(BlockGrid(objects.shape, 9))
    found = list(Polygons(corners.finish(), parted=True))
    assert [[len(part) for part in outline.parts] for outline in found] == [[2, 2, 1], [1, 1]]
    for outline in found:
        shape = MultiPolygon([(part[0], part[1:]) for part in outline.parts])
        assert shape.is_valid and shape.equals(exact(labels, outline.number))
        assert all(part.exterior.is_ccw for part in shape.geoms)
