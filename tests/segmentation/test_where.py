"""Masks: inside, the pixels of an unrestricted run; outside, background; whatever the tiles, batches and shards."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import unettile.tiling
from tests.narrow import make_pixels
from unettile.box import Box
from unettile.checkpoint import load_checkpoint
from unettile.errors import InputError, Interrupted, UsageError
from unettile.images.listing import list_images
from unettile.images.slide import open_slide
from unettile.images.view import View
from unettile.inference.predict import Predictor
from unettile.models import find_model
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.plan import Plan
from unettile.segmentation.planning import plan_image
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import segment_image, segment_shard
from unettile.segmentation.stitch import stitch_run
from unettile.segmentation.tissue import CELL, Background, Tissue
from unettile.segmentation.where import MaskFile, open_within
from unettile.tiling import Shard
from unettile.typed import from_plain

SHAPE = (211, 307)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)


def write_mask(place: Path, shape: tuple[int, int], *boxes: Box) -> Path:
    pixels = np.zeros(shape, np.uint8)
    for number, box in enumerate(boxes, 1):
        pixels[box.slices] = number
    tifffile.imwrite(place / "where.tif", pixels)
    return place / "where.tif"


def enlarged(mask: Path) -> NDArray[np.bool_]:
    """Return which pixels are inside, pixel by pixel."""
    small = tifffile.imread(mask)
    rows = [int((y + 0.5) * small.shape[0] / SHAPE[0]) for y in range(SHAPE[0])]
    columns = [int((x + 0.5) * small.shape[1] / SHAPE[1]) for x in range(SHAPE[1])]
    return small[np.ix_(rows, columns)] != 0


@pytest.mark.parametrize("write", ["classes", "probabilities"])
@pytest.mark.parametrize("shape", [SHAPE, (53, 77), (422, 614)])
def test_inside_as_ever_and_outside_background(
    tmp_path: Path, image: Path, predictor: Predictor, write: str, shape: tuple[int, int]
) -> None:
    height, width = shape
    boxes = (Box(height // 5, width // 3, height // 2, width // 2), Box(height - 3, width - 7, height, width))
    mask = write_mask(tmp_path, shape, *boxes)
    inside = enlarged(mask)
    assert 0.02 < inside.mean() < 0.2
    segment_image(image, tmp_path / "all.tif", predictor, SegmentOptions((write,), 68))
    everything = tifffile.imread(tmp_path / "all.tif")
    expected = everything.copy()
    expected[..., ~inside] = 0
    if write == "probabilities":
        expected[0, ~inside] = 255
    assert (expected != everything).any()
    files = []
    for edge, batch in ((68, 1), (34, 1), (34, 3), (196, 1)):
        out = tmp_path / f"{edge}_{batch}.tif"
        segment_image(image, out, predictor, SegmentOptions((write,), edge, batch, mask=mask))
        np.testing.assert_array_equal(tifffile.imread(out), expected, err_msg=f"tile {edge}, batch {batch}")
        files.append(out)
    assert files[1].read_bytes() == files[2].read_bytes()
    for index in range(3):
        segment_shard(image, tmp_path / "run", Shard(index, 3), predictor, SegmentOptions((write,), 68, mask=mask))
    stitch_run(tmp_path / "run", tmp_path / "joined.tif")
    assert (tmp_path / "joined.tif").read_bytes() == files[0].read_bytes()


def test_only_tiles_with_pixels_inside_are_computed(
    tmp_path: Path, image: Path, predictor: Predictor, counted: list[int]
) -> None:
    mask = write_mask(tmp_path, SHAPE, Box(60, 60, 70, 70), Box(200, 300, 201, 301))
    segment_image(image, tmp_path / "some.tif", predictor, SegmentOptions(output_edge=34, mask=mask))
    assert len(counted) == 5  # the four that meet at (68, 68), and one
    segment_image(
        image,
        tmp_path / "none.tif",
        predictor,
        SegmentOptions(output_edge=34, mask=write_mask(tmp_path, SHAPE)),
    )
    assert len(counted) == 5 and not tifffile.imread(tmp_path / "none.tif").any()


def test_a_changed_mask_is_refused(tmp_path: Path, image: Path, predictor: Predictor) -> None:
    out = tmp_path / "mask.tif"
    options = SegmentOptions(output_edge=68, mask=write_mask(tmp_path, SHAPE, Box(0, 0, 99, 99)))
    with pytest.raises(Interrupted):
        segment_image(image, out, predictor, options, Watch(should_stop=lambda: 15))
    write_mask(tmp_path, SHAPE, Box(0, 0, 99, 98))
    others = (options, SegmentOptions(output_edge=68), SegmentOptions(output_edge=68, skip_background=True))
    for other in others:
        with pytest.raises(InputError, match="differs in --mask, --skip-background or --nodata"):
            segment_image(image, out, predictor, other)


@pytest.mark.parametrize("case", ["form", "channels", "missing"])
def test_masks_that_do_not_fit_are_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "where.tif"
    if case == "form":
        write_mask(tmp_path, (100, 100))
    elif case == "channels":
        tifffile.imwrite(path, np.zeros((*SHAPE, 3), np.uint8))
    with pytest.raises(InputError, match={"form": "same form", "channels": "3 channels", "missing": "no such"}[case]):
        MaskFile(path, SHAPE)
    with pytest.raises(UsageError, match="exclude each other"):
        SegmentOptions(mask=path, skip_background=True)


def tissue(background: tuple[int, ...], stain: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    """Noise about a background with a stained patch of 300 × 200 px at (400, 500)."""
    noise = np.random.default_rng(seed).integers(-6, 7, (900, 1100, len(background)))
    pixels = np.array(background) + noise
    pixels[400:700, 500:700] = np.array(stain) + 4 * noise[400:700, 500:700]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def where(path: Path, predictor: Predictor, margin: int = 92) -> Tissue:
    """Return what decides where a small image is worked on."""
    with open_slide(path) as slide:
        scaling = predictor.checkpoint.normalization.measure(slide)
        pixels = slide.read(Box.of_shape(slide.shape))
        found = from_plain(Background.measure(slide, scaling).to_dict(), Background)
        return Tissue(found, slide.shape, scaling, lambda box: pixels[box.slices], margin)


@pytest.mark.parametrize(
    ("background", "stain"),
    [((240, 238, 242), (180, 90, 160)), ((10,), (120,)), ((235,), (120,)), ((8, 12), (12, 90)), ((100,), (106,))],
)
@pytest.mark.parametrize("margin", [0, 92, 150])
def test_background_is_noise_about_what_is_commonest(
    tmp_path: Path, predictor: Predictor, background: tuple[int, ...], stain: tuple[int, ...], margin: int
) -> None:
    """Glass or darkness; tissue is kept with the margin around it, alike in every box that is asked for first."""
    pixels = tissue(background, stain)
    kind = {1: ("minisblack", None), 2: ("minisblack", "contig"), 3: ("rgb", "contig")}[len(background)]
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.squeeze(pixels), photometric=kind[0], planarconfig=kind[1])
    shape = pixels.shape[:2]
    whole = where(path, predictor, margin)
    inside = whole.inside(Box.of_shape(shape))
    near = max(margin, 1)
    assert inside[400 - near : 700 + near, 500 - near : 700 + near].all()
    far = np.ones(shape, np.bool_)
    beyond = margin + 2 * CELL
    far[max(0, 400 - beyond) : 700 + beyond, 500 - beyond : 700 + beyond] = False
    assert far.any() and not inside[far].any()
    for box in (Box(0, 0, 900, 130), Box(333, 451, 800, 777), Box(640, 640, 641, 641), Box(890, 1090, 900, 1100)):
        np.testing.assert_array_equal(where(path, predictor, margin).inside(box), inside[box.slices])
        np.testing.assert_array_equal(whole.inside(box), inside[box.slices])
    assert whole.left_out() == where(path, predictor, margin).left_out() == pytest.approx(1 - inside.mean())


@pytest.mark.parametrize("contrast", [400, 700, 4000])
def test_dim_objects_beside_bright_ones_stay(tmp_path: Path, predictor: Predictor, contrast: int) -> None:
    """Otsu's threshold would part the bright from the dim, not what is there from what is not."""
    y, x = np.mgrid[:768, :1024]
    pixels = np.random.default_rng(1).normal(100, 10, y.shape)
    objects = np.zeros(y.shape, np.bool_)
    for centre_y in range(40, 380, 48):
        for centre_x in range(40, 1000, 48):
            disk = (y - centre_y) ** 2 + (x - centre_x) ** 2 < 14**2
            pixels[disk] += 4000 if centre_x < 500 else contrast
            objects |= disk
    tifffile.imwrite(tmp_path / "image.tif", pixels.clip(0).astype(np.uint16))
    found = where(tmp_path / "image.tif", predictor)
    assert found.inside(Box.of_shape(y.shape))[objects].all()
    assert 0.2 < found.left_out() < 0.5


def test_something_large_and_smooth_stays(tmp_path: Path, predictor: Predictor) -> None:
    """Its middle looks like background to whoever looks at contrasts alone."""
    pixels = np.random.default_rng(0).integers(20, 24, (1300, 1400)).astype(np.uint8)
    pixels[200:1000, 200:1000] += 60
    tifffile.imwrite(tmp_path / "image.tif", pixels)
    found = where(tmp_path / "image.tif", predictor)
    assert found.inside(Box(200, 200, 1000, 1000)).all() and found.left_out() > 0.1


@pytest.mark.slow
def test_no_object_of_the_shipped_model_is_lost(shared_data: Path) -> None:
    """On real images of every kind: fluorescence, tissue, bright field, stains."""
    predictor = Predictor(load_checkpoint(find_model("nuclei")), "cpu")
    folders = [folder for folder in shared_data.rglob("images") if "stardist" not in str(folder)]
    images = [path for folder in folders for path in list_images(folder)[:: max(1, len(list_images(folder)) // 3)]]
    assert len(images) > 9
    for image in images:
        with open_slide(image) as slide:
            view = View() if slide.channels in (1, 3) else View(channels=(0,))
        with open_slide(image, view) as slide:
            scaling = predictor.checkpoint.normalization.measure(slide)
            found = Background.measure(slide, scaling)
            tissue = Tissue(found, slide.shape, scaling, slide.read, predictor.checkpoint.geometry.margin)
            inside = tissue.inside(Box.of_shape(slide.shape))
        with tempfile.TemporaryDirectory() as place:
            out = Path(place, "mask.tif")
            segment_image(image, out, predictor, SegmentOptions(("instances",), view=view))
            assert not tifffile.imread(out)[~inside].any(), image


def test_skipping_background_changes_no_pixel_of_tissue(tmp_path: Path, predictor: Predictor) -> None:
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, tissue((10,), (120,))[..., 0])
    segment_image(image, tmp_path / "all.tif", predictor, SegmentOptions(output_edge=68))
    everything = tifffile.imread(tmp_path / "all.tif")
    options = SegmentOptions(output_edge=68, skip_background=True)
    plan = plan_image(image, predictor, options)
    assert plan.metadata()["within"]["background"]["cell"] == CELL
    with open_slide(image) as slide, open_within(None, plan, slide.read, slide.known) as within:
        assert within is not None
        inside = within(Box.of_shape(slide.shape))
    assert 0.05 < inside.mean() < 0.5
    expected = np.where(inside, everything, 0)
    assert (expected != everything).any()
    for edge in (68, 196):
        segment_image(
            image,
            tmp_path / f"{edge}.tif",
            predictor,
            SegmentOptions(output_edge=edge, skip_background=True),
        )
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{edge}.tif"), expected)
    for index in range(2):
        segment_shard(image, tmp_path / "run", Shard(index, 2), predictor, options)
    stitch_run(tmp_path / "run", tmp_path / "joined.tif")
    assert (tmp_path / "joined.tif").read_bytes() == (tmp_path / "68.tif").read_bytes()


def test_an_image_of_one_intensity_has_no_tissue(tmp_path: Path, predictor: Predictor) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.full((150, 200), 77, np.uint8))
    options = SegmentOptions(output_edge=68, skip_background=True)
    segment_image(tmp_path / "image.tif", tmp_path / "mask.tif", predictor, options)
    assert not tifffile.imread(tmp_path / "mask.tif").any()


def test_texture_all_over_is_worked_on_all_over(tmp_path: Path, predictor: Predictor) -> None:
    y, x = np.mgrid[:300, :400]
    texture = 100 + 60 * np.sin(y / 7) * np.sin(x / 5) + np.random.default_rng(0).normal(0, 8, y.shape)
    tifffile.imwrite(tmp_path / "image.tif", texture.clip(0, 255).astype(np.uint8))
    plan = plan_image(tmp_path / "image.tif", predictor, SegmentOptions(output_edge=68, skip_background=True))
    with open_slide(tmp_path / "image.tif") as slide, open_within(None, plan, slide.read, slide.known) as within:
        assert within is not None and within(Box.of_shape(slide.shape)).all() and within.left_out() == 0


@pytest.mark.parametrize("restricted", [False, True])
def test_what_holds_no_data_is_background(tmp_path: Path, predictor: Predictor, restricted: bool) -> None:
    pixels = make_pixels(*SHAPE).astype(np.float32)
    empty = np.zeros(SHAPE, np.bool_)
    empty[:90, :101] = True
    for name, frame, tags in (("data", None, []), ("frame", -9999, [(42113, "s", 0, "-9999", True)])):
        stored = pixels if frame is None else np.where(empty, np.float32(frame), pixels)
        tifffile.imwrite(tmp_path / f"{name}.tif", stored, metadata=None, extratags=tags)
    mask = write_mask(tmp_path, SHAPE, Box(50, 60, 150, 300)) if restricted else None
    masks = []
    for edge in (68, 196):
        out = tmp_path / f"{edge}.tif"
        segment_image(tmp_path / "frame.tif", out, predictor, SegmentOptions(("classes",), edge, mask=mask))
        masks.append(tifffile.imread(out))
    np.testing.assert_array_equal(*masks)
    assert not masks[0][empty].any() and masks[0].any()
    if mask is not None:
        assert not masks[0][~enlarged(mask)].any()
    segment_image(tmp_path / "data.tif", tmp_path / "all.tif", predictor, SegmentOptions(("classes",), 68))
    assert tifffile.imread(tmp_path / "all.tif")[empty].any()
    plan = plan_image(tmp_path / "frame.tif", predictor, SegmentOptions(mask=mask))
    assert plan.metadata()["within"]["no_data"] == {"value": -9999, "opacity": None, "nan": True}


def test_no_data_that_is_not_a_number_is_part_of_the_plan(tmp_path: Path, predictor: Predictor) -> None:
    pixels = make_pixels(90, 100).astype(np.float32)
    pixels[:20] = np.nan
    tifffile.imwrite(tmp_path / "image.tif", pixels, extratags=[(42113, 2, 4, "nan", True)])
    plan = plan_image(tmp_path / "image.tif", predictor, SegmentOptions(output_edge=68))
    assert plan.metadata()["within"]["no_data"] == {"value": None, "opacity": None, "nan": True}
    assert Plan.from_json(plan.to_json()) == plan
