"""Ids keep their class: of merged classes the majority, in the image's own metadata, and read back from it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import tifffile
from numpy.typing import NDArray

from tests.objects.shapes import InMemory
from tests.objects.test_job import field, silent
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import write_image
from unettile.images.idclasses import IdClasses
from unettile.images.record import read_record
from unettile.objects.found import Found
from unettile.objects.job import find_objects
from unettile.objects.labelling import Cutter, label_objects
from unettile.objects.products import Products, Sources
from unettile.objects.rules import Foreground, Labelling, ObjectRules, Splitting
from unettile.objects.spill import Spill
from unettile.tiling import BlockGrid

NAMES = ("background", "lymphocyte", "tumour", "=stroma")


def two_classes() -> NDArray[np.uint32]:
    """Blobs whose pixels are of class 1, 2 or 3."""
    inside = field((120, 140)) > 0.55
    kinds = 1 + np.digitize(field((120, 140), seed=5), [0.4, 0.6])
    return np.where(inside, kinds, 0).astype(np.uint32)


@pytest.mark.parametrize("edge", [13, 40, 200])
@pytest.mark.parametrize("splitting", [None, Splitting(smallest=6)], ids=["connected", "split"])
def test_a_merged_object_has_the_class_of_most_of_its_pixels(edge: int, splitting: Splitting | None) -> None:
    classes = two_classes()
    grid, labelling = BlockGrid((120, 140), edge), Labelling(splitting, min_size=6, merged=True)
    with Spill(grid, Path(tempfile.gettempdir())) as spill:
        cutter = Cutter(InMemory(classes), splitting, None, merged=True)
        objects = label_objects(cutter, labelling, grid, spill, lambda done, total: None)
        ids = objects.read(next(iter(BlockGrid((120, 140), 999))).box)
    alone = replace(labelling, merged=False)
    with Spill(grid, Path(tempfile.gettempdir())) as spill:
        cutter = Cutter(InMemory(classes > 0), splitting, None)
        whole = label_objects(cutter, alone, grid, spill, lambda done, total: None)
        np.testing.assert_array_equal(ids, whole.read(next(iter(BlockGrid((120, 140), 999))).box))
    assert objects.numbers.shares is not None and (objects.numbers.shares < 1).sum() > 5
    for number in range(1, objects.count + 1):
        counts = np.bincount(classes[ids == number], minlength=4)
        assert objects.numbers.classes[number - 1] == counts.argmax(), "of equals the first"
        assert objects.numbers.shares[number - 1] == counts.max() / counts.sum()


@pytest.mark.parametrize("classes", [[], [7], [2, 2, 2], [1, 2, 1], [1, 70000], [300, 1]])
def test_metadata_carry_the_classes_of_ids(classes: list[int]) -> None:
    one = IdClasses(np.array(classes, np.uint32), np.linspace(0.2, 1, len(classes)))
    back = IdClasses.from_metadata(json.loads(json.dumps(one.to_metadata())))
    assert back is not None and back.classes.tolist() == classes and back.shares is not None
    np.testing.assert_allclose(back.shares, one.shares, atol=0.5 / 255)


def test_a_million_ids_take_little_room() -> None:
    classes = np.random.default_rng(0).integers(1, 4, 1_000_000).astype(np.uint32)
    assert len(json.dumps(IdClasses(classes).to_metadata())) < 400_000


@pytest.mark.parametrize(
    "changes",
    [
        {"objects": 9},
        {"objects": -1},
        {"objects": 10**30},
        {"objects": "3"},
        {"id_classes": -1},
        {"id_classes": "x"},
        {"id_classes": {"type": "float64", "zlib": ""}},
        {"id_classes": {"type": "uint8", "zlib": "%%"}},
        {"id_classes": {"type": "uint8", "zlib": "AAAA"}},
        {"id_shares": [1, 2]},
    ],
)
def test_damaged_classes_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    described = {"unettile": "0.1.0", "content": "instances"} | IdClasses(np.array([1, 2, 1], np.uint32)).to_metadata()
    path = tmp_path / "ids.tif"
    tifffile.imwrite(path, np.zeros((9, 9), np.uint8), description=json.dumps(described | changes), metadata=None)
    with pytest.raises(InputError, match="its metadata say"):
        read_record(path)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    path = tmp_path / "classes.tif"
    layer = Layer("classes", reduction="majority", names=NAMES, colours=((0, 0, 0), (9, 8, 7), (6, 5, 4), (3, 2, 1)))
    metadata = {"unettile": "0.1.0", "write": ["classes"], "classes": list(NAMES), "downsample": [2.0, 2.0]}
    pixels = two_classes().astype(np.uint8)
    write_image(path, Canvas((120, 140), (layer,), metadata=metadata), lambda box: pixels[box.slices])
    return path


def run(mask: Path, labelling: Labelling, foreground: Foreground | None = None, **products: Path) -> Found:
    return find_objects(
        Sources(mask), foreground or Foreground(), labelling, Products(**products), overwrite=True, stage=silent
    )


@pytest.mark.parametrize("ending", ["tif", "ome.tif", "png", "ome.zarr"])
def test_objects_of_ids_have_the_classes_that_the_ids_were_given(tmp_path: Path, mask: Path, ending: str) -> None:
    ids, first, second = tmp_path / f"ids.{ending}", tmp_path / "first.csv", tmp_path / "second.csv"
    made = run(mask, Labelling(min_size=6, merged=True), labels=ids, table=first, geojson=tmp_path / "a.geojson")
    assert set(made.by_class) == set(NAMES[1:])
    again = run(ids, Labelling(), table=second, geojson=tmp_path / "b.geojson", labels=tmp_path / "more.tif")
    assert again.by_class == made.by_class
    one, other = pandas.read_csv(first), pandas.read_csv(second)
    assert other["mask_id"].tolist() == one["id"].tolist()
    for name in ("class", "class_name", "area_px", "centroid_x_px"):
        assert one[name].tolist() == other[name].tolist(), name
    np.testing.assert_allclose(one["class_share"], other["class_share"], atol=0.5 / 255 + 1e-6)
    assert "'=stroma" in set(one["class_name"]), "no spreadsheet computes a name"
    polygons = (tmp_path / "a.geojson").read_text("utf-8")
    assert '"color":[9,8,7]' in polygons.replace(" ", "")
    assert read_record(tmp_path / "more.tif").ids is not None
    chosen = run(ids, Labelling(), Foreground(classes=(2,)), table=second)
    assert chosen.by_class == {"tumour": made.by_class["tumour"]}
    with pytest.raises(UsageError, match="--merge-classes"):
        run(ids, Labelling(merged=True), table=second)


def test_an_id_that_its_metadata_do_not_know_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids.tif"
    described = {"unettile": "0.1.0", "content": "instances", "objects": 1, "id_classes": 1}
    tifffile.imwrite(path, np.full((9, 9), 2, np.uint8), description=json.dumps(described), metadata=None)
    with pytest.raises(InputError, match="id 2"):
        run(path, Labelling(), table=tmp_path / "t.csv")


def test_rules_merge_the_classes_of_a_model_that_has_several() -> None:
    assert ObjectRules().labelling(NAMES).merged and not ObjectRules(merge_classes=False).labelling(NAMES).merged
    assert not ObjectRules().labelling(("background", "nucleus", "border")).merged
