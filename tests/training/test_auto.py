"""The plan of a training: from what a set is like and what a job has, with reasons."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unettile.checkpoint import load_checkpoint
from unettile.cli import run
from unettile.errors import InputError
from unettile.images.arrays import ArrayImage
from unettile.models import find_model
from unettile.training.auto import Means, choose_recipe, describe
from unettile.training.facts import Facts, find_facts
from unettile.training.meaning import Meaning, find_meaning
from unettile.training.network import make_network
from unettile.training.pairs import Pair, find_pairs, hold_out
from unettile.training.parts import LabelPart
from unettile.training.recipefile import read_recipe, recipe_from_dict
from unettile.training.request import TrainRequest

CPU = Means("cpu", 2, 600.0)
VESSELS = Facts(
    2, {3: 2}, 16_000_000, (2336, 3504), 2336, 1.0, 0.0, False, (0.95, 0.05), 9, 0.0, (9, 60, 300), 1.2, 12.0
)
NUCLEI = Facts(10, {1: 8, 3: 2}, 900_000, (256, 256), 256, 0.5, 0.5, False, (0.8, 0.2), 23, 0.3, (8, 20, 40), 1.4, 9.0)
MASK = Meaning(LabelPart(kind="classes", names=("background", "foreground"), values=(0, 255)), "masks of 0 and 255")
IDS = Meaning(LabelPart(), "ids of objects, up to 75")


def test_a_plan_fits_masks() -> None:
    plan = choose_recipe(VESSELS, MASK, CPU)
    recipe = plan.recipe
    assert (recipe.loss.dice, recipe.loss.w0, recipe.run.select, recipe.labels.values) == (1.0, 0.0, "iou", (0, 255))
    assert recipe.images.per_channel and recipe.split.validation == 0 and not recipe.run.calibrate
    assert recipe.samples.balance == "none" and recipe.labels.diameter == 0
    rare = choose_recipe(replace(VESSELS, shares=(0.998, 0.002), uneven=True), MASK, CPU).recipe
    assert rare.samples.balance == "classes" and not rare.images.per_channel


def test_a_plan_fits_objects() -> None:
    recipe = choose_recipe(NUCLEI, IDS, CPU).recipe
    assert recipe.loss.w0 > 0 and recipe.labels.depth and recipe.objects.split and recipe.run.select == "ap"
    assert recipe.split.validation == 0.2 and recipe.run.calibrate and recipe.samples.kinds > 0
    apart = choose_recipe(replace(NUCLEI, touching=0.0), IDS, CPU).recipe
    assert apart.loss.w0 == 0 and not apart.labels.depth and not apart.objects.split
    many = replace(NUCLEI, channels={5: 10})
    assert choose_recipe(many, IDS, CPU).recipe.labels.diameter == 0
    assert choose_recipe(replace(many, spread=4.0), IDS, CPU).recipe.labels.diameter == "auto"
    few, tiny = (
        choose_recipe(replace(NUCLEI, diameters=sizes), IDS, CPU).recipe for sizes in ((8, 20, 40), (5, 9, 12))
    )
    assert tiny.labels.diameter == 28.0 and tiny.objects.min_size > few.objects.min_size


def test_objects_are_shown_to_the_model_as_it_knows_them() -> None:
    """Scaled and sized as those that `nuclei` was trained on, whose parameters it begins with."""
    start = load_checkpoint(find_model("nuclei"))
    recipe = choose_recipe(replace(NUCLEI, channels={3: 10}, bright=0.0, coloured=1.0), IDS, CPU).recipe
    scaling = start.normalization
    assert (recipe.images.per_channel, recipe.images.signed) == (scaling.per_channel, scaling.signed)
    assert recipe.labels.diameter == start.recipe["labels"]["diameter"]
    masks = choose_recipe(replace(VESSELS, bright=0.0), MASK, CPU).recipe
    assert masks.images.per_channel, "what is no object may have any colour"


def test_every_choice_has_a_reason_and_the_plan_is_a_recipe_to_edit() -> None:
    plan = choose_recipe(VESSELS, MASK, CPU)
    subjects = [reason.partition(":")[0] for reason in plan.reasons]
    assert len(set(subjects)) == len(subjects)
    for subject in (
        "images", "network", "scaling", "object size", "validation", "samples", "augmentation", "loss", "window",
        "schedule", "calibration", "learning rate",
    ):  # fmt: skip
        assert subject in subjects
    assert "object rules" in " ".join(choose_recipe(NUCLEI, IDS, CPU).reasons)
    assert not [reason for reason in plan.reasons if "\n" in reason or len(reason) > 200]
    text = describe(plan.reasons) + plan.recipe.to_toml()
    assert all(f"# {reason}\n" in text for reason in plan.reasons)
    assert recipe_from_dict(tomllib.loads(text)) == plan.recipe


def test_networks_fit_the_channels_and_begin_with_what_is_known() -> None:
    recipe = choose_recipe(VESSELS, MASK, CPU).recipe
    start = load_checkpoint(find_model(recipe.network.start))
    network, _, _ = make_network(recipe, start, fresh=True)
    same = [name for name, tensor in network.state_dict().items() if start.parameters[name].equal(tensor)]
    assert len(same) > 0.9 * len(start.parameters)
    five = choose_recipe(replace(VESSELS, channels={5: 2}), MASK, CPU).recipe
    assert five.in_channels == 5 and not five.network.start and not five.images.grey_to_rgb
    with pytest.raises(InputError, match=r"different numbers of channels \(1 of 2, 1 of 3\): choose with --channel"):
        choose_recipe(replace(VESSELS, channels={2: 1, 3: 1}), MASK, CPU)


def test_the_window_fits_the_images_and_the_time() -> None:
    assert choose_recipe(replace(NUCLEI, smallest_edge=100), IDS, CPU).recipe.run.output_edge == 96
    assert choose_recipe(NUCLEI, IDS, replace(CPU, seconds=60.0)).recipe.run.output_edge == 192
    long, gpu = (
        choose_recipe(VESSELS, MASK, replace(CPU, seconds=None)),
        choose_recipe(VESSELS, MASK, replace(CPU, device="cuda")),
    )
    assert any("as --max-time gives no end" in reason for reason in long.reasons)
    assert gpu.recipe.run.batch > long.recipe.run.batch


def test_facts_of_discs(data: Path) -> None:
    pairs = find_pairs(data / "images", data / "labels")
    facts = find_facts(pairs, find_meaning(pairs, LabelPart(), "instances"))
    assert (facts.images, facts.channels, facts.shape, facts.smallest_edge) == (6, {1: 6}, (70, 90), 70)
    assert facts.objects == 4 and facts.diameters is not None and 18 < facts.diameters[1] < 23
    assert facts.touching >= 0.5 and facts.spread < 1.2 and facts.coloured == 0 and 0.15 < facts.shares[1] < 0.3
    assert 10 < facts.thickness < 22


def test_facts_of_colours() -> None:
    rng = np.random.default_rng(0)
    bright = rng.integers(150, 256, (64, 64, 3)).astype(np.uint8)
    red = np.stack([rng.integers(0, 200, (64, 64)), *rng.integers(0, 4, (2, 64, 64))], axis=-1).astype(np.uint8)
    labels = np.zeros((64, 64), np.uint8)
    labels[10:20, 10:20] = 255
    pairs = [Pair(ArrayImage(image, name=str(n)), ArrayImage(labels)) for n, image in enumerate((bright, red))]
    one, other = (find_facts([pair], MASK) for pair in pairs)
    assert (one.coloured, one.bright, one.uneven) == (1, 1, False)
    assert (other.coloured, other.bright, other.uneven) == (1, 0, True)
    assert one.shares[1] == pytest.approx(100 / 64**2)


def test_few_images_hold_out_one_and_none_if_asked(data: Path) -> None:
    pairs = find_pairs(data / "images", data / "labels")
    training, validating, _ = hold_out(pairs[:4], 0.1)
    assert len(training) == 3 and len(validating) == 1
    assert hold_out(pairs, 0.0)[0] == tuple(pairs)


def test_plan_stops_before_training_and_its_recipe_can_be_given(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(data / "images"), str(data / "labels")]
    model = data / "model.safetensors"
    assert run(["train", *folders, "-o", str(model), "--plan", "--max-time", "5m"]) == 3
    assert "give --set labels.kind=instances, or" in capsys.readouterr().err, "each image has as many"
    folders += ["--set", "labels.kind=instances"]
    assert run(["train", *folders, "-o", str(model), "--plan", "--max-time", "5m"]) == 0
    said = capsys.readouterr().err
    assert "network: lite-unet begun with" in said and "schedule: ends with the time, 5 min 00 s" in said
    plan = data / "model.toml"
    assert not model.exists() and not (data / "model.training").exists()
    assert plan.read_text().count("# ") > 10
    assert run(["train", *folders, "-o", str(model), "--plan"]) == 3
    assert "exists" in capsys.readouterr().err
    request = TrainRequest(data / "images", data / "labels", model, str(plan), resume=True)
    job, start = request.job(), load_checkpoint(find_model("nuclei"))
    assert job.recipe == read_recipe(str(plan)) and job.reasons == ()
    assert job.start is not None and job.start.sha256 == start.sha256


def test_auto_chooses_once_for_a_run_that_goes_on(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = data / "model.safetensors"
    changes = ("labels.kind=instances", "network.name=unet", "network.widths=[4, 6]", "run.output_edge=40")
    sets = [word for change in (*changes, "run.steps_per_epoch=900", "run.batch=1") for word in ("--set", change)]
    command = ["train", str(data / "images"), str(data / "labels"), "-o", str(model), "--workers", "0", "--resume"]
    assert run([*command, *sets, "--max-time", "1s", "--epochs", "9"]) == 75
    assert "network: " in capsys.readouterr().err
    kept = (data / "model.training" / "recipe.toml").read_text()
    assert kept.startswith("# Chosen by") and "# loss: " in kept
    assert run([*command, "--max-time", "1s", "--epochs", "9"]) == 75, "what was changed stays so"
    assert "network: " not in capsys.readouterr().err
