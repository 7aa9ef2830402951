"""Scores: pairs found or refused, blocks summed, ids never guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from unettile.errors import InputError, UsageError
from unettile.evaluation import objects as evaluating
from unettile.evaluation.evaluate import evaluate
from unettile.evaluation.pairs import MaskPair, Meaning, pair_masks
from unettile.objects import components


def write(path: Path, values: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.asarray(values, np.uint16))
    return path


TRUTH = [[0, 1, 1, 0, 2, 2], [0, 1, 1, 0, 2, 2]]
HALF = [[0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 0]]


def test_foreground_and_objects(tmp_path: Path) -> None:
    pair = MaskPair("a", write(tmp_path / "p.tif", HALF), write(tmp_path / "t.tif", TRUTH))
    scores = evaluate([pair], Meaning(objects=True)).to_dict()["images"]["a"]
    assert scores["confusion"] == [[4, 0], [3, 5]]
    assert scores["iou"] == [4 / 7, 5 / 8] and scores["pixels"] == 12
    assert scores["objects"]["average_precision"][0] == 1 / 3  # one of two found, one invented: it covers a quarter


def test_pooled_is_the_sum_of_pixels_and_objects(tmp_path: Path) -> None:
    pairs = [
        MaskPair("a", write(tmp_path / "pa.tif", HALF), write(tmp_path / "ta.tif", TRUTH)),
        MaskPair("b", write(tmp_path / "pb.tif", np.array(TRUTH) > 0), write(tmp_path / "tb.tif", TRUTH)),
    ]
    result = evaluate(pairs, Meaning(objects=True)).to_dict()
    assert result["pooled"]["confusion"] == [[8, 0], [3, 13]]
    assert result["pooled"]["objects"]["average_precision"][0] == 3 / 5
    assert result["mean_over_images"]["ap_50"] == pytest.approx((1 / 3 + 1) / 2)


def test_blocks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    pair = MaskPair(
        "a",
        write(tmp_path / "p.tif", rng.integers(0, 3, (50, 41))),
        write(tmp_path / "t.tif", rng.integers(0, 3, (50, 41))),
    )
    meanings = (Meaning(classes=3, objects=True, boundaries=True), Meaning(instances=True, objects=True))
    whole = [evaluate([pair], meaning).to_dict() for meaning in meanings]
    monkeypatch.setattr(evaluating, "BLOCK_EDGE", 7)
    monkeypatch.setattr(components, "BLOCK_EDGE", 9)
    assert [evaluate([pair], meaning).to_dict() for meaning in meanings] == whole


def test_instances_and_truth_components(tmp_path: Path) -> None:
    touching = write(tmp_path / "ids.tif", [[1, 1, 2, 2]])
    merged = write(tmp_path / "one.tif", [[1, 1, 1, 1]])
    first = evaluate([MaskPair("a", touching, touching)], Meaning(objects=True, instances=True)).to_dict()["pooled"][
        "objects"
    ]
    assert first["true_positives"][0] == 2
    second = evaluate([MaskPair("a", merged, touching)], Meaning(objects=True, truth_components=True)).to_dict()[
        "pooled"
    ]["objects"]
    assert second["true_positives"] == [1] * 10 and second["false_negatives"] == [0] * 10


def test_several_ids_need_a_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "BLOCK_EDGE", 2)  # the second id is in another block than the first
    pair = MaskPair("a", write(tmp_path / "p.tif", [[1, 0, 0, 2]]), write(tmp_path / "t.tif", [[1, 0, 0, 2]]))
    with pytest.raises(InputError, match=r"--classes K .*--instances"):
        evaluate([pair], Meaning())
    with pytest.raises(InputError, match=r"--classes 2 allows"):
        evaluate([pair], Meaning(classes=2))
    assert evaluate([pair], Meaning(classes=3)).to_dict()["pooled"]["iou"] == [1, 1, 1]
    mask = MaskPair("a", write(tmp_path / "m.tif", [[255, 0, 0, 255]]), pair.truth)
    assert evaluate([mask], Meaning()).to_dict()["pooled"]["iou"] == [1, 1]


def test_meanings_that_contradict() -> None:
    for wrong in ({"classes": 1}, {"classes": 3, "instances": True}, {"truth_components": True}):
        with pytest.raises(UsageError):
            Meaning(**wrong)  # type: ignore[arg-type]


def test_pairing(tmp_path: Path) -> None:
    for name in ("a.tif", "b.ome.tif"):
        write(tmp_path / "p" / name, TRUTH)
    for name in ("a.tif", "b.tif", "c.tif"):
        write(tmp_path / "t" / name, TRUTH)
    with pytest.raises(InputError, match=r"c\.tif: no prediction .*--subset"):
        pair_masks(tmp_path / "p", tmp_path / "t")
    assert [pair.name for pair in pair_masks(tmp_path / "p", tmp_path / "t", subset=True)] == ["a", "b"]
    with pytest.raises(InputError, match=r"c\.tif: no truth"):
        pair_masks(tmp_path / "t", tmp_path / "p")
    with pytest.raises(UsageError, match="file with a folder"):
        pair_masks(tmp_path / "p" / "a.tif", tmp_path / "t")
    write(tmp_path / "p" / "a.tiff", TRUTH)
    with pytest.raises(InputError, match="two files called"):
        pair_masks(tmp_path / "p", tmp_path / "t")


def test_sizes_must_agree(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 × 6 px .* 1 × 4 px"):
        evaluate(
            [MaskPair("a", write(tmp_path / "p.tif", TRUTH), write(tmp_path / "t.tif", [[0, 1, 1, 0]]))], Meaning()
        )


def test_outlines_by_class(tmp_path: Path) -> None:
    truth, shifted = np.zeros((20, 30), int), np.zeros((20, 30), int)
    truth[5:15, 5:15], shifted[5:15, 9:19] = 1, 1
    truth[2, 2] = 2  # missed altogether
    pair = MaskPair("a", write(tmp_path / "p.tif", shifted), write(tmp_path / "t.tif", truth))
    result = evaluate([pair], Meaning(classes=4, boundaries=True)).to_dict()["images"]["a"]
    assert result["hausdorff_95"] == [4, None, None]
    one = evaluate([pair], Meaning(boundaries=True)).to_dict()["mean_over_images"]
    assert one["hausdorff_95_1"] > 3


def test_the_worst_come_first_and_intervals_hold_the_figure(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    pairs = []
    for number in range(12):
        truth = np.kron(np.arange(16).reshape(4, 4), np.ones((6, 6), int))
        wrong = np.where(rng.random(truth.shape) < number / 15, 0, truth)
        files = (write(tmp_path / f"p{number}.tif", wrong), write(tmp_path / f"t{number}.tif", truth))
        pairs.append(MaskPair(f"{number:02d}", *files))
    evaluation = evaluate(pairs, Meaning(objects=True, instances=True))
    assert evaluation.worst_first[0] in ("10", "11") and evaluation.worst_first[-1] == "00"
    result = evaluation.to_dict()
    for kind, figures in (("pooled", evaluation.pooled.figures), ("mean_over_images", evaluation.mean_over_images)):
        for name in ("mean_iou", "ap_50", "mean_ap", "panoptic_quality", "seg"):
            low, high = result["confidence_95"][kind][name]
            assert low < figures[name] < high, name
    assert evaluate(pairs, Meaning(objects=True, instances=True)).to_dict() == result  # drawn alike every time
    assert evaluate(pairs[:1], Meaning(instances=True)).to_dict()["confidence_95"] == {}
