"""Labels that were drawn, in the place of label images: train, weights and evaluate do the same with both."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import unettile
from tests.drawn.test_labels import write_coco, write_geojson, write_labelme, write_rois
from tests.scenarios.conftest import Cli
from unettile.box import Box
from unettile.drawn.figures import IGNORED
from unettile.drawn.labels import Drawn
from unettile.errors import InputError
from unettile.images.arrays import ArrayImage
from unettile.images.slide import open_labels
from unettile.images.view import FIRST
from unettile.training.meaning import find_meaning, settle_ignored
from unettile.training.pairs import find_pairs, note_labels, note_pairs, pair_up
from unettile.training.parts import LabelPart
from unettile.training.reader import OpenPair
from unettile.training.request import TrainRequest
from unettile.training.targets import target_of
from unettile.training.views import choose_views

SHAPE = 60, 80
NAMES = ("a", "b", "c")
ENDINGS = {".geojson": write_geojson, "_RoiSet.zip": write_rois, ".json": write_labelme}


def cells(seed: int) -> list[NDArray[Any]]:
    """Return twelve octagons, apart from each other and in no order."""
    random = np.random.default_rng(seed)
    turns = np.linspace(0, 2 * np.pi, 8, endpoint=False) + 0.2
    places = [(20 * x + 10, 20 * y + 10) for x in range(4) for y in range(3)]
    random.shuffle(places)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return [np.rint((np.array(place) + circle * random.uniform(5, 9)) * 256) / 256 for place in places]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Folders of images, of label images, and of drawings of the same in each format; a COCO JSON of them all."""
    entries, annotations = [], []
    for name in ("images", "labels", *ENDINGS):
        (tmp_path / name).mkdir()
    for seed, name in enumerate(NAMES):
        polygons = cells(seed)
        for ending, write in ENDINGS.items():
            write(tmp_path / ending / f"{name}{ending}", polygons)
        values = json.loads(write_coco(tmp_path / "coco.json", polygons, id=seed, file_name=f"{name}.png").read_text())
        entries += values["images"]
        annotations += [one | {"image_id": seed} for one in values["annotations"]]
        with open_labels(Drawn(tmp_path / ".json" / f"{name}.json")) as slide:
            ids = slide.read(Box.of_shape(SHAPE))[..., 0]
        tifffile.imwrite(tmp_path / "labels" / f"{name}.tif", ids)
        noise = np.random.default_rng(seed).integers(0, 30, SHAPE)
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", (150 * (ids > 0) + noise).astype(np.uint8))
    (tmp_path / "coco.json").write_text(json.dumps({"images": entries, "annotations": annotations}))
    return tmp_path


@pytest.mark.parametrize("kind", [*ENDINGS, "coco.json"])
def test_drawings_are_what_their_label_images_are(kind: str, folders: Path, cli: Cli) -> None:
    images, labels, drawn = folders / "images", folders / "labels", folders / kind
    pairs = find_pairs(images, drawn)
    for pair, other in zip(pairs, find_pairs(images, labels), strict=True):
        with open_labels(pair.labels) as mine, open_labels(other.labels) as theirs:
            assert np.array_equal(*(slide.read(Box.of_shape(SHAPE)) for slide in (mine, theirs)))
    assert (note_pairs(pairs) is not None) == ("RoiSet" in kind)
    for given in ((labels, drawn), (drawn, labels)):
        scores = unettile.evaluate(*given, objects=True, instances=True)
        assert len(scores.scores) == len(NAMES) and scores.pooled.figures["mean_ap"] == 1


@pytest.mark.parametrize("kind", ["_RoiSet.zip", "coco.json"])
def test_weights_of_drawings_are_those_of_label_images(kind: str, folders: Path, cli: Cli) -> None:
    stated = [] if kind.endswith(".json") else ["--images", folders / "images"]
    assert cli("weights", folders / kind, "-o", folders / "drawn", *stated).code == 0
    assert cli("weights", folders / "labels", "-o", folders / "painted").code == 0
    for name in NAMES:
        maps = [tifffile.imread(next((folders / some).glob(f"{name}*.tif"))) for some in ("drawn", "painted")]
        assert np.array_equal(*maps) and len(np.unique(maps[0])) > 9


def test_training_reads_drawings_in_the_images_own_folder(folders: Path, cli: Cli) -> None:
    """LabelMe writes there. `auto` knows that what is drawn are objects; a process of a loader gets pairs pickled."""
    images = folders / "images"
    for name in NAMES:
        (folders / ".json" / f"{name}.json").rename(images / f"{name}.json")
    pairs = choose_views(find_pairs(images, images), FIRST, 1)
    assert find_meaning(pairs, LabelPart()).found == "drawn objects" and note_labels(pairs, "instances") is None
    for pair in pairs:
        with OpenPair(pickle.loads(pickle.dumps(pair)), LabelPart()) as opened:
            opened.hold()
            ids = opened.ids(Box(9, 8, 59, 70))
        assert np.array_equal(ids, tifffile.imread(folders / "labels" / f"{pair.name}.tif")[9:59, 8:70])
    done = cli("train", images, images, "-o", folders / "m.safetensors", "--recipe", "paper", "--validation", "0.99")
    assert done.code == 3 and "a validation fraction of 0.99 takes 3 of 3 images" in done.err  # they were found
    done = cli("train", folders / "labels", folders / "labels", "-o", folders / "m.safetensors")
    assert done.code == 2 and "is given twice" in done.err


def test_one_file_against_one(folders: Path, cli: Cli) -> None:
    label, image = folders / "labels" / "b.tif", folders / "images" / "b.tif"
    drawn = folders / ".geojson" / "b.geojson"
    for truth in (drawn, folders / "coco.json", folders / "_RoiSet.zip" / "b_RoiSet.zip"):
        assert unettile.evaluate(label, truth, objects=True, instances=True).pooled.figures["mean_ap"] == 1
    for stating in (folders / "coco.json", folders / ".json" / "b.json"):
        assert unettile.evaluate(stating, drawn, instances=True).pooled.figures["mean_iou"] == 1
    done = cli("evaluate", drawn, folders / "_RoiSet.zip" / "b_RoiSet.zip", "--instances")
    assert done.code == 3 and "does not state the size of its image" in done.err and done.err.count("\n") == 1
    done = cli("weights", drawn)
    assert done.code == 3 and "does not state the size of its image" in done.err and "--images" in done.err
    assert cli("weights", drawn, "--images", image).code == 0
    written = tifffile.imread(drawn.with_name("b_weights.tif"))
    drawn.with_name("b_weights.tif").unlink()  # in a folder that has images, these are the labels
    assert np.array_equal(unettile.weight_map(drawn, images=image), written)
    assert np.array_equal(unettile.weight_map(label), written)
    assert unettile.evaluate(tifffile.imread(label), drawn, instances=True).pooled.figures["mean_iou"] == 1
    assert cli("weights", label, "--images", image, "-o", folders / "w.tif").code == 2
    assert cli("weights", folders / ".geojson", "--images", image).code == 2
    (folders / "images" / "c.tif").unlink()
    done = cli("weights", folders / ".geojson", "--images", folders / "images")
    assert done.code == 3 and "c.geojson has no image in" in done.err


def test_lists_of_files_and_arrays_pair_with_drawings(folders: Path) -> None:
    image = tifffile.imread(folders / "images" / "a.tif")
    (pair,) = pair_up([ArrayImage(image)], [folders / ".geojson" / "a.geojson"])
    with open_labels(pair.labels) as slide:
        found = slide.read(Box.of_shape(SHAPE))[..., 0]
    assert np.array_equal(found, tifffile.imread(folders / "labels" / "a.tif"))


def test_the_pixels_are_never_guessed(folders: Path, cli: Cli) -> None:
    """Another folder, names of which two fit, a COCO JSON of other images."""
    write_rois(folders / ".geojson" / "a.zip", cells(0))
    done = cli("evaluate", folders / "labels", folders / ".geojson")
    assert done.code == 3 and "two drawings for 'a'" in done.err
    tifffile.imwrite(folders / "strange.tif", np.zeros(SHAPE, np.uint8))
    done = cli("evaluate", folders / "strange.tif", folders / "coco.json")
    assert done.code == 3 and "is of 3 images, none of which is called strange" in done.err


def test_regions_to_ignore_do_not_count(folders: Path, cli: Cli) -> None:
    """They lie over all objects, wherever they stand in the file; `auto` and a recipe learn their number."""
    path = folders / ".geojson" / "a.geojson"
    values = json.loads(path.read_text())
    hole = [[20, 20], [60, 20], [60, 60], [20, 60], [20, 20]]
    outside = [[0, 0], [80, 0], [80, 60], [0, 60], [0, 0]]
    ignored = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [outside, hole]},
        "properties": {"classification": {"name": "Ignore*"}},
    }
    values["features"].insert(0, ignored)
    path.write_text(json.dumps(values))
    images, ids = folders / "images", tifffile.imread(folders / "labels" / "a.tif").astype(np.int32)
    pairs = find_pairs(images, folders / ".geojson")
    part, note = settle_ignored(pairs, LabelPart())
    assert part.ignore == IGNORED and note is not None and note.startswith("1 drawing has regions to ignore")
    with OpenPair(pairs[0], part) as opened:
        found = opened.ids(Box.of_shape(SHAPE))
    counted = np.zeros(SHAPE, np.bool_)
    counted[20:60, 20:60] = True
    assert np.array_equal(found, np.where(counted, ids, IGNORED)) and found.dtype == np.int32
    target = target_of(found, part, "a")
    assert np.array_equal(target.counted, counted) and not target.classes[~counted].any() and target.classes.any()
    request = TrainRequest(
        images, folders / ".geojson", folders / "m.safetensors", "paper", ("labels.kind=instances",), validation=0.3
    )
    job = request.job()
    assert job.recipe.labels.ignore == IGNORED and note in job.notes
    with pytest.raises(InputError, match=r"leave labels.ignore = 255 out"):
        settle_ignored(pairs, LabelPart(ignore=255))
    assert np.array_equal(
        unettile.weight_map(path, images=images / "a.tif"), unettile.weight_map(np.where(counted, ids, 0))
    )
