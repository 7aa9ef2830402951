"""unettile.objects: the rows of the command's table, of classes; and of ids as they are."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import unettile
from tests.narrow import make_pixels
from unettile.box import Box
from unettile.cli import run
from unettile.images.arrays import ArrayImage
from unettile.images.slide import open_labels
from unettile.objects import given
from unettile.tiling import BlockGrid


def make_classes() -> NDArray[np.uint8]:
    """Return discs of two classes, some of which touch."""
    classes = np.zeros((200, 300), np.uint8)
    y, x = np.indices(classes.shape)
    for number, (cy, cx, radius) in enumerate(
        [(40, 40, 25), (45, 85, 24), (120, 60, 30), (60, 200, 35), (150, 220, 30)]
    ):
        classes[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 1 + number % 2
    classes[100:104, 250:254] = 2
    return classes


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, []),
        ({"split": True, "min_size": 30, "neck": 0.8}, ["--split", "--min-size", "30", "--neck", "0.8"]),
        ({"measure": "all", "percentiles": (10, 50)}, ["--measure", "all", "--percentiles", "10,50"]),
        ({"classes": 2, "grow": 3, "pixel_size": 0.5}, ["--class", "2", "--grow", "3", "--pixel-size", "0.5"]),
    ],
    ids=str,
)
def test_the_rows_are_those_of_the_command(tmp_path: Path, given: dict[str, Any], options: list[str]) -> None:
    classes, image = make_classes(), make_pixels(200, 300, 3)
    tifffile.imwrite(tmp_path / "mask.tif", classes)
    tifffile.imwrite(tmp_path / "image.tif", image)
    files = ["objects", tmp_path / "mask.tif", "--image", tmp_path / "image.tif", "--table", tmp_path / "t.csv"]
    assert run([*map(str, files), *options, "--quiet"]) == 0
    found = unettile.objects(classes, image=image, **given)
    same = unettile.objects(str(tmp_path / "mask.tif"), image=tmp_path / "image.tif", **given)
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found["id"]) > 1 and list(found.keys()) == list(rows[0])
    for name in rows[0]:
        told = [row[name] for row in rows]
        assert list(found[name]) == list(same[name])
        if name == "class_name":
            assert list(found[name]) == told
        else:
            assert np.allclose(found[name].astype(float), np.array(told, float), rtol=1e-5, atol=1e-4), name


def test_files_are_written_beside_the_rows_and_stay(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", make_classes())
    assert run(["objects", str(tmp_path / "mask.tif"), "-o", str(tmp_path / "a.tif"), "--quiet"]) == 0
    cells = unettile.objects(
        make_classes(),
        tmp_path / "b.tif",
        table=tmp_path / "b.csv",
        geojson=tmp_path / "b.geojson",
        overlay=tmp_path / "b.png",
    )
    ids = unettile.open(tmp_path / "b.tif").read()
    assert np.array_equal(ids, unettile.open(tmp_path / "a.tif").read()) and ids.max() == len(cells["id"])
    with (tmp_path / "b.csv").open() as file:
        assert [int(row["area_px"]) for row in csv.DictReader(file)] == list(cells["area_px"])
    assert {path.name for path in tmp_path.glob("b.*")} == {"b.tif", "b.csv", "b.geojson", "b.png"}
    with pytest.raises(unettile.InputError, match="exists"):
        unettile.objects(make_classes() * 2, tmp_path / "b.tif")


def test_ids_of_a_file_of_ours_have_their_classes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", make_classes())
    found = unettile.objects(tmp_path / "mask.tif", tmp_path / "ids.tif")
    again = unettile.objects(tmp_path / "ids.tif", instances=True)
    assert list(again["class"]) == list(found["class"]) and set(found["class"]) == {1, 2}
    assert list(again["id"]) == list(found["id"]) and list(again["area_px"]) == list(found["area_px"])


def test_ids_are_measured_as_they_are() -> None:
    ids = np.zeros((100, 120), np.int64)
    ids[10:20, 10:30] = 70_000
    ids[50:53, 40:44] = 5
    ids[80:90, 100:120] = 5  # one object in two pieces
    ids[10:20, 30:35] = 9  # touches another
    image = np.zeros((100, 120), np.float32)
    image[ids == 9] = 3.5
    cells = unettile.objects(ids, image=image, instances=True)
    assert list(cells["id"]) == [5, 9, 70_000] and list(cells["area_px"]) == [212, 50, 200]
    assert list(cells["box_y0_px"]) == [50, 10, 10] and list(cells["box_x1_px"]) == [120, 35, 30]
    assert list(cells["mean_intensity_0"]) == [0, 3.5, 0] and cells["centroid_x_px"][2] == 19.5
    assert not {"class", "class_name"} & set(cells.keys())


def test_instances_of_segment_are_measured_by_their_numbers(model: unettile.Model, pixels: NDArray[np.uint8]) -> None:
    ids = model.segment(pixels, write="instances")
    cells = unettile.objects(ids, image=pixels, instances=True)
    areas = np.bincount(ids.ravel())
    assert list(cells["id"]) == np.flatnonzero(areas)[1:].tolist()
    assert list(cells["area_px"]) == areas[areas > 0][1:].tolist()
    means = np.bincount(ids.ravel(), pixels.ravel())[1:] / areas[1:]
    assert np.allclose(cells["mean_intensity_0"], means)


@pytest.mark.parametrize("edge", [16, 50, 1000])
def test_given_ids_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch, edge: int) -> None:
    monkeypatch.setattr(given, "MERGED_AT", 20)
    ids = np.random.default_rng(0).integers(0, 40, (70, 90)).repeat(2, axis=1).astype(np.uint16) * 7
    seen: list[tuple[int, int]] = []
    with open_labels(ArrayImage(ids)) as slide:
        found = given.GivenObjects(slide, BlockGrid(slide.shape, edge), lambda done, total: seen.append((done, total)))
        expected, first = np.unique(ids, return_index=True)
        assert np.array_equal(found.ids, expected[1:]) and np.array_equal(found.first, first[1:])
        assert np.array_equal(found.read(Box(3, 5, 60, 177)), ids[3:60, 5:177] // 7) and seen[-1] == (12600, 12600)


def test_without_pandas_it_is_a_dict_of_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    frame = unettile.objects(make_classes())
    assert isinstance(frame, pandas.DataFrame)
    monkeypatch.setitem(sys.modules, "pandas", None)
    columns = unettile.objects(make_classes())
    assert isinstance(columns, dict) and list(columns) == list(frame.columns)
    assert all(np.array_equal(columns[name], frame[name].to_numpy()) for name in columns)


def test_a_mask_without_objects_has_no_rows() -> None:
    for instances in (False, True):
        cells = unettile.objects(np.zeros((20, 30), np.uint8), instances=instances)
        assert len(cells["area_px"]) == 0


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"instances": True, "split": True}, unettile.UsageError, "as they are"),
        ({"depth": np.zeros((200, 300))}, unettile.UsageError, "--split"),
        ({"image": np.zeros((20, 30))}, unettile.InputError, "20 × 30 px, .* 200 × 300 px: need the image that"),
        ({"max_object": 1, "split": True}, unettile.UsageError, "--max-object is 1"),
        ({"pixel_size": -1.0}, unettile.UsageError, "--pixel-size is -1"),
        ({"measure": "volume"}, unettile.UsageError, "basic, shape, intensity, all"),
        ({"stains": "he"}, unettile.UsageError, "--image"),
        ({"min_confidence": 0.5}, unettile.UsageError, "--probabilities"),
        ({"rim": 0.5}, unettile.UsageError, "--probabilities"),
        ({"classes": 0}, unettile.UsageError, "class 0"),
    ],
    ids=lambda part: str(list(part)) if isinstance(part, dict) else "",
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        unettile.objects(make_classes(), **options)
