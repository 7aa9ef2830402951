"""Regions that do not count in a comparison, and drawings whose classes are classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.features
import tifffile
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.warp import transform_geom

import unettile
from tests.scenarios.conftest import Cli
from unettile.box import Box
from unettile.drawn.labels import Drawn
from unettile.errors import InputError
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import write_image
from unettile.images.slide import open_labels
from unettile.metrics.pixels import confusion_matrix
from unettile.training.reader import OpenPair
from unettile.training.request import TrainRequest

SHAPE = 60, 80
CLASSES = ("background", "tumor", "stroma")
RECTANGLES = (
    (5, 5, 25, 30, "Tumor"),
    (30, 10, 50, 40, "stroma"),
    (10, 50, 40, 70, "Stroma"),
    (20, 20, 35, 35, "tumor"),
)
HOLE = (0, 40, 30, 80)
"""y0, x0, y1, x1 of what is to be ignored."""


def ring(y0: int, x0: int, y1: int, x1: int) -> list[list[int]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def geojson(path: Path, shapes: Any) -> Path:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring(*box)]},
            "properties": {"classification": {"name": name}} if name else {},
        }
        for *box, name in shapes
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def coco(path: Path, shapes: Any) -> Path:
    names = sorted({name for *_, name in shapes})
    values = {
        "images": [{"id": 1, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [
            {"image_id": 1, "category_id": names.index(name), "segmentation": [np.ravel(ring(*box)[:4]).tolist()]}
            for *box, name in shapes
        ],
    }
    path.write_text(json.dumps(values))
    return path


def labelme(path: Path, shapes: Any) -> Path:
    drawn = [{"label": name, "points": ring(*box)[:4], "shape_type": "polygon"} for *box, name in shapes]
    path.write_text(json.dumps({"shapes": drawn, "imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}))
    return path


WRITERS = {"a.geojson": geojson, "coco.json": coco, "a.json": labelme}


def painted() -> NDArray[np.uint8]:
    classes = np.zeros(SHAPE, np.uint8)
    for y0, x0, y1, x1, name in RECTANGLES:
        classes[y0:y1, x0:x1] = CLASSES.index(name.casefold())
    return classes


@pytest.fixture
def prediction(tmp_path: Path) -> Path:
    """A mask of classes that knows their names, as `segment` writes it."""
    pixels = np.roll(painted(), (3, -2), (0, 1))
    metadata = {"unettile": "1", "write": ["classes"], "classes": list(CLASSES)}
    canvas = Canvas(SHAPE, (Layer("classes", 1, "majority", CLASSES),), metadata=metadata)
    write_image(tmp_path / "mask.tif", canvas, lambda box: pixels[box.slices])
    return tmp_path / "mask.tif"


@pytest.mark.parametrize("name", WRITERS)
def test_drawn_classes_are_classes(name: str, prediction: Path, tmp_path: Path, cli: Cli) -> None:
    truth = WRITERS[name](tmp_path / name, RECTANGLES)
    with open_labels(Drawn(truth, prediction, classes=CLASSES)) as slide:
        assert np.array_equal(slide.read(Box.of_shape(SHAPE))[..., 0], painted())
    expected = confusion_matrix(tifffile.imread(prediction), painted(), 3).tolist()
    for given in (("--classes", 3), ("--class-names", "background,tumor,stroma")):  # of the mask, or said
        done = cli("evaluate", prediction, truth, *given, "--json")
        assert done.code == 0 and json.loads(done.out)["pooled"]["confusion"] == expected, done.err
    table = cli("evaluate", prediction, truth, "--class-names", "background,tumor,stroma", "--boundaries").out
    assert "tumor  " in table and "stroma  " in table
    refused = cli("evaluate", prediction, truth, "--class-names", "background,tumor")
    assert refused.code == 3 and "has the class 'Stroma': need one of tumor" in refused.err, refused.err
    tifffile.imwrite(tmp_path / "strange.tif", painted())
    refused = cli("evaluate", tmp_path / "strange.tif", truth, "--classes", 3)
    assert refused.code == 3 and "give --class-names 3 names" in refused.err and refused.err.count("\n") == 1
    assert cli("evaluate", prediction, truth, "--classes", 3, "--class-names", "a,b").code == 2


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_ignored_does_not_count(name: str, prediction: Path, tmp_path: Path, cli: Cli) -> None:
    """Drawn, or a number in a label image, it is as if both masks had a hole there."""
    drawn = WRITERS[name](tmp_path / name, [(*HOLE, "Ignore*"), *RECTANGLES])
    y0, x0, y1, x1 = HOLE
    marked, holed = painted(), painted()
    marked[y0:y1, x0:x1], holed[y0:y1, x0:x1] = 255, 0
    tifffile.imwrite(tmp_path / "marked.tif", marked)
    mask = tifffile.imread(prediction)
    counted = np.ones(SHAPE, np.bool_)
    counted[y0:y1, x0:x1] = False
    for given in ((drawn, "--classes", 3), (tmp_path / "marked.tif", "--classes", 3, "--ignore", 255)):
        done = cli("evaluate", prediction, *given, "--json", "--objects", "--boundaries")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        expected = confusion_matrix(mask[counted], painted()[counted], 3)
        assert found["pooled"]["confusion"] == expected.tolist()
        [image] = found["images"].values()
        assert image["ignored_pixels"] == (y1 - y0) * (x1 - x0)
        # objects are those of masks with a hole
        for name, pixels in (("mask", np.where(counted, mask, 0)), ("truth", holed)):
            tifffile.imwrite(tmp_path / f"{name}_with_hole.tif", pixels)
        files = (tmp_path / "mask_with_hole.tif", tmp_path / "truth_with_hole.tif")
        other = cli("evaluate", *files, "--classes", 3, "--objects", "--json")
        assert found["pooled"]["objects"] == json.loads(other.out)["pooled"]["objects"]
    refused = cli("evaluate", prediction, tmp_path / "marked.tif", "--classes", 3)
    assert refused.code == 3 and "holds the id 255" in refused.err
    assert "Mpx ignored" in cli("evaluate", prediction, drawn, "--classes", 3).out


def test_an_object_has_no_outline_along_what_is_ignored() -> None:
    """Two masks that agree wherever pixels count have the same outlines, although one ends in the ignored region."""
    truth, mask = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    truth[10:30, 10:40] = mask[10:30, 10:50] = 1
    truth[:, 40:] = 255
    scores = unettile.evaluate(mask, truth, boundaries=True, ignore=255)
    assert scores.scores["0"].hausdorff_95 == (0.0,) and scores.pooled.figures["mean_iou"] == 1
    truth[10:30, 39] = 0  # within what counts, one column is missing: the outline there is not the border's
    assert unettile.evaluate(mask, truth, boundaries=True, ignore=255).scores["0"].hausdorff_95[0] > 0


def test_training_learns_drawn_classes(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate("abc"):
        tifffile.imwrite(images / f"{name}.tif", np.full(SHAPE, number, np.uint8))
        geojson(images / f"{name}.geojson", RECTANGLES)
    for given, names in (
        ((), ("background", "Stroma", "Tumor")),
        (('labels.names=["background", "tumor", "stroma"]',), CLASSES),
    ):
        changes = ("labels.kind=classes", *given)
        job = TrainRequest(images, images, tmp_path / "m.safetensors", "auto", changes, validation=0.3).job()
        part = job.recipe.labels
        assert {name.casefold() for name in part.names} == set(CLASSES) and part.kind == "classes"
        for pair in (*job.training, *job.validation):
            with OpenPair(pair, part) as opened:
                found = opened.ids(Box.of_shape(SHAPE))
            order = [0, 1, 2] if names == CLASSES else [0, 2, 1]
            assert np.array_equal(found, np.array(order)[painted()])
    with pytest.raises(InputError, match=r"has the class 'Stroma': need one of tumor"):
        other = ("labels.kind=classes", 'labels.names=["background", "tumor"]')
        TrainRequest(images, images, tmp_path / "m.safetensors", "auto", other, validation=0.3).job()


def test_labels_drawn_on_a_map(tmp_path: Path, cli: Cli) -> None:
    """In longitude and latitude on a GeoTIFF, they are the pixels that rasterio finds in the map's own coordinates."""
    place = from_origin(500_000.0, 5_800_000.0, 0.5, 0.5)
    form = {"driver": "GTiff", "width": SHAPE[1], "height": SHAPE[0], "count": 1, "dtype": "uint8"}
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    image = tmp_path / "images" / "map.tif"
    with rasterio.open(image, "w", **form, crs="EPSG:32633", transform=place) as file:
        file.write(np.zeros((1, *SHAPE), np.uint8))
    shapes = [
        {"type": "Polygon", "coordinates": [[list(place * (x + 0.25, y + 0.25)) for x, y in ring(*box)]]}
        for *box, _ in RECTANGLES
    ]
    expected = rasterio.features.rasterize(zip(shapes, (1, 2, 3, 4), strict=True), SHAPE, transform=place)
    features = [
        {
            "type": "Feature",
            "properties": {},
            "geometry": transform_geom("EPSG:32633", "OGC:CRS84", shape, precision=12),
        }
        for shape in shapes
    ]
    drawn = tmp_path / "labels" / "map.geojson"
    drawn.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with open_labels(Drawn(drawn, image)) as slide:
        assert np.array_equal(slide.read(Box.of_shape(SHAPE))[..., 0], expected) and expected.max() == 4
    done = cli("weights", drawn, "--images", image, "-o", tmp_path / "w.tif")
    assert done.code == 0, done.err
    with rasterio.open(tmp_path / "w.tif") as file:
        assert file.crs == "EPSG:32633" and file.transform == place
    tifffile.imwrite(tmp_path / "ids.tif", expected.astype(np.uint8))
    with rasterio.open(tmp_path / "mask.tif", "w", **form, crs="EPSG:32633", transform=place) as file:
        file.write(expected.astype(np.uint8)[None])
    scores = unettile.evaluate(tmp_path / "mask.tif", drawn, objects=True, instances=True)
    assert scores.pooled.figures["mean_ap"] == 1 and scores.pooled.figures["mean_iou"] == 1
