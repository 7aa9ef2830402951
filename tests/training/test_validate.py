"""Validation: the objects that are scored are those that the recipe's rules make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.training.runs import RECIPE, make_job, run
from unettile.objects.rules import ObjectRules
from unettile.training.validate import Judge


def test_rules_decide_which_objects_are_found(data: Path) -> None:
    result, _ = run(make_job(data, replace(RECIPE, run=replace(RECIPE.run, epochs=1))))
    network = result.checkpoint.build()

    def found(rules: ObjectRules) -> int:
        recipe = replace(RECIPE, objects=rules)
        judge = Judge(network, result.checkpoint.geometry, recipe)
        scores = [judge.score(source, (-8.0,))[0].objects for source in result.sources]
        return sum(score.tp[0] + score.fp[0] for score in scores if score is not None)

    assert found(ObjectRules()) > 0
    assert found(ObjectRules(min_size=10**6)) == 0
    assert found(ObjectRules(threshold=0.001, min_size=2)) > 0
