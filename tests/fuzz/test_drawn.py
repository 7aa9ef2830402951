"""Damaged and absurd files of drawn labels: COCO, LabelMe and ImageJ's regions end in a line, or are drawn."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile
from hypothesis import given
from hypothesis import strategies as st

from tests.drawn.test_labels import write_coco, write_labelme, write_rois
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutations import absurd_json, damaged
from tests.fuzz.test_values import SEARCH, check
from unettile.drawn.files import read_figures
from unettile.images.canvas import Canvas
from unettile.images.formats import write_image

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(600)]

POLYGONS = [np.array(corners, float) for corners in ([[5, 5], [40, 8], [30, 40]], [[50, 20], [70, 20], [60, 45]])]
CODE = {"segmentation": {"size": [60, 80], "counts": [100, 20, 40, 20, 4620]}, "iscrowd": 1, "bbox": [1, 2, 3, 4]}
"""A run-length code, as COCO has it for crowds."""


@pytest.mark.parametrize("kind", ["coco", "labelme"])
def test_json(fuzz: Fuzz, tmp_path: Path, kind: str) -> None:
    valid = valid_json(kind, tmp_path / "valid.json")

    def case(rng: random.Random, folder: Path) -> list[object]:
        path = folder / f"{kind}.json"
        path.write_text(absurd_json(rng, valid), "utf-8", "surrogatepass")
        return ["weights", path, "-o", folder / "out.tif"]

    fuzz.each(kind, case)


def test_regions(fuzz: Fuzz, tmp_path: Path) -> None:
    image = tmp_path / "image.tif"
    write_image(image, Canvas((60, 80)), lambda box: np.zeros(box.shape, np.uint8))
    region = roifile.ImagejRoi.frompoints(POLYGONS[0].astype(np.float32)).tobytes()
    whole = write_rois(tmp_path / "whole.zip", POLYGONS).read_bytes()

    def case(rng: random.Random, folder: Path) -> list[object]:
        path = folder / "image.zip"
        if rng.random() < 0.5:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for number in range(rng.choice((1, 2))):
                    archive.writestr(rng.choice(("", "../", "a/")) + f"{number}.roi", damaged(rng, region, 256))
        else:
            path.write_bytes(damaged(rng, whole))
        return ["weights", path, "--images", image, "-o", folder / "out.tif"]

    fuzz.each("regions", case)


@pytest.mark.parametrize("kind", ["coco", "labelme"])
@given(data=st.data())
@SEARCH
def test_any_value_in_any_place(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    path = tmp_path / "drawn.json"

    def read(text: str) -> object:
        path.write_text(text)
        return read_figures(path)

    check(read, valid_json(kind, tmp_path / "valid.json"), data)


def valid_json(kind: str, path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((write_coco if kind == "coco" else write_labelme)(path, POLYGONS).read_text())
    if kind == "coco":
        found["images"] = [{"id": 7, "file_name": "a.png", "height": 60, "width": 80}]
        assert isinstance(found["annotations"], list)
        found["annotations"].append(CODE | {"image_id": 7, "category_id": 1})
    else:
        found |= {"imageHeight": 60, "imageWidth": 80}
    return found
