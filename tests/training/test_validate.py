"""Validation: what is scored is what `segment` writes; the objects are those that the recipe's rules make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from tests.training.runs import RECIPE, make_job, run
from unettile.checkpoint import Checkpoint
from unettile.images.record import read_record
from unettile.images.slide import open_labels
from unettile.inference.predict import Predictor
from unettile.metrics.objects import match_counts
from unettile.metrics.pixels import confusion_matrix
from unettile.objects.rules import ObjectRules
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image
from unettile.training.kindscores import kind_counts
from unettile.training.parts import LabelPart
from unettile.training.reader import OpenPair
from unettile.training.result import TrainResult
from unettile.training.targets import target_of
from unettile.training.validate import Judge, middle


@pytest.fixture
def result(data: Path) -> TrainResult:
    found, _ = run(make_job(data, replace(RECIPE, run=replace(RECIPE.run, epochs=1))))
    return found


def test_a_validation_gives_its_memory_back(result: TrainResult) -> None:
    """A GPU's graphs and feature maps would else be kept beside the next steps."""
    judge = result.judge
    assert "engine" not in vars(judge._predictor)
    judge.predict(result.sources[0])
    assert "engine" in vars(judge._predictor)
    unused = Judge(result.checkpoint, RECIPE)
    unused.rest()
    assert "_predictor" not in vars(unused)


def test_what_is_scored_is_what_segment_writes(tmp_path: Path, result: TrainResult) -> None:
    """The same classes and the same objects of the same image, to the pixel."""
    rules = ObjectRules(min_size=2)
    recipe = replace(RECIPE, objects=rules)
    predictor = Predictor(result.checkpoint, "cpu", "fp32")
    judge, as_it_is = Judge(result.checkpoint, recipe), SegmentOptions(("classes",), diameter="off")
    for source in result.sources:
        classes, ids = tmp_path / "classes.tif", tmp_path / "ids.tif"
        segment_image(source.pair.image, classes, predictor, as_it_is, overwrite=True)
        options = SegmentOptions(("instances",), objects=rules, diameter="off")
        segment_image(source.pair.image, ids, predictor, options, overwrite=True)
        mask = tifffile.imread(classes)
        assert middle(source.shape).shape == mask.shape
        predicted = judge.predict(source)
        np.testing.assert_array_equal(predicted.classes, mask)
        (score,) = judge.score(source)
        with open_labels(source.pair.labels) as labels:
            truth = labels.read(middle(source.shape))[..., 0]
        target = target_of(truth.astype(np.int32), recipe.labels, "labels")
        np.testing.assert_array_equal(score.confusion, confusion_matrix(mask, target.classes, recipe.classes))
        assert score.objects is not None
        expected = match_counts(tifffile.imread(ids), truth, (0.5,))
        assert (score.objects.tp, score.objects.fp, score.objects.fn) == (expected.tp, expected.fp, expected.fn)


@pytest.mark.parametrize(
    "part", [LabelPart(border=4), LabelPart(names=("background", "a", "b"))], ids=["border", "kinds"]
)
def test_objects_are_scored_as_segment_finds_them(data: Path, part: LabelPart) -> None:
    """A border is none, and objects of several kinds come of all kinds together; a share of them is of unknown kind."""
    for path in (data / "labels").glob("*.png"):
        path.with_suffix(".csv").write_text("id,class\n1,a\n2,b\n3,\n")
    recipe = replace(RECIPE, labels=part, objects=ObjectRules(threshold=0.68 if part.kinds else 0.0, min_size=2))
    result, _ = run(make_job(data, replace(recipe, run=replace(recipe.run, epochs=1))))
    model = evened(result.checkpoint)
    predictor, judge = Predictor(model, "cpu", "fp32"), Judge(model, recipe)
    kinds_found = set()
    for source in result.sources:
        (score,) = judge.score(source)
        ids = data / "ids.tif"
        options = SegmentOptions(("instances",), diameter="off")
        segment_image(source.pair.image, ids, predictor, options, overwrite=True)
        record, found = read_record(ids), tifffile.imread(ids)
        with OpenPair(source.pair, part) as opened:
            truth, kinds = opened.ids(middle(source.shape)), opened.kinds
        assert score.objects == match_counts(found, truth, (0.5,)) and found.max() > 2
        assert (score.kinds is None) == (not part.kinds)
        if score.kinds is not None and kinds is not None and record.ids is not None:
            kinds_found.update(record.ids.classes.tolist())
            counts = kind_counts(found, record.ids.classes, truth, kinds, 2)
            np.testing.assert_array_equal(score.kinds.table, counts.table)
            target = target_of(truth, part, "labels", kinds=kinds)
            assert score.confusion.sum() == (target.classes >= 0).sum() < target.classes.size
            assert score.foreground is not None and score.foreground[:, 1].sum() >= (found > 0).sum()
    assert (result.best.mpq is None) == (not part.kinds) and kinds_found == ({1, 2} if part.kinds else set())


def evened(checkpoint: Checkpoint) -> Checkpoint:
    """Return the model with biases by which its classes are about as likely as each other on noise."""
    with torch.inference_mode():
        logits = checkpoint.build()(torch.rand((1, 1, 100, 100), generator=torch.Generator().manual_seed(0)))
    middle_of_each = logits.movedim(1, 0).flatten(1).median(dim=1).values
    bias = checkpoint.parameters["head.bias"] - middle_of_each
    return replace(checkpoint, parameters=checkpoint.parameters | {"head.bias": bias})


def test_rules_decide_which_objects_are_found(result: TrainResult) -> None:
    def found(rules: ObjectRules) -> int:
        judge = Judge(result.checkpoint, replace(RECIPE, objects=rules))
        scores = [judge.score(source, (-8.0,))[0].objects for source in result.sources]
        return sum(score.tp[0] + score.fp[0] for score in scores if score is not None)

    assert found(ObjectRules()) > 0
    assert found(ObjectRules(min_size=10**6)) == 0
    assert found(ObjectRules(threshold=0.001, min_size=2)) > 0


def test_training_may_go_on_with_the_parameters(result: TrainResult) -> None:
    """The first score takes them as they are; what becomes of them later changes nothing."""
    model = replace(result.checkpoint, parameters={k: v.clone() for k, v in result.checkpoint.parameters.items()})
    judge = Judge(model, RECIPE)
    before = judge.predict(result.sources[0]).probabilities
    for tensor in model.parameters.values():
        tensor.zero_()
    np.testing.assert_array_equal(judge.predict(result.sources[0]).probabilities, before)
