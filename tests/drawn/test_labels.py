"""Labels that were drawn: the ids that polygons become, checked with shapely, and with files that others wrote."""

from __future__ import annotations

import json
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
import shapely
import tifffile
from numpy.typing import NDArray
from pycocotools import mask as cocomask

from tests.drawn.test_shapes import SHAPE, centres, feature, star
from unettile.box import Box
from unettile.drawn.labels import Drawn
from unettile.drawn.pairing import drawing_name, drawn_on, labels_by_name
from unettile.errors import InputError
from unettile.images.arrays import ArrayImage
from unettile.images.slide import open_labels
from unettile.images.spacing import UNKNOWN
from unettile.images.view import View

WHOLE = Box.of_shape(SHAPE)
IMAGE = ArrayImage(np.zeros(SHAPE, np.uint8))
STARS = [star(seed) for seed in range(12)]


def ids_of(path: Path, image: Any = IMAGE, entry: str = "") -> NDArray[Any]:
    with open_labels(Drawn(path, image, entry=entry)) as slide:
        assert slide.dtype == np.uint16 and slide.channels == 1 and slide.spacing == UNKNOWN
        found = slide.read(WHOLE)[..., 0]
        part = Box(13, 7, 44, 61)
        assert np.array_equal(slide.read(part)[..., 0], found[part.slices])
        return found


def expected(polygons: list[Any]) -> NDArray[np.uint16]:
    """Return the number of the last polygon that holds each centre, as shapely has it."""
    ids = np.zeros(SHAPE, np.uint16)
    for number, polygon in enumerate(polygons, 1):
        ids[shapely.contains_xy(shapely.make_valid(shapely.Polygon(polygon)), *centres())] = number
    return ids


def write_geojson(path: Path, polygons: list[NDArray[Any]], **more: Any) -> Path:
    features = [feature([*one.tolist(), one[0].tolist()], objectType="annotation") for one in polygons]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | more))
    return path


def write_rois(path: Path, polygons: list[NDArray[Any]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number, one in enumerate(polygons):
            region = roifile.ImagejRoi.frompoints(one.astype(np.float32), name=f"cell {number}")
            archive.writestr(f"{number:04}.roi", region.tobytes())
    return path


def write_coco(path: Path, polygons: list[NDArray[Any]], **image: Any) -> Path:
    entry = {"id": 7, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]} | image
    annotations = [{"image_id": 7, "category_id": 1, "segmentation": [one.ravel().tolist()]} for one in polygons]
    path.write_text(json.dumps({"images": [entry], "annotations": annotations, "categories": [{"id": 1}]}))
    return path


def write_labelme(path: Path, polygons: list[NDArray[Any]]) -> Path:
    shapes = [{"label": "cell", "points": one.tolist(), "shape_type": "polygon"} for one in polygons]
    path.write_text(json.dumps({"shapes": shapes, "imageHeight": SHAPE[0], "imageWidth": SHAPE[1], "flags": {}}))
    return path


WRITERS: dict[str, Callable[[Path, list[NDArray[Any]]], Path]] = {
    "a.geojson": write_geojson,
    "a.zip": write_rois,
    "coco.json": write_coco,
    "labelme.json": write_labelme,
}


@pytest.mark.parametrize("name", WRITERS)
def test_polygons_become_ids_exactly(name: str, tmp_path: Path) -> None:
    """Ids are 1 to n in the file's order; where polygons overlap, the later one has the pixels."""
    path = WRITERS[name](tmp_path / name, STARS)
    found = ids_of(path)
    assert np.array_equal(found, expected(STARS)) and len(np.unique(found)) > 8
    if name.endswith(".json"):  # these state their size
        assert np.array_equal(ids_of(path, image=None), found)
    else:
        with pytest.raises(InputError, match=r"does not state the size of its image: need the image with it"):
            open_labels(Drawn(path))


def test_regions_of_imagej(tmp_path: Path) -> None:
    """Rectangles, ovals, composites with a hole, whole numbers; lines and points are passed over."""
    hole = roifile.ImagejRoi()
    hole.roitype, hole.left, hole.top, hole.right, hole.bottom = roifile.ROI_TYPE.RECT, 40, 5, 60, 30
    rings = ([(40, 5), (60, 5), (60, 30), (40, 30)], [(45, 10), (45, 20), (55, 20), (55, 10)])
    steps = [(0.0 if place == 0 else 1.0, *corner) for ring in rings for place, corner in enumerate([*ring, ring[0]])]
    hole.multi_coordinates = np.array(steps, np.float32).ravel()
    hole.shape_roi_size = len(hole.multi_coordinates)
    oval, box = roifile.ImagejRoi(), roifile.ImagejRoi()
    oval.roitype, oval.left, oval.top, oval.right, oval.bottom = roifile.ROI_TYPE.OVAL, 3, 30, 33, 50
    box.roitype, box.left, box.top, box.right, box.bottom = roifile.ROI_TYPE.RECT, 60, 40, 70, 55
    whole = roifile.ImagejRoi.frompoints(np.array([[2, 2], [22, 5], [16, 21]], np.int16))
    line = roifile.ImagejRoi.frompoints(np.array([[1, 1], [70, 50]], np.float32))
    line.roitype = roifile.ROI_TYPE.POLYLINE
    with zipfile.ZipFile(tmp_path / "RoiSet.zip", "w") as archive:
        for number, region in enumerate([line, whole, hole, oval, box]):
            archive.writestr(f"{number}.roi", region.tobytes())
    x, y = centres()
    wanted = expected([[(2, 2), (22, 5), (16, 21)]])
    wanted[shapely.contains_xy(shapely.Polygon(rings[0], [rings[1]]), x, y)] = 2
    wanted[((x - 18) / 15) ** 2 + ((y - 40) / 10) ** 2 < 1] = 3
    wanted[40:55, 60:70] = 4
    assert np.array_equal(ids_of(tmp_path / "RoiSet.zip"), wanted)
    (tmp_path / "one.roi").write_bytes(box.tobytes())
    assert np.array_equal(ids_of(tmp_path / "one.roi") == 1, wanted == 4)


@pytest.mark.parametrize("compressed", [True, False])
def test_run_length_codes_of_coco(compressed: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    masks = [np.zeros(SHAPE, np.uint8), np.ones(SHAPE, np.uint8), (random.random(SHAPE) > 0.6).astype(np.uint8)]
    masks[0][:, 20:50] = 1
    masks[0][30:, 50] = 1
    path = write_coco(tmp_path / "a.json", [])
    values = json.loads(path.read_text())
    for mask in masks:
        code = cocomask.encode(np.asfortranarray(mask))
        flat = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat)) + 1
        counts = np.diff([0, *edges, flat.size]).tolist()
        plain = counts if flat[0] == 0 else [0, *counts]
        values["annotations"] = [
            {
                "image_id": 7,
                "segmentation": {"size": list(SHAPE), "counts": code["counts"].decode() if compressed else plain},
            }
        ]
        path.write_text(json.dumps(values))
        assert np.array_equal(ids_of(path), mask)


def test_parts_of_an_object_have_one_id_and_may_overlap(tmp_path: Path) -> None:
    left, right = np.array([[5, 5], [30, 5], [30, 30], [5, 30]]), np.array([[20, 10], [50, 10], [50, 25], [20, 25]])
    path = write_coco(tmp_path / "coco.json", [])
    values = json.loads(path.read_text())
    values["annotations"] = [{"image_id": 7, "segmentation": [left.ravel().tolist(), right.ravel().tolist()]}]
    path.write_text(json.dumps(values))
    wanted = (expected([left]) + expected([right])) > 0
    assert np.array_equal(ids_of(path), wanted)
    path = write_labelme(tmp_path / "labelme.json", [left, right, left + 28])
    values = json.loads(path.read_text())
    for shape in values["shapes"][:2]:
        shape["group_id"] = 3
    values["shapes"].append({"label": "cell", "points": [[60, 5], [75, 20]], "shape_type": "rectangle"})
    values["shapes"].append({"label": "cell", "points": [[65, 45], [65, 55]], "shape_type": "circle"})
    path.write_text(json.dumps(values))
    found = ids_of(path)
    assert np.array_equal(found == 1, wanted & (expected([left + 28]) == 0)) and found.max() == 4
    assert (found[5:20, 60:75] == 3).all() and abs((found == 4).sum() - np.pi * 100) < 8


def test_coordinates_are_of_the_largest_resolution(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros(SHAPE, np.uint8), subifds=1)
        writer.write(np.zeros((30, 40), np.uint8), subfiletype=1)
    path = write_geojson(tmp_path / "a.geojson", [np.array([[10, 10], [30, 10], [30, 30], [10, 30]])])
    with open_labels(drawn_on(path, tmp_path / "a.tif", View(level=1))) as slide:
        assert slide.shape == (30, 40)
        found = slide.read(Box(0, 0, 30, 40))[..., 0]
    assert found.sum() == 100 and (found[5:15, 5:15] == 1).all()


def test_polygons_of_a_stack_are_refused_in_a_line(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, *SHAPE), np.uint8), metadata={"axes": "ZYX"}, imagej=True)
    path = write_geojson(tmp_path / "a.geojson", STARS)
    with pytest.raises(InputError, match=r"a.tif is a stack: polygons are of a plane") as caught:
        open_labels(drawn_on(path, tmp_path / "a.tif"))
    assert caught.value.__cause__ is None


def test_an_image_without_objects_is_background(tmp_path: Path) -> None:
    assert not ids_of(write_geojson(tmp_path / "a.geojson", [])).any()
    assert not ids_of(write_coco(tmp_path / "a.json", [])).any()


def zip_of(**members: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name.replace("_", "."), content)

    return write


def short_roi(path: Path) -> None:
    path.write_bytes(roifile.ImagejRoi.frompoints(star(1)).tobytes()[:90])


def bomb(path: Path) -> None:
    """Write a small archive that says that its one region has 3 GB."""
    zip_of(a_roi=bytes(1000))(path)
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02") + 24
    content[place : place + 4] = struct.pack("<I", 3 * 10**9)
    path.write_bytes(content)


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


COCO_BEGIN = '{"images":[{"id":7,"file_name":"a","height":60,"width":80}],"annotations":[{"image_id":'


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.zip", zip_of(a_txt=b"x"), "holds no .roi"),
        ("a.zip", zip_of(a_roi=b"Iout"), "a.roi is no region that can be read"),
        ("a.zip", text("PK"), "is no .zip that can be read"),
        ("a.zip", bomb, "unpacks to more than 1 GiB"),
        ("a.roi", short_roi, "a.roi is no region that can be read"),
        ("a.json", text("[3"), "is no JSON"),
        ("a.json", text('{"a": 3}'), "is no JSON of polygons: need GeoJSON, COCO's or LabelMe's"),
        ("a.json", text('{"annotations": []}'), "is no COCO JSON that can be read: images is missing"),
        ("a.json", text(COCO_BEGIN + '8,"segmentation":[]}]}'), r"annotations\[0\].image_id = 8 is none of its images"),
        ("a.json", text(COCO_BEGIN + '7,"segmentation":[[1,2,3]]}]}'), "has 3 coordinates"),
        ("a.json", text(COCO_BEGIN + '7,"segmentation":{"size":[60,80],"counts":[9]}}]}'), "counts 9 px, its image"),
        ("a.json", text(COCO_BEGIN + '7,"segmentation":{"size":[60,80],"counts":"~"}}]}'), "has the letter '~'"),
        ("a.json", text('{"shapes": [{"points": [[1, 2, 3]]}]}'), "is no LabelMe JSON that can be read"),
        ("a.json", text('{"shapes": [{"points": [[1, 2]], "shape_type": "mask"}]}'), r"shapes\[0\] is a mask"),
    ],
)
def test_what_is_damaged_ends_in_a_line(name: str, write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError, match=message) as caught:
        open_labels(Drawn(tmp_path / name, IMAGE))
    assert "\n" not in str(caught.value)


def test_another_size_than_the_image_has_is_refused(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "a.json", STARS, width=81)
    with pytest.raises(InputError, match="was drawn on 60 × 81 px, the array is 60 × 80 px: need the same image"):
        open_labels(Drawn(path, IMAGE))


def test_roi_sets_without_roifile_are_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rois(tmp_path / "a.zip", STARS)
    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(InputError, match=r"needs roifile, which is not installed: pip install 'unettile\[roi\]'"):
        open_labels(Drawn(path, IMAGE))


def test_the_names_of_drawings(tmp_path: Path) -> None:
    assert [drawing_name(Path(name)) for name in ("a.tif.geojson", "a.zip", "a.b.json")] == ["a", "a", "a.b"]
    write_geojson(tmp_path / "a.geojson", STARS)
    write_coco(tmp_path / "b.json", STARS)
    assert list(labels_by_name(tmp_path)) == ["a", "b"]  # a file of one image pairs by its own name
    values = json.loads((tmp_path / "b.json").read_text())
    values["images"].append({"id": 8, "file_name": "set/c.png", "height": 9, "width": 9})
    values["images"][0]["file_name"] = "set/d.png"
    (tmp_path / "b.json").write_text(json.dumps(values))
    assert list(labels_by_name(tmp_path)) == ["a", "c", "d"]  # one of several by those that it states
    assert list(labels_by_name(tmp_path / "b.json")) == ["c", "d"]
    write_labelme(tmp_path / "a.json", STARS)
    with pytest.raises(InputError, match="two drawings for 'a'"):
        labels_by_name(tmp_path)
    tifffile.imwrite(tmp_path / "e.tif", np.zeros(SHAPE, np.uint8))  # images come first
    assert labels_by_name(tmp_path) == {"e": tmp_path / "e.tif"}
