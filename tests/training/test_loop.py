"""Training runs: they learn, repeat, and refuse what cannot be meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch

from tests.training.runs import RECIPE, make_job, run
from unettile.checkpoint import load_checkpoint
from unettile.errors import InputError, UsageError
from unettile.networks import build_network
from unettile.training.pairs import Pair, find_pairs, hold_out
from unettile.training.parts import LabelPart
from unettile.training.recipe import NetworkPart


def test_training_lowers_the_loss_and_leaves_what_it_says(data: Path) -> None:
    recipe = replace(RECIPE, run=replace(RECIPE.run, epochs=4, steps_per_epoch=15))
    result, _ = run(make_job(data, recipe))
    rows = result.rows
    assert [row.epoch for row in rows] == [1, 2, 3, 4]
    assert rows[-1].training_loss < 0.5 * rows[0].training_loss
    assert rows[-1].validation_loss < rows[0].validation_loss and rows[-1].iou > 0.85
    assert result.best == min(rows, key=lambda row: row.validation_loss)
    checkpoint = load_checkpoint(data / "model.safetensors")
    assert checkpoint.recipe == recipe.to_dict()
    assert checkpoint.card["epoch"] == result.best.epoch
    log = (result.folder / "log.csv").read_text().splitlines()
    assert len(log) == 5 and log[0].startswith("epoch,step,training_loss")
    assert (result.folder / "validation.txt").read_text().split() == [p.name for p in make_job(data).validation]


def test_a_seed_repeats_a_run_whatever_the_number_of_workers(data: Path) -> None:
    first, losses = run(make_job(data, name="a"))
    again, same = run(replace(make_job(data, name="b"), workers=2))
    assert losses == same
    assert first.checkpoint.sha256 == again.checkpoint.sha256
    other, _ = run(make_job(data, replace(RECIPE, run=replace(RECIPE.run, seed=1)), name="c"))
    assert other.checkpoint.sha256 != first.checkpoint.sha256


def test_classes_balanced_weights_and_precomputed_weight_maps(data: Path) -> None:
    three = replace(
        RECIPE,
        labels=LabelPart(kind="classes", names=("background", "a", "b", "c", "d")),
        loss=replace(RECIPE.loss, class_weights="balanced"),
        run=replace(RECIPE.run, epochs=1, select="iou"),
    )
    result, _ = run(make_job(data, three, "classes"))
    assert len(result.checkpoint.classes) == 5 and result.best.ap is None
    with pytest.raises(InputError, match="has class 4, the recipe names 2"):
        run(make_job(data, replace(three, labels=LabelPart(kind="classes")), "few"))

    (data / "maps").mkdir()
    for index in range(6):
        flat = np.full((70, 90), 1, np.uint8)
        (data / "maps" / f"{index}.png").write_bytes(imagecodecs.png_encode(flat))
    job = make_job(data, replace(RECIPE, loss=replace(RECIPE.loss, w0=0.0)), "on_the_fly")
    pairs = {p.name: p for p in find_pairs(data / "images", data / "labels", data / "maps")}
    from_maps = replace(job, training=tuple(pairs[p.name] for p in job.training), output=data / "maps.safetensors")
    assert run(job)[1] == pytest.approx(run(from_maps)[1], rel=1e-5)


def test_a_run_can_begin_with_the_parameters_of_a_model(data: Path) -> None:
    first, _ = run(make_job(data, name="first"))
    tiny = replace(RECIPE.optimizer, learning_rate=1e-9)
    job = replace(make_job(data, replace(RECIPE, optimizer=tiny), "next"), start=first.checkpoint)
    result, _ = run(job)
    torch.testing.assert_close(result.checkpoint.parameters["head.weight"], first.checkpoint.parameters["head.weight"])
    more = replace(RECIPE, optimizer=tiny, labels=LabelPart(border=2))
    result, _ = run(replace(make_job(data, more, "more"), start=first.checkpoint))
    kept, new = first.checkpoint.parameters, result.checkpoint.parameters
    assert {name for name in kept if kept[name].shape != new[name].shape} == {"head.weight", "head.bias"}
    torch.testing.assert_close(new["down.0.0.weight"], kept["down.0.0.weight"])
    wide = replace(RECIPE, network=NetworkPart(config=RECIPE.network.config | {"widths": [4, 6, 9]}))
    with pytest.raises(InputError, match=r"widths is \[4, 6, 8\], the recipe's \[4, 6, 9\]"):
        run(replace(make_job(data, wide, "wide"), start=first.checkpoint))


def test_files_that_do_not_pair_are_refused(data: Path) -> None:
    (data / "labels" / "3.png").rename(data / "labels" / "x.png")
    with pytest.raises(InputError, match=r"1 files have no label image of the same name: 3"):
        find_pairs(data / "images", data / "labels")
    (data / "images" / "3.png").unlink()
    with pytest.raises(InputError, match=r"\(label images\) have no image of the same name: x"):
        find_pairs(data / "images", data / "labels")


def test_labels_of_another_shape_or_without_objects_are_refused(data: Path) -> None:
    path = data / "labels" / "0.png"
    path.write_bytes(imagecodecs.png_encode(np.ones((5, 5), np.uint8)))
    with pytest.raises(InputError, match=r"0.png has shape \(5, 5\), its image has \(70, 90\)"):
        run(make_job(data))
    for index in range(6):
        (data / "labels" / f"{index}.png").write_bytes(imagecodecs.png_encode(np.zeros((70, 90), np.uint8)))
    with pytest.raises(InputError, match="background only"):
        run(make_job(data, name="other"))


def test_the_held_out_images_depend_on_names_alone() -> None:
    pairs = [Pair(Path(f"{i}.png"), Path(f"{i}.png")) for i in range(50)]
    _, held_out, _ = hold_out(pairs, 0.2)
    assert len(held_out) == 10
    assert set(hold_out(pairs[::-1], 0.2)[1]) == set(held_out)
    assert len(hold_out(pairs, 0.001)[1]) == 1  # one at least
    with pytest.raises(InputError, match="--validation"):
        hold_out(pairs, 1.0)


def test_an_output_edge_that_does_not_fit_and_a_wrong_number_of_channels(data: Path) -> None:
    with pytest.raises(UsageError, match="tile edge 41 does not fit"):
        run(make_job(data, replace(RECIPE, run=replace(RECIPE.run, output_edge=41))))
    with pytest.raises(InputError, match=r"set network.in_channels=1"):
        two = NetworkPart(config=RECIPE.network.config | {"in_channels": 2})
        run(make_job(data, replace(RECIPE, network=two), "b"))


def test_a_batch_in_several_passes_is_the_same_step(data: Path) -> None:
    plain = replace(RECIPE, network=NetworkPart(config={"widths": [4, 6, 8]}), run=replace(RECIPE.run, batch=4))
    one, _ = run(make_job(data, plain, "one"))
    four, _ = run(make_job(data, replace(plain, run=replace(plain.run, accumulate=4)), "four"))
    assert [row.training_loss for row in four.rows] == pytest.approx([row.training_loss for row in one.rows], rel=1e-4)
    with pytest.raises(InputError, match="batch = 4 cannot be split"):
        replace(plain, run=replace(plain.run, accumulate=3))


def test_the_average_of_the_parameters_is_what_is_scored_and_saved(data: Path) -> None:
    slow = replace(RECIPE, run=replace(RECIPE.run, epochs=1, steps_per_epoch=3, ema=0.999))
    averaged, _ = run(make_job(data, slow, "averaged"))
    plain, _ = run(make_job(data, replace(slow, run=replace(slow.run, ema=0.0)), "plain"))
    torch.manual_seed(slow.run.seed)
    first = build_network("unet", slow.network_config()).state_dict()
    last = torch.load(averaged.folder / "state.pt", weights_only=True)["network"]
    name = "head.weight"
    torch.testing.assert_close(last[name], plain.checkpoint.parameters[name])  # the steps themselves are the same
    kept, moved = averaged.checkpoint.parameters[name] - first[name], last[name] - first[name]
    assert 0 < kept.norm() < moved.norm()  # on the way from the first parameters to the last
    assert int(averaged.checkpoint.parameters["down.0.1.num_batches_tracked"]) == 3


def test_training_ends_early_where_nothing_improves(data: Path) -> None:
    still = replace(RECIPE.optimizer, learning_rate=1e-12)
    patient = replace(RECIPE, optimizer=still, run=replace(RECIPE.run, epochs=9, steps_per_epoch=1, patience=2))
    flat = replace(patient, network=NetworkPart(config={"widths": [4, 6, 8]}))  # no statistics that move
    result, _ = run(make_job(data, flat))
    assert len(result.rows) < 9 and result.best.epoch <= len(result.rows) - 2
    again, _ = run(replace(make_job(data, flat), resume=True))  # a run that is over stays over
    assert again.checkpoint.sha256 == result.checkpoint.sha256


def test_a_run_that_leaves_the_numbers_is_refused_at_once(data: Path) -> None:
    wild = replace(RECIPE.optimizer, name="sgd", clip_norm=0.0, warmup_steps=0)
    for steps, rate, what in (
        (2, 1e30, "the loss is .* at step 2"),
        (1, 3e38, "parameters are no finite numbers after step 1"),
    ):
        recipe = replace(RECIPE, optimizer=wild, run=replace(RECIPE.run, epochs=1, steps_per_epoch=steps))
        object.__setattr__(recipe, "optimizer", replace(wild, learning_rate=rate))  # far out of a recipe's range
        with pytest.raises(InputError, match=what):
            run(make_job(data, recipe, f"wild{steps}"))


def test_a_part_is_kept_to_test_on_at_the_end(data: Path) -> None:
    pairs = find_pairs(data / "images", data / "labels")
    training, validation, test = hold_out(pairs, 0.17, 0.34)
    assert (len(training), len(validation), len(test)) == (3, 1, 2) and len({*training, *validation, *test}) == 6
    result, _ = run(replace(make_job(data), training=training, validation=validation, test=test))
    assert result.test is not None and [image.name for image in result.test.images] == [pair.name for pair in test]
    assert load_checkpoint(data / "model.safetensors").card["scores"]["test"]["iou"] == result.test.iou
    assert (result.folder / "test.txt").read_text().split() == [pair.name for pair in test]


def test_mixed_precision_keeps_parameters_in_float32(data: Path) -> None:
    result, _ = run(replace(make_job(data), precision="bf16"))
    assert {tensor.dtype for tensor in result.checkpoint.parameters.values()} <= {torch.float32, torch.int64}
    exact, _ = run(make_job(data, name="exact"))
    assert result.rows[0].training_loss == pytest.approx(exact.rows[0].training_loss, rel=0.05)
