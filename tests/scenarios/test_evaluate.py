"""`evaluate` through the command line: the table, the JSON, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile

from tests.scenarios.conftest import Cli
from unettile.images.idclasses import IdClasses

SAMPLES = Path(__file__).parents[2] / "sample_data" / "nuclei" / "labels"


def test_labels_agree_with_themselves(cli: Cli) -> None:
    done = cli("evaluate", SAMPLES, SAMPLES, "--objects", "--instances", "--json", "--quiet")
    assert done.code == 0 and done.err == ""
    result = json.loads(done.out)
    assert result["pooled"]["iou"] == [1, 1] and result["pooled"]["objects"]["mean_average_precision"] == 1
    assert len(result["images"]) == len(list(SAMPLES.glob("*.tif")))


def test_the_table(cli: Cli, tmp_path: Path) -> None:
    truth = np.zeros((40, 40), np.uint16)
    truth[5:15, 5:15], truth[20:30, 20:30] = 1, 2
    prediction = (truth > 0).astype(np.uint8)
    prediction[20:30, 25:30] = 0
    tifffile.imwrite(tmp_path / "t.tif", truth)
    tifffile.imwrite(tmp_path / "p.tif", prediction)
    done = cli("evaluate", tmp_path / "p.tif", tmp_path / "t.tif", "--objects", "--boundaries", "--quiet")
    assert done.code == 0 and done.err == ""
    rows = [line.split() for line in done.out.splitlines()]
    assert ["foreground", "0.7500", "0.8571", "200", "150"] in rows
    assert ["0.50", "0.3333", "0.5000", "1", "1", "1"] in rows  # half a cell is not more than half


def test_refusals(cli: Cli, tmp_path: Path) -> None:
    some = next(iter(sorted(SAMPLES.glob("*.tif"))))
    for arguments, code, part in (
        ((tmp_path / "no.tif", some), 3, "no such file"),
        ((some, SAMPLES), 2, "file with a folder"),
        ((some, some), 3, "--instances"),
        ((some, some, "--classes", 2), 3, "--classes 2"),
        ((some, some, "--classes", 3, "--instances"), 2, "exclude"),
        ((tmp_path, SAMPLES), 3, "holds no images"),
    ):
        done = cli("evaluate", *arguments)
        assert done.code == code and part in done.err and done.err.count("\n") == 1 and done.out == "", done.err


def test_every_object_is_listed_and_classes_are_scored(cli: Cli, tmp_path: Path) -> None:
    truth = np.zeros((60, 60), np.uint16)
    truth[5:15, 5:15], truth[20:30, 20:30], truth[40:50, 40:50] = 1, 2, 3
    prediction = np.zeros_like(truth)
    prediction[5:15, 5:14], prediction[20:30, 20:30], prediction[52:58, 2:8] = 9, 5, 7
    classes = np.where(truth == 3, 2, (truth > 0) * 1).astype(np.uint8)
    guessed = np.where(prediction == 5, 2, (prediction > 0) * 1).astype(np.uint8)
    for name, pixels in (("t", truth), ("p", prediction), ("tc", classes), ("pc", guessed)):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels)
    table = tmp_path / "match.csv"
    maps = ("--prediction-classes", tmp_path / "pc.tif", "--truth-classes", tmp_path / "tc.tif")
    command = ("evaluate", tmp_path / "p.tif", tmp_path / "t.tif", "--objects", "--instances", "--boundaries")
    done = cli(*command, *maps, "--match", table, "--json", "--quiet")
    assert done.code == 0, done.err
    found = json.loads(done.out)["pooled"]["objects"]
    assert found["aggregated_jaccard"] == (90 + 100) / (100 + 100 + 100 + 36)
    assert found["detection"] == {"f1": 4 / 6, "true_positives": 2, "false_positives": 1, "false_negatives": 1}
    # Class 1: 9 with 1 at 0.9; 2 missed, 7 invented. Class 2: 3 missed, 5 invented.
    assert found["panoptic_quality_by_class"] == [0.9 / 2, 0.0]
    assert found["multi_class_panoptic_quality"] == 0.225
    assert 0 < json.loads(done.out)["images"]["p"]["boundary_f1"][0] < 1
    rows = [line.split(",") for line in table.read_text("utf-8").splitlines()]
    assert [row[1:4] + row[7:8] for row in rows[1:]] == [
        ["matched", "0.9000", "1", "9"],
        ["matched", "1.0000", "2", "5"],
        ["missed", "0.0000", "3", ""],
        ["invented", "0.0000", "", "7"],
    ]
    assert rows[1][4:7] == ["100", "9.5000", "9.5000"]
    done = cli(*command, "--match", table)
    assert done.code == 3 and "--overwrite" in done.err
    assert "aji" in cli(*command, *maps).out
    tifffile.imwrite(tmp_path / "pc.tif", guessed[:40])
    done = cli(*command, *maps)
    assert done.code == 3 and "pc.tif is 40 × 60 px and" in done.err and "is 60 × 60 px: need the classes" in done.err
    for arguments, part in (
        (("--match", tmp_path / "m.txt"), ".csv"),
        (maps[:2], "belong together"),
        (("--distance", "-1"), "--distance"),
        (("--tolerance", "nan"), "--tolerance"),
    ):
        done = cli(*command, *arguments)
        assert done.code == 2 and part in done.err and done.err.count("\n") == 1, done.err


def test_classes_have_objects_of_their_own(cli: Cli, tmp_path: Path) -> None:
    truth = np.zeros((30, 30), np.uint8)
    truth[5:10, 5:10], truth[5:10, 10:15] = 1, 2
    tifffile.imwrite(tmp_path / "t.tif", truth)
    tifffile.imwrite(tmp_path / "p.tif", np.where(truth == 2, 1, truth))
    done = cli("evaluate", tmp_path / "p.tif", tmp_path / "t.tif", "--objects", "--classes", 3, "--json", "--quiet")
    # Class 1: 25 of 50 px are no match, one is missed, one invented. Class 2: one missed.
    assert json.loads(done.out)["pooled"]["objects"]["panoptic_quality_by_class"] == [0.0, 0.0]
    done = cli("evaluate", tmp_path / "t.tif", tmp_path / "t.tif", "--objects", "--classes", 3, "--json", "--quiet")
    assert json.loads(done.out)["pooled"]["objects"]["multi_class_panoptic_quality"] == 1


def test_drawn_objects_have_their_classes_by_name(cli: Cli, tmp_path: Path) -> None:
    """Ids know 1 as Stroma and 2 as Tumor, and one has no class. Of six regions one is missed, one is taken for the
    other class, and two have no class: neither they nor what matches one count."""
    ids = np.zeros((40, 80), np.uint16)
    for number, x in enumerate((2, 18, 34, 50, 66), start=1):
        ids[10:20, x : x + 10] = number
    described = {"unettile": "1", "content": "instances", "classes": ["background", "Stroma", "Tumor"]}
    described |= IdClasses(np.array([2, 1, 1, 0, 1], np.uint32)).to_metadata()
    tifffile.imwrite(tmp_path / "p.tif", ids, description=json.dumps(described))
    regions = [(2, 10, "tumor"), (18, 10, "TUMOR"), (34, 10, ""), (66, 10, "Stroma"), (2, 25, "Gland"), (20, 25, "")]
    features = [
        {
            "type": "Feature",
            "properties": {"classification": {"name": name}} if name else {},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[x, y], [x + 10, y], [x + 10, y + 10], [x, y + 10], [x, y]]],
            },
        }
        for x, y, name in regions
    ]
    (tmp_path / "t.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    command = ("evaluate", tmp_path / "p.tif", tmp_path / "t.geojson", "--objects", "--instances", "--json", "--quiet")
    done = cli(*command)
    assert done.code == 0, done.err
    # Stroma: one found, one invented. Tumor: one of two found. Gland: missed.
    assert json.loads(done.out)["pooled"]["objects"]["panoptic_quality_by_class"] == [1 / 1.5, 1 / 1.5, 0.0]
    described["classes"] = ["background", "nucleus", "other"]
    tifffile.imwrite(tmp_path / "p.tif", ids, description=json.dumps(described))
    assert "panoptic_quality_by_class" not in json.loads(cli(*command).out)["pooled"]["objects"], "no name in common"


def test_ids_of_a_stack_have_the_classes_of_their_plane(cli: Cli, tmp_path: Path) -> None:
    ids = np.zeros((2, 20, 30), np.uint16)
    ids[:, 2:10, 2:10], ids[:, 12:18, 12:18] = 1, 2
    said = {"unettile": "1", "content": "instances", "classes": ["background", "Stroma", "Tumor"]}
    said |= {"planes": {"t": [0], "z": [0, 1]}, "objects": [2, 2]}
    for name, second in (("p", [2, 1]), ("t", [2, 2])):
        planes = [IdClasses(np.array(one, np.uint32)).to_metadata()["id_classes"] for one in ([1, 2], second)]
        text = "ImageJ=\nimages=2\nslices=2\nunettile=" + json.dumps(said | {"id_classes": planes})
        tifffile.imwrite(tmp_path / f"{name}.tif", ids, description=text, metadata=None)
    command = ("evaluate", tmp_path / "p.tif", tmp_path / "t.tif", "--objects", "--instances", "--json", "--quiet")
    done = cli(*command)
    assert done.code == 0, done.err
    # Stroma: one found, one invented. Tumor: two found, one missed.
    assert json.loads(done.out)["pooled"]["objects"]["panoptic_quality_by_class"] == [1 / 1.5, 2 / 2.5]


def test_more_objects_than_pixels_are_refused(cli: Cli, tmp_path: Path) -> None:
    said = {"unettile": "1", "content": "instances", "objects": 2**32 - 1, "id_classes": 1}
    tifffile.imwrite(tmp_path / "p.tif", np.eye(20, dtype=np.uint16), description=json.dumps(said))
    for claim in (10**12, 2**32 - 1):
        text = json.dumps(said | {"objects": claim})
        tifffile.imwrite(tmp_path / "t.tif", np.eye(20, dtype=np.uint16), description=text)
        refused = cli("evaluate", tmp_path / "t.tif", tmp_path / "t.tif", "--objects", "--instances")
        assert refused.code == 3 and f"objects = {claim}, need at most its 400 pixels" in refused.err, refused.err
        assert refused.err.count("\n") == 1
