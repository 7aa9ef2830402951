"""Kinds of objects: labels that say which object is of which kind train a model that says so, too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.training.runs import RECIPE
from unettile.box import Box
from unettile.checkpoint import load_checkpoint
from unettile.cli import run
from unettile.drawn.labels import Drawn
from unettile.errors import InputError
from unettile.images.idclasses import IdClasses
from unettile.images.record import read_record
from unettile.images.slide import open_labels
from unettile.images.view import FIRST
from unettile.metrics.overlaps import count_overlaps
from unettile.metrics.pairings import pair_objects
from unettile.objects.rules import ObjectRules
from unettile.training.card import Seen
from unettile.training.facts import find_facts
from unettile.training.job import Data
from unettile.training.kinds import UNKNOWN, ObjectKinds, read_kinds, settle_foreground
from unettile.training.kindscores import kind_counts
from unettile.training.meaning import find_meaning, with_kinds
from unettile.training.pairs import Pair, find_pairs
from unettile.training.parts import AugmentPart, LabelPart, LossPart, OptimizerPart, RunPart, SamplePart
from unettile.training.reader import OpenPair
from unettile.training.recipe import NetworkPart
from unettile.training.recipefile import read_recipe
from unettile.training.request import TrainRequest
from unettile.training.samples import Samples
from unettile.training.survey import class_weights, survey
from unettile.training.targets import target_of
from unettile.training.words import early_words

SHAPE = 80, 96
NAMES = ("background", "disc", "square")
KINDS = LabelPart(names=NAMES)
SIMPLE = replace(RECIPE, labels=KINDS, network=NetworkPart(config={"widths": [6, 8], "padding": "same"}))
Figure = tuple[str, list[list[float]]]


def figures(rng: np.random.Generator) -> list[Figure]:
    """Return discs and squares in rows, most of which touch the next one: the class and the corners of each."""
    found: list[Figure] = []
    for y in (14.0, 40.0, 66.0):
        x = 13 + float(rng.uniform(0, 4))
        while x < SHAPE[1] - 12:
            name = ("Disc", "Square")[rng.integers(2)]
            turns = np.arange(4) * np.pi / 2 + np.pi / 4 if name == "Square" else np.linspace(0, 2 * np.pi, 25)[:-1]
            radius = 12.0 if name == "Square" else 9.5
            corners = np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1)
            found.append((name, (np.rint(corners * 256) / 256).tolist()))
            x += float(rng.choice([18.5, 25.0]))
    return found


def write_qupath(path: Path, drawn: Sequence[Figure]) -> Path:
    """Write regions as QuPath exports them; those without a class have no classification."""
    features = [
        {
            "type": "Feature",
            "properties": {"objectType": "annotation"} | ({"classification": {"name": name}} if name else {}),
            "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
        }
        for name, corners in drawn
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def read_qupath(path: Path) -> list[Figure]:
    features = json.loads(path.read_text())["features"]
    names = (one["properties"].get("classification", {}).get("name", "") for one in features)
    return [(name, one["geometry"]["coordinates"][0][:-1]) for name, one in zip(names, features, strict=True)]


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Six images of discs and squares, a disc brighter than a square, and regions that were drawn around them."""
    rng = np.random.default_rng(3)
    for folder in ("images", "qupath"):
        (tmp_path / folder).mkdir()
    for name in "abcdef":
        drawn = figures(rng)
        path = write_qupath(tmp_path / "qupath" / f"{name}.geojson", drawn)
        light = np.array([0, *(110 if kind == "Disc" else 55 for kind, _ in drawn)])
        image = 50 + light[ids_of(path)] + rng.normal(0, 10, SHAPE)
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", np.clip(image, 0, 255).astype(np.uint8))
    return tmp_path


def ids_of(path: Path) -> NDArray[np.int64]:
    image = path.parent.parent / "image.tif"
    tifffile.imwrite(image, np.zeros(SHAPE, np.uint8))
    with open_labels(Drawn(path, image)) as slide:
        return slide.read(Box.of_shape(SHAPE))[..., 0].astype(np.int64)


def write_ids(path: Path, ids: NDArray[np.int64], classes: Sequence[int] = (), names: Sequence[str] = ()) -> Path:
    """Write an image of ids as unettile does, with their classes; without classes as another program does."""
    described = {"unettile": "1", "content": "instances", "classes": list(names)}
    said = described | IdClasses(np.array(classes, np.uint32)).to_metadata() if len(classes) else None
    tifffile.imwrite(path, ids.astype(np.uint16), description=None if said is None else json.dumps(said))
    return path


def test_a_model_tells_kinds_of_objects_apart(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From QuPath's regions of two classes to objects by kind, through the command line: at least 95 % are right.

    Every fourth region has no class.
    """
    true = {path.stem: Drawn(path).object_names for path in (shapes / "qupath").iterdir()}
    for path in (shapes / "qupath").iterdir():
        write_qupath(path, [("" if k % 4 == 3 else one[0], one[1]) for k, one in enumerate(read_qupath(path))])
    recipe = replace(
        SIMPLE,
        network=NetworkPart(config={"widths": [6, 8], "padding": "same", "up": "nearest", "batch_norm": True}),
        labels=LabelPart(gap=1),
        augment=AugmentPart(zoom=(0.9, 1.1), elastic_std=0.0),
        loss=LossPart(w0=2.0, sigma=3.0),
        optimizer=OptimizerPart(learning_rate=2e-2, warmup_steps=5),
        run=RunPart(epochs=2, steps_per_epoch=35, batch=4, output_edge=40),
        objects=ObjectRules(split=True, min_size=20, close_gaps=2),
    )
    (shapes / "recipe.toml").write_text(recipe.to_toml())
    model = shapes / "m.safetensors"
    command = ["train", str(shapes / "images"), str(shapes / "qupath"), "-o", str(model), "--workers", "0"]
    changes = [f'labels.names=["background", "{NAMES[1]}", "{NAMES[2]}"]', "run.select=mpq", "run.calibrate=true"]
    options = ["--recipe", str(shapes / "recipe.toml"), "--validation", "0.34", "--precision", "fp32"]
    assert run([*command, *options, *(word for change in changes for word in ("--set", change))]) == 0
    told = capsys.readouterr().err
    assert "foreground: where all kinds together have a probability of 0.5" in told and "mPQ of the kinds" in told
    checkpoint = load_checkpoint(model)
    assert [info.name for info in checkpoint.classes] == list(NAMES) and checkpoint.objects.threshold == 0.5
    scores = checkpoint.card["scores"]
    assert scores["right_kind"] > 0.95 and set(scores["kinds"]) == set(NAMES[1:]) and 0.5 < scores["mpq"] <= 1
    log = (shapes / "m.training" / "log.csv").read_text().splitlines()
    assert log[0].split(",")[-2:] == ["mpq", "plan"] and 0 <= float(log[1].split(",")[-2]) <= 1
    assert "Kinds of objects" in (shapes / "m.training" / "report.html").read_text()

    matched = right = 0
    for name in (shapes / "m.training" / "validation.txt").read_text().split():
        out = shapes / f"{name}_ids.tif"
        image = shapes / "images" / f"{name}.tif"
        assert run(["segment", str(image), "-o", str(out), "-m", str(model), "--write", "instances"]) == 0
        record, found = read_record(out), tifffile.imread(out)
        assert record.ids is not None and record.ids.shares is not None
        for pairing in pair_objects(count_overlaps(found, ids_of(shapes / "qupath" / f"{name}.geojson"))):
            if pairing.result == "matched":
                matched += 1
                said = record.name(int(record.ids.classes[pairing.prediction - 1]))
                right += said == true[name][pairing.truth - 1].casefold()
    assert matched >= 20 and right >= 0.95 * matched
    capsys.readouterr()
    assert (
        run(["evaluate", str(out), str(shapes / "qupath" / f"{name}.geojson"), "--objects", "--instances", "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)["pooled"]["objects"]
    assert len(found["panoptic_quality_by_class"]) == 2 and found["multi_class_panoptic_quality"] > 0.7


def test_kinds_are_those_of_the_drawn_regions(shapes: Path) -> None:
    """Case does not count, a region without a class is of unknown kind, and one that is not listed is refused."""
    path = shapes / "qupath" / "a.geojson"
    drawn = figures(np.random.default_rng(9))[:4]
    write_qupath(path, [(name, drawn[k][1]) for k, name in enumerate(("SQUARE", "", "disc", "Square"))])
    assert read_kinds(Drawn(path), FIRST, NAMES).of(np.arange(6)).tolist() == [0, 2, UNKNOWN, 1, 2, UNKNOWN]
    write_qupath(path, [("Star", drawn[0][1])])
    with pytest.raises(InputError) as refused:
        read_kinds(Drawn(path), FIRST, NAMES)
    text = str(refused.value)
    assert "class 'Star', labels.names has disc, square: add it there" in text and "\n" not in text


@pytest.mark.parametrize("classes", [[2, 1, 0, 2], [1, 1, 1, 1]])
def test_ids_of_unettile_know_their_kinds(tmp_path: Path, classes: list[int]) -> None:
    """By the names of their classes, whatever numbers these have."""
    ids = np.repeat(np.arange(5), 20).reshape(10, 10)
    path = write_ids(tmp_path / "a.tif", ids, classes, ("background", "Square", "disc"))
    expected = [0, *({0: UNKNOWN, 1: 2, 2: 1}[number] for number in classes), UNKNOWN]
    assert read_kinds(path, FIRST, NAMES).of(np.arange(6)).tolist() == expected
    with pytest.raises(InputError, match="objects of the class 'Square'"):
        read_kinds(path, FIRST, ("background", "disc", "star"))
    plain = write_ids(tmp_path / "b.tif", ids)
    assert read_kinds(plain, FIRST, NAMES).of(np.arange(3)).tolist() == [0, UNKNOWN, UNKNOWN]


def test_ids_of_one_kind_take_no_memory(tmp_path: Path) -> None:
    described = {"unettile": "1", "content": "instances", "classes": list(NAMES), "objects": 81, "id_classes": 2}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.uint8), description=json.dumps(described))
    kinds = read_kinds(tmp_path / "a.tif", FIRST, NAMES)
    assert kinds.of(np.array([0, 1, 7, 81, 82])).tolist() == [0, 2, 2, 2, UNKNOWN] and kinds.starts.size == 2
    claim = json.dumps(described | {"objects": 2**32 - 1})
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.uint8), description=claim)
    with pytest.raises(InputError, match="need at most its 81 pixels"):
        read_kinds(tmp_path / "a.tif", FIRST, NAMES)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("id,class,class_name,area_px\n1,7,disc,9\n2,8,square,9\n", [1, 2, UNKNOWN]),
        ("class;id\nDisc;3\n;2\n", [UNKNOWN, UNKNOWN, 1]),
        ("\ufeffid\tclass\n1\t2\n3\t1\n2\t0\n", [2, UNKNOWN, 1]),
    ],
)
def test_a_table_beside_a_label_image_says_kinds(tmp_path: Path, table: str, expected: list[int]) -> None:
    """Before the image's own metadata; numbers are the places in labels.names."""
    path = write_ids(tmp_path / "a.ome.tif", np.eye(9, dtype=np.int64), [2, 2, 2], NAMES)
    (tmp_path / "a.csv").write_text(table)
    assert read_kinds(path, FIRST, NAMES).of(np.arange(1, 4)).tolist() == expected


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("label,area\n1,9\n", "has the columns label, area: need id, and class_name or class"),
        ("id,class\n1,disc\n1,square\n", "has the id 1 twice"),
        ("id,class\nx,disc\n", "line 2: need an id, a whole number above 0"),
        ("id,class\n1,star\n", "class 'star', labels.names has disc, square"),
    ],
)
def test_a_table_that_says_something_else_is_refused(tmp_path: Path, table: str, message: str) -> None:
    path = write_ids(tmp_path / "a.tif", np.eye(9, dtype=np.int64))
    (tmp_path / "a.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        read_kinds(path, FIRST, NAMES)


def test_the_table_of_the_objects_command_is_one(shapes: Path) -> None:
    """What `objects --table` writes of a mask of classes, beside the ids of the same command."""
    mask, ids = shapes / "mask.tif", shapes / "ids.tif"
    pixels = np.zeros((40, 60), np.uint8)
    pixels[5:15, 5:15], pixels[20:30, 30:50], pixels[5:15, 40:50] = 2, 1, 2
    described = {"unettile": "1", "content": "classes", "classes": ["background", "+disc", "square"]}
    tifffile.imwrite(mask, pixels, description=json.dumps(described))
    assert run(["objects", str(mask), "-o", str(ids), "--table", str(shapes / "ids.csv")]) == 0
    tifffile.imwrite(ids, tifffile.imread(ids))  # without the metadata
    assert read_kinds(ids, FIRST, ("background", "+disc", "square")).of(np.arange(4)).tolist() == [0, 2, 2, 1]


def test_targets_are_of_kinds_and_all_else_sees_objects(shapes: Path) -> None:
    ids = np.zeros((30, 40), np.int64)
    ids[5:25, 5:15], ids[5:25, 15:25], ids[5:25, 27:35] = 3, 8, 9
    kinds = ObjectKinds(np.array([3, 4, 8, 9]), np.array([2, UNKNOWN, 1, UNKNOWN]))
    target, alike = (target_of(ids, replace(KINDS, names=names), "x", 0, kinds) for names in (NAMES, NAMES[:2]))
    assert target.classes[10, [0, 8, 20, 30]].tolist() == [0, 2, 1, UNKNOWN] and alike.classes.max() == 1
    np.testing.assert_array_equal(target.classes != 0, alike.classes != 0)
    np.testing.assert_array_equal(target.weights(10.0, 5.0), alike.weights(10.0, 5.0))
    bordered = target_of(ids, replace(KINDS, border=4), "x", 0, kinds).classes
    assert bordered[10, 15] == 3 and set(np.unique(bordered)) == {UNKNOWN, 0, 1, 2, 3}


def test_samples_of_unknown_kinds_weigh_what_an_object_does_on_average(shapes: Path) -> None:
    """With balanced classes; of 1 and 3 parts of the pixels, kinds weigh 4/2 and 4/6, an average pixel 1."""
    pairs = find_pairs(shapes / "images", shapes / "qupath")[:1]
    recipe = replace(SIMPLE, loss=LossPart(w0=0.0), augment=AugmentPart(plain=1.0))
    path = shapes / "qupath" / "a.geojson"
    write_qupath(path, [("" if k % 2 else one[0], one[1]) for k, one in enumerate(read_qupath(path))])
    sample = Samples(survey(pairs, recipe), recipe, 0, (0.5, 2.0, 2 / 3))[1]
    assert isinstance(sample, tuple)
    _, classes, weights, _ = sample
    assert {UNKNOWN, 0} < set(np.unique(classes).tolist())
    for number, weight in ((0, 0.5), (1, 2.0), (2, 2 / 3), (UNKNOWN, 1.0)):
        np.testing.assert_allclose(weights[classes == number], weight, rtol=1e-6)


def test_what_is_said_of_kinds_is_part_of_a_set(shapes: Path) -> None:
    """The card counts them, and a run that is resumed notices when one has changed."""
    pairs = find_pairs(shapes / "images", shapes / "qupath")
    seen = Seen.of(survey(pairs, SIMPLE), SIMPLE).described
    names = [name for pair in pairs if isinstance(pair.labels, Drawn) for name in pair.labels.object_names]
    assert seen["kinds"] == {"disc": names.count("Disc"), "square": names.count("Square")}
    assert seen["objects"] == sum(seen["kinds"].values())
    with OpenPair(pairs[0], KINDS) as one, OpenPair(pairs[0], LabelPart(names=("background", "square", "disc"))) as two:
        assert one.content() != two.content()
    assert not survey(pairs[:1], replace(SIMPLE, labels=LabelPart()))[0].kinds


def test_words_about_kinds(shapes: Path) -> None:
    pairs = find_pairs(shapes / "images", shapes / "qupath")
    (unlike,) = (word for word in early_words(Data(pairs, pairs), RECIPE) if "classes" in word)
    assert unlike.endswith("""--set 'labels.names=["background", "Disc", "Square"]' learns them as kinds""")
    drawn = figures(np.random.default_rng(1))[:4]
    for pair in pairs:
        told = [("Disc" if k else "", corners) for k, (_, corners) in enumerate(drawn)]
        write_qupath(shapes / "qupath" / f"{pair.name}.geojson", told)
    words = early_words(Data(pairs, pairs), SIMPLE)
    assert "no training image has square: the network cannot learn it; check labels.names" in words
    assert "6 of 24 objects are of unknown kind: they teach where objects are, and not which" in words
    assert not [word for word in early_words(Data(pairs, pairs), RECIPE) if "classes" in word], "one class is no kind"
    for pair in pairs:
        write_qupath(shapes / "qupath" / f"{pair.name}.geojson", [("", corners) for _, corners in drawn])
    with pytest.raises(
        InputError, match="no object of the training labels is of a known kind: need some of disc, square"
    ):
        class_weights(survey(pairs, SIMPLE), SIMPLE)


def test_auto_learns_the_kinds_that_labels_have(shapes: Path) -> None:
    """All of them, from whatever says them; names that are given, and a class alone, stay what they were."""
    images, drawn = shapes / "images", shapes / "qupath"

    def choose(labels: Path, *changes: str) -> TrainRequest:
        return TrainRequest(images, labels, shapes / "m.safetensors", "auto", changes, max_seconds=60.0)

    recipe, reasons = choose(drawn).choose()
    assert recipe.labels.kind == "instances" and recipe.labels.names == ("background", "Disc", "Square")
    assert recipe.objects.threshold == 0.5 and recipe.run.select == "mpq"
    assert any("labels are drawn objects, of 2 kinds: Disc, Square" in reason for reason in reasons)
    assert any(reason.startswith("foreground: ") for reason in reasons) and max(map(len, reasons)) <= 200
    assert choose(drawn, "objects.threshold=0").choose()[0].objects.threshold == 0
    plain = choose(drawn, "labels.kind=instances", 'labels.names=["background", "object"]').choose()[0]
    assert not plain.labels.kinds and plain.run.select == "ap" and plain.objects.threshold == 0

    ids = shapes / "ids"
    ids.mkdir()
    for path in drawn.glob("*.geojson"):
        write_ids(ids / f"{path.stem}.tif", ids_of(path))
    assert not choose(ids).choose()[0].labels.kinds
    for path in drawn.glob("*.geojson"):
        rows = [f"{number},{name}" for number, name in enumerate(Drawn(path).object_names, start=1)]
        (ids / f"{path.stem}.csv").write_text("\n".join(["id,class", *rows]) + "\n")
    assert choose(ids).choose()[0].labels.names == ("background", "Disc", "Square")
    for path in ids.glob("*.csv"):
        path.write_text("label,area\n1,5\n")  # of another program
    assert not choose(ids).choose()[0].labels.kinds


def test_facts_tell_how_much_each_kind_covers(shapes: Path) -> None:
    """So that `auto` centres as many samples on a rare kind as on another."""
    pairs = find_pairs(shapes / "images", shapes / "qupath")
    meaning = with_kinds(pairs, find_meaning(pairs, LabelPart()))
    shares = find_facts(pairs, meaning).shares
    drawn = [
        (ids_of(pair.labels.path), ("", *pair.labels.object_names)) for pair in pairs if isinstance(pair.labels, Drawn)
    ]
    for number, name in enumerate(("", "Disc", "Square")):
        pixels = sum(int((np.array(names)[ids] == name).sum()) for ids, names in drawn)
        assert shares[number] == pytest.approx(pixels / (len(pairs) * SHAPE[0] * SHAPE[1]))


def test_shipped_recipes_take_kinds() -> None:
    for name in ("nuclei-valid", "nuclei"):
        recipe = read_recipe(name, ('labels.names=["background", "a", "b"]', "sources={}"))
        settled, note = settle_foreground(recipe)
        assert settled.objects == replace(recipe.objects, threshold=0.5) and note is not None
        assert settle_foreground(settled) == (settled, None)
    assert settle_foreground(RECIPE) == (RECIPE, None)
    assert replace(SIMPLE, samples=SamplePart(balance="classes")).classes == 3


def test_scores_of_kinds_by_hand() -> None:
    """Three of four objects are found; one of these is of unknown kind, and one is taken for the other kind."""
    true, found = np.zeros((4, 40), np.int64), np.zeros((4, 40), np.int64)
    for number, start in enumerate((0, 10, 20, 30), start=1):
        true[:, start : start + 8] = number
    found[:, 0:8], found[:, 10:16], found[:, 20:28] = 5, 2, 1
    kinds = ObjectKinds(np.array([1, 2, 3, 4, 5]), np.array([1, 2, UNKNOWN, 2, UNKNOWN]))
    numbers = np.array([1, 1, 0, 0, 1])  # of the ids 1 … 5: 1 lies on the unknown one, 2 is wrong, 5 is right
    counts = kind_counts(found, numbers, true, kinds, 2)
    np.testing.assert_allclose(counts.table, [[1, 1, 0, 1.0], [0, 0, 2, 0.0]])
    assert (counts.matched, counts.right, counts.accuracy) == (2, 1, 0.5)
    np.testing.assert_allclose(counts.panoptic_quality, [1 / 1.5, 0.0])
    np.testing.assert_allclose(counts.f1, [2 / 3, 0.0])
    both = counts + counts
    assert both.mpq == pytest.approx((1 / 1.5) / 2) and both.true.tolist() == [2, 4]
    card = both.to_card(NAMES[1:])
    assert card["right_kind"] == 0.5 and card["kinds"]["square"] == {"pq": 0.0, "f1": 0.0, "objects": 4}


def test_stacks_have_no_table(tmp_path: Path) -> None:
    path = write_ids(tmp_path / "a.tif", np.eye(9, dtype=np.int64))
    (tmp_path / "a.csv").write_text("id,class\n1,disc\n")
    with pytest.raises(InputError, match="is of a stack, whose planes have the same ids"):
        read_kinds(path, replace(FIRST, z=1), NAMES)
    assert Pair(path, path).label_view == FIRST
