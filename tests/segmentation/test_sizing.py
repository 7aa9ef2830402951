"""Sizing: what is asked for, what is found, and when an image is left as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from skimage.filters import gaussian

from tests.narrow import make_checkpoint
from unettile.checkpoint import load_checkpoint
from unettile.errors import UsageError
from unettile.images.arrays import ArrayImage
from unettile.images.slide import open_slide
from unettile.inference.predict import Predictor
from unettile.models import find_model
from unettile.objectsize import ObjectSize
from unettile.segmentation.diameter import Diameter, parse_diameter
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planning import plan_image
from unettile.segmentation.sizing import (
    BOX_EDGE,
    BOXES,
    LEAST_ALIKE,
    Sighting,
    Sizing,
    estimate_diameter,
    look,
    sample_boxes,
    sizing_advice,
)

SIZE = ObjectSize(20, 10, 40)
SAMPLE = Path(__file__).parents[2] / "sample_data" / "nuclei.tif"


@pytest.fixture(scope="module")
def sized() -> Predictor:
    return Predictor(replace(make_checkpoint(widths=(2, 3)), objects_px=SIZE), "cpu", "fp32")


@pytest.mark.parametrize(
    ("text", "found"),
    [("90", Diameter(90)), ("7,5px", Diameter(7.5)), ("12um", Diameter(12, True)), ("12 µm", Diameter(12, True))],
)
def test_sizes_are_read(text: str, found: Diameter) -> None:
    assert parse_diameter(text) == found and parse_diameter("auto") is parse_diameter("off") is None


@pytest.mark.parametrize("text", ["0", "-3", "abc", "", "nan", "inf", "1e999", "12mm", "9" * 5000])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        SegmentOptions(diameter=text)


@pytest.mark.parametrize("diameter", ["2.9", "801"])
def test_a_scale_out_of_bounds_is_refused(image: Path, sized: Predictor, diameter: str) -> None:
    with pytest.raises(UsageError, match=r"at (8\.62|0\.0312) of its size, need 1/32 to 8"):
        plan_image(image, sized, SegmentOptions(diameter=diameter))


def test_what_a_size_needs_is_said(image: Path, sized: Predictor, predictor: Predictor) -> None:
    with pytest.raises(UsageError, match="give --pixel-size, or px"):
        plan_image(image, sized, SegmentOptions(diameter="12um"))
    with pytest.raises(UsageError, match="does not state the size of its objects"):
        plan_image(image, predictor, SegmentOptions(diameter="90"))
    with pytest.raises(UsageError, match="need image or model"):
        SegmentOptions(frame="network")


def test_a_model_that_states_no_size_leaves_images_as_they_are(image: Path, predictor: Predictor) -> None:
    assert plan_image(image, predictor, SegmentOptions()).sizing is None


def test_pixel_sizes_decide_where_both_are_known(
    image: Path, sized: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Predictor(replace(sized.checkpoint, pixel_size_um=0.5), "cpu", "fp32")
    monkeypatch.setattr("unettile.segmentation.sizing.estimate_diameter", None)  # no guess is made
    plan = plan_image(image, known, SegmentOptions(pixel_size_um=0.125))
    assert plan.scale == 0.25 and plan.shape == (53, 77)


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("shape", [(300, 400), (3, 5), (1, 1)])
def test_plain_and_tiny_images_come_to_no_harm(
    tmp_path: Path, sized: Predictor, shape: tuple[int, int], value: int
) -> None:
    tifffile.imwrite(tmp_path / "plain.tif", np.full(shape, value, np.uint8))
    plan = plan_image(tmp_path / "plain.tif", sized, SegmentOptions())
    assert plan.sizing is not None and 1 / 32 <= plan.scale <= 8


@pytest.mark.parametrize("shape", [(100, 100), (3000, 3000), (50_000, 900), (700, 90_000), (100_000, 100_000)])
def test_the_sample_is_bounded_and_inside(shape: tuple[int, int]) -> None:
    boxes = sample_boxes(shape)
    assert sum(box.area for box in boxes) <= BOXES * BOX_EDGE**2
    assert all(0 <= box.y0 < box.y1 <= shape[0] and 0 <= box.x0 < box.x1 <= shape[1] for box in boxes)
    assert len(set(boxes)) == len(boxes)


@pytest.mark.parametrize("factor", [1, 0.25])
def test_the_shipped_model_finds_the_size_of_real_nuclei(factor: float) -> None:
    """The sample's nuclei are 80 to 90 px across, reduced to a quarter a little less than what the model knows best."""
    pixels = np.asarray(tifffile.imread(SAMPLE))[200:600, 300:800]
    if factor < 1:
        pixels = pixels.reshape(100, 4, 125, 4).mean(axis=(1, 3)).round().astype(np.uint8)
    checkpoint = load_checkpoint(find_model("nuclei"))
    predictor, size = Predictor(checkpoint, "cpu", "fp32"), checkpoint.objects_px
    assert size is not None
    slide = open_slide(ArrayImage(pixels))
    found, _ = estimate_diameter(slide, predictor, checkpoint.normalization.measure(slide), size)
    assert found is not None and 65 < found / factor < 105


@pytest.mark.parametrize(
    ("diameter", "certainty", "count", "scales"),
    [
        (SIZE.median, 0.7, 8, [1]),
        (SIZE.median, 0.6, 8, [1, 0.5, 0.25, 0.125]),
        (SIZE.median, 0.7, 7, [1, 0.5, 0.25, 0.125]),
        (2 * SIZE.median, 0.7, 8, [1, 0.5, 0.25, 0.125]),
        (0.75 * SIZE.median, 0.6, 8, [1, 0.5, 0.25, 0.125, 2]),
    ],
    ids=["sure", "not certain", "few", "large", "small"],
)
def test_no_more_scales_are_looked_at_than_are_needed(
    monkeypatch: pytest.MonkeyPatch, diameter: float, certainty: float, count: int, scales: list[float]
) -> None:
    """What is found shrinks with the scale, so that all agree. One more look, at the scale that follows, may come."""
    looked = []

    def fake(slide: object, predictor: object, scaling: object, scale: float) -> Sighting:
        looked.append(scale)
        return Sighting(scale, diameter * scale, count, 0.2, certainty, 1.0)

    monkeypatch.setattr("unettile.segmentation.sizing.look", fake)
    slide: Any = open_slide(ArrayImage(np.zeros((512, 512), np.uint8)))
    unused: Any = None
    found, _ = estimate_diameter(slide, unused, unused, SIZE)
    assert found == pytest.approx(diameter)
    assert looked[: len(scales)] == scales and len(looked) <= len(scales) + 1


@pytest.mark.parametrize(("certainty", "scale"), [(0.7, 0.125), (0.5, 1.0)])
def test_very_large_objects_are_believed_where_the_model_is_certain(
    image: Path, sized: Predictor, monkeypatch: pytest.MonkeyPatch, certainty: float, scale: float
) -> None:
    def fake(slide: object, predictor: object, scaling: object, scale: float) -> Sighting:
        return Sighting(scale, 200 * scale, 9, 0.2, certainty, 1.0)

    monkeypatch.setattr("unettile.segmentation.sizing.look", fake)
    sizing = plan_image(image, sized, SegmentOptions()).sizing
    assert sizing is not None and sizing.scale == pytest.approx(scale)
    assert (sizing.diameter is None) == bool(sizing_advice(sizing, SIZE)[0].startswith("100%"))


@pytest.mark.parametrize(("found", "scale"), [(11.0, 2.273), (15.0, 1.667), (17.0, 1.0), (29.0, 1.0), (32.0, 0.7812)])
def test_only_objects_near_the_median_stay_as_they_are(
    image: Path, sized: Predictor, monkeypatch: pytest.MonkeyPatch, found: float, scale: float
) -> None:
    """Also those that the model knows, 10 to 40 px, come to 25 px unless they are 16 to 30."""
    seen = [Sighting(1.0, found, 20, 0.2, 0.7, 0.9)]
    monkeypatch.setattr("unettile.segmentation.sizing.estimate_diameter", lambda *_: (found, seen))
    assert plan_image(image, sized, SegmentOptions()).scale == scale


def test_the_user_is_told_what_was_found_and_done() -> None:
    (line,) = sizing_advice(Sizing("auto", 0.29, 104.2, alike=0.5), SIZE)
    assert line == (
        "objects are about 104 px across, the model knows 10 to 40 and is best at 25: segmented at 0.29 of the size;"
        " --diameter off segments as it is"
    )
    assert sizing_advice(Sizing("auto", 1.0, 21.0), SIZE) == sizing_advice(Sizing("90", 0.3, 90.0), SIZE) == []


def test_the_user_is_told_where_little_looks_like_the_model_s_objects() -> None:
    """Discs are found, and look like nuclei; what is found of bars does not."""
    (line,) = sizing_advice(Sizing("auto", 1.0, 21.0, alike=0.2), SIZE)
    assert line.startswith("80% of what the model finds in this image does not look like its objects")
    assert "10 to 40 px across" in line and "--diameter" in line and "--model" in line
    checkpoint = load_checkpoint(find_model("nuclei"))
    predictor = Predictor(checkpoint, "cpu", "fp32")
    y, x = np.mgrid[:256, :256]
    noise = np.random.default_rng(0).normal(0, 4, x.shape)
    for alike, picture in ((True, (y % 64 - 32) ** 2 + (x % 64 - 32) ** 2 < 12**2), (False, (y % 40 < 10) & (x < 240))):
        pixels = np.clip(gaussian(picture.astype(np.float64), 1.5) * 120 + 20 + noise, 0, 255).astype(np.uint8)
        slide = open_slide(ArrayImage(pixels))
        sighting = look(slide, predictor, checkpoint.normalization.measure(slide), 1.0)
        assert sighting.share > 0.05 and (sighting.alike > LEAST_ALIKE) == alike
