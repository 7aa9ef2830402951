"""What a type checker makes of the face. mypy reads this file; nothing runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import unettile
from unettile.evaluation.score import Evaluation
from unettile.segmentation.segment import SegmentResult


def segment(image: NDArray[np.uint8], lazy: Any) -> None:
    model = unettile.load("nuclei", device="cpu")
    assert_type(model, unettile.Model)
    assert_type(model.segment(image), NDArray[Any])
    assert_type(model.segment(lazy, write="instances", changes={"min_size": 30}), NDArray[Any])
    assert_type(model.segment(Path("image.tif"), write=["classes", "instances"]), dict[str, NDArray[Any]])
    assert_type(model.segment("slide.svs", "mask.ome.tif", mpp=0.5, write=("classes",)), SegmentResult)
    model.segment(image, tiles=388)  # type: ignore[call-overload]
    model.segment(3)  # type: ignore[call-overload]


def use(ids: NDArray[np.uint16], image: NDArray[np.uint8]) -> None:
    with unettile.open("mask.ome.tif", series=1) as opened:
        assert_type(opened.read((0, 0, 10, 10)), NDArray[Any])
        assert_type(opened[:10, :10], NDArray[Any])
        unettile.load().segment(opened)
    assert_type(unettile.weight_map(ids, w0=10, sigma=5), NDArray[Any])
    assert_type(unettile.evaluate(ids, "truth.tif", objects=True, instances=True), Evaluation)
    cells = unettile.objects(ids, image=image, instances=True)
    _ = cells["area_px"], list(cells)
    assert_type(unettile.train([image, "a.tif"], [ids, "b.tif"], "mine.safetensors", workers=0), unettile.Model)
    unettile.objects(ids, instance=True)  # type: ignore[call-arg]
