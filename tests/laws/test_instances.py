"""Ids are a function of the image, the model and the rules: windows, blocks, shards and restarts change none of them.

Demanded is equality of every byte with the objects of the whole mask, found in one block by the job behind
`unettile objects`, for rules that use the classes, the probabilities, distances, and the network's own depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

import unettile.segmentation.instances
import unettile.tiling
from tests.narrow import make_checkpoint, make_pixels
from unettile.checkpoint import Checkpoint
from unettile.errors import Interrupted
from unettile.images.record import read_record
from unettile.inference.predict import Predictor
from unettile.objects.job import find_objects
from unettile.objects.products import Products, Sources
from unettile.objects.rules import ObjectRules
from unettile.objects.scan import OnProgress
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import run_directory_for, segment_image, segment_shard
from unettile.segmentation.stitch import stitch_run
from unettile.tiling import Shard

SHAPE = (211, 203)

RULES = {
    "connected": ObjectRules(),
    "distances": ObjectRules(split=True, max_object=40, min_size=5, fill_holes=9, close_gaps=2),
    "depth": ObjectRules(split=True, neck=0.95, rise=1.0, min_size=5, close_gaps=2),
    "its depth left out": ObjectRules(split=True, own_depth=False, max_object=40, min_size=5),
    "probabilities": ObjectRules(threshold=0.45, split=True, rise=1.0),
    "kinds": ObjectRules(threshold=0.5, min_size=3),
    "rims": ObjectRules(split=True, max_object=40, min_size=5, close_gaps=2, rim=0.45, rim_width=3),
    "rims of probabilities": ObjectRules(threshold=0.5, min_size=3, rim=0.45),
}


def make_model(kind: str) -> Checkpoint:
    """Return a model of random parameters; one with depth has one more output than classes, one with kinds two."""
    depth, classes = "depth" in kind, 3 if kind == "kinds" else 2
    checkpoint = make_checkpoint(classes=classes + depth, widths=(2, 3))
    network = checkpoint.build()
    logits = network(torch.from_numpy(make_pixels(*SHAPE)[None, None, :200, :200] / np.float32(255))).detach()
    centred = checkpoint.parameters["head.bias"] - logits.mean(dim=(0, 2, 3))
    if kind == "kinds":  # the background is about as likely as both together
        shown = logits + (centred - checkpoint.parameters["head.bias"])[None, :, None, None]
        centred[0] += (shown[:, 1:].logsumexp(dim=1) - shown[:, 0]).median()
    parameters = checkpoint.parameters | {"head.bias": centred}
    infos = checkpoint.classes[:classes]
    return replace(checkpoint, classes=infos, parameters=parameters, depth=depth, objects=RULES[kind])


@contextmanager
def silent(name: str) -> Iterator[OnProgress]:
    yield lambda done, total: None


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, make_pixels(*SHAPE))
    return path


@pytest.fixture
def segmented(image: Path) -> Callable[..., NDArray[np.integer]]:
    """Give what is written of the image."""

    def call(checkpoint: Checkpoint, *write: str, edge: int = 196, batch: int = 1) -> NDArray[np.integer]:
        out = image.with_name(f"{'_'.join(write)}.tif")
        options = SegmentOptions(write, edge, batch)
        segment_image(image, out, Predictor(checkpoint, "cpu", "fp32"), options, overwrite=True)
        pixels: NDArray[np.integer] = tifffile.imread(out)
        return pixels

    return call


@pytest.mark.parametrize("kind", RULES)
def test_ids_are_those_of_the_whole_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segmented: Callable[..., NDArray[np.integer]], kind: str
) -> None:
    checkpoint, rules = make_model(kind), RULES[kind]
    segmented(checkpoint, "probabilities" if rules.threshold else "classes")
    if checkpoint.depth:
        segmented(checkpoint, "depth")
    mask = tmp_path / ("probabilities.tif" if rules.threshold else "classes.tif")
    chances = None
    if rules.rim and not rules.threshold:
        segmented(checkpoint, "probabilities")
        chances = tmp_path / "probabilities.tif"
    depth = tmp_path / "depth.tif" if checkpoint.depth and rules.own_depth else None
    sources = Sources(mask, depth=depth, probabilities=chances)
    names = tuple(info.name for info in checkpoint.classes)
    find_objects(
        sources,
        rules.foreground(names),
        rules.labelling(names),
        Products(tmp_path / "whole.tif"),
        overwrite=False,
        stage=silent,
    )
    whole = tifffile.imread(tmp_path / "whole.tif")
    assert whole.max() > 20, "few objects show nothing"
    if rules.rim:
        segmented(replace(checkpoint, objects=replace(rules, rim=0.0)), "instances")
        assert (whole > 0).sum() > 1.02 * (tifffile.imread(tmp_path / "instances.tif") > 0).sum(), "no rim"
    for label_edge, block_edge, edge, batch in ((2048, 3072, 196, 1), (50, 64, 36, 3), (97, 32, 32, 2)):
        monkeypatch.setattr(unettile.segmentation.instances, "BLOCK_EDGE", label_edge)
        monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", block_edge)
        ids = segmented(checkpoint, "instances", edge=edge, batch=batch)
        np.testing.assert_array_equal(ids, whole, err_msg=f"labelled by {label_edge}, blocks of {block_edge}")
        if kind == "kinds":
            same = (read_record(tmp_path / name).ids for name in ("instances.tif", "whole.tif"))
            classes, expected = (ids.classes for ids in same if ids is not None)
            np.testing.assert_array_equal(classes, expected)
            assert set(classes.tolist()) == {1, 2}


@pytest.mark.parametrize("kind", ["distances", "depth"])
def test_shards_and_restarts_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path, kind: str
) -> None:
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)
    predictor, options = Predictor(make_model(kind), "cpu", "fp32"), SegmentOptions(("instances",), 64)
    segment_image(image, tmp_path / "ids.tif", predictor, options)
    expected = (tmp_path / "ids.tif").read_bytes()
    for index in reversed(range(3)):
        segment_shard(image, tmp_path / "run", Shard(index, 3), predictor, options)
    stitched = stitch_run(tmp_path / "run", tmp_path / "joined.tif")
    assert (tmp_path / "joined.tif").read_bytes() == expected
    assert (
        stitched.written.found is not None
        and stitched.written.found.count == tifffile.imread(tmp_path / "ids.tif").max()
    )

    out = tmp_path / "again.tif"
    for stage in ("blocks", "labelling"):
        with pytest.raises(Interrupted):
            segment_image(image, out, predictor, options, stopping(stage))
        assert not out.exists() and any((run_directory_for(out) / "done").iterdir())
    segment_image(image, out, predictor, options)
    assert out.read_bytes() == expected
    assert not run_directory_for(out).exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "tmp"))]


def stopping(stage: str) -> Watch:
    """Return a watch that asks to stop in the third block, or as soon as labelling has begun."""
    asked = iter([None] * 3)
    labelling: list[str] = []

    @contextmanager
    def note(name: str) -> Iterator[OnProgress]:
        labelling.append(name)
        yield lambda done, total: None

    if stage == "blocks":
        return Watch(should_stop=lambda: next(asked, 15))
    return Watch(stage=note, should_stop=lambda: 15 if labelling else None)
