"""Every column of the table is scikit-image's figure of the whole image, and does not depend on the blocks."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist
from skimage.color import hdx_from_rgb, hed_from_rgb, separate_stains
from skimage.measure import regionprops

from tests.objects.shapes import SHAPES, InMemory, blobs, masks, reference
from unettile.errors import UsageError
from unettile.images.plain import PlainSlide
from unettile.images.record import Record
from unettile.objects.columns import Channels, Columns, Figures, Frames, Known, make_columns
from unettile.objects.intensity import Totals, Values
from unettile.objects.measure import Summing
from unettile.objects.measures import Measures
from unettile.objects.neighbours import nearest
from unettile.objects.outline import CornerFinder
from unettile.objects.scan import Scan
from unettile.objects.stains import Unmixed
from unettile.tiling import BlockGrid

QUARTERS = (0.0, 10.0, 25.0, 62.5, 100.0)


def measured(
    labels: NDArray[np.integer],
    edge: int,
    image: NDArray[np.generic] | None = None,
    frames: Frames | None = None,
    percentiles: tuple[float, ...] | None = QUARTERS,
    parted: bool = False,
) -> Columns:
    """Return all columns, measured in blocks of `edge` px."""
    objects, directory = InMemory(labels), Path(tempfile.gettempdir())
    summing = Summing(directory, objects.origin, objects.shape)
    finder = CornerFinder(directory, objects.count, objects.shape)
    lookers, pictures, channels = [summing, finder], [], []
    if image is not None:
        picture = PlainSlide(Path("image"), image)
        values: Totals | Values
        if percentiles is None and image.dtype.kind != "f":
            values = Totals(directory, objects.count, picture, 0)
        else:
            values = Values(directory, objects.origin, objects.shape[1], picture, 0)
        names = tuple(f"intensity_{k}" for k in range(picture.channels))
        lookers.append(values)
        pictures.append(picture)
        channels.append(Channels(names, values, percentiles))
    with Scan(objects, pictures, lookers, lambda done, total: None) as scan:
        scan.show_all(BlockGrid(objects.shape, edge))
    for one in channels:
        if isinstance(one.values, Values):
            one.values.finish()
    sums = summing.finish()
    figures = Figures(sums, finder.finish(), nearest(sums.centroids()), tuple(channels), parted=parted)
    known = Known(np.ones(objects.count, np.uint32))
    return make_columns(figures, known, Record(), frames or Frames(), 0, objects.count)


def check(labels: NDArray[np.integer], edge: int, *, parted: bool = False) -> None:
    image = np.random.default_rng(0).integers(0, 65536, (*labels.shape, 2)).astype(np.uint16)
    found, props = measured(labels, edge, image, parted=parted), regionprops(labels, image)
    expected = {
        "id": [prop.label for prop in props],
        "area_px": [prop.area for prop in props],
        "filled_area_px": [prop.area_filled for prop in props],
        "convex_area_px": [prop.area_convex for prop in props],
        "solidity": [prop.solidity for prop in props],
        "extent": [prop.extent for prop in props],
        "major_axis_px": [prop.axis_major_length for prop in props],
        "minor_axis_px": [prop.axis_minor_length for prop in props],
        "eccentricity": [prop.eccentricity for prop in props],
        "equivalent_diameter_px": [prop.equivalent_diameter_area for prop in props],
        "perimeter_px": [prop.perimeter_crofton for prop in props],
        "circularity": [4 * math.pi * prop.area / prop.perimeter_crofton**2 for prop in props],
        "feret_max_px": [prop.feret_diameter_max for prop in props],
    }
    for axis, name in enumerate("yx"):
        expected[f"centroid_{name}_px"] = [prop.centroid[axis] for prop in props]
        expected[f"box_{name}0_px"] = [prop.bbox[axis] for prop in props]
        expected[f"box_{name}1_px"] = [prop.bbox[2 + axis] for prop in props]
    for k in range(2):
        values = [prop.image_intensity[..., k][prop.image] for prop in props]
        expected |= {
            f"mean_intensity_{k}": [prop.intensity_mean[k] for prop in props],
            f"sd_intensity_{k}": [prop.intensity_std[k] for prop in props],
            f"min_intensity_{k}": [prop.intensity_min[k] for prop in props],
            f"max_intensity_{k}": [prop.intensity_max[k] for prop in props],
            f"median_intensity_{k}": [prop.intensity_median[k] for prop in props],
            f"sum_intensity_{k}": [one.sum() for one in values],
            **{f"p{q:g}_intensity_{k}": [np.percentile(one, q) for one in values] for q in QUARTERS},
        }
        for axis, name in enumerate("yx"):
            places = [np.array(prop.centroid_weighted)[axis, k] for prop in props]
            expected[f"weighted_centroid_intensity_{k}_{name}_px"] = places
    for name, theirs in expected.items():
        np.testing.assert_allclose(found[name], np.array(theirs, float), rtol=1e-9, atol=1e-6, err_msg=name)
    long = found["eccentricity"] > 0.1  # of a round one scikit-image's own answer is its rounding
    orientations = np.array([prop.orientation for prop in props], float)
    apart = np.abs(found["orientation_rad"] - orientations)[long]
    assert (np.minimum(apart, math.pi - apart) < 1e-6).all()
    distances = cdist(*[np.array([prop.centroid for prop in props]).reshape(-1, 2)] * 2)
    np.fill_diagonal(distances, math.inf)
    if len(props) > 1:
        np.testing.assert_allclose(found["nearest_px"], distances.min(axis=1), atol=1e-9)
    np.testing.assert_allclose(found["feret_min_px"], [smallest_width(prop.image_convex) for prop in props], atol=1e-9)


def smallest_width(pixels: NDArray[np.bool_]) -> float:
    """The least width of pixels, between the middles of their sides: it is across one of the sides of their hull."""
    y, x = np.nonzero(pixels)
    points = np.concatenate([np.stack([y + a, x + b], 1) for a, b in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))])
    sides = ConvexHull(points).equations
    return float((sides[:, :2] @ points.T + sides[:, 2:]).min(axis=1).max() * -1)


@settings(max_examples=12)
@given(mask=st.one_of(masks, blobs), edge=st.integers(3, 40))
def test_figures_are_those_of_scikit_image(mask: NDArray[np.uint32], edge: int) -> None:
    check(reference(mask), edge)


@settings(max_examples=12)
@given(mask=st.one_of(masks, blobs), edge=st.integers(3, 40))
def test_figures_of_objects_in_several_parts_are_those_of_scikit_image(mask: NDArray[np.uint32], edge: int) -> None:
    ids = np.unique(mask)
    check(
        np.searchsorted(ids[ids > 0], mask + (mask == 0)).astype(np.int64) * (mask > 0) + (mask > 0), edge, parted=True
    )


def test_figures_of_hard_shapes_are_those_of_scikit_image() -> None:
    for mask in SHAPES.values():
        check(reference(mask), 6)
    ring = np.ones((9, 9), np.uint32)
    ring[1:8, 1:8] = 0
    ring[0, 0] = 0  # a hole that is open over a corner alone is no hole
    ring[1, 1] = ring[2, 1] = 1
    check(reference(ring), 4)


@settings(max_examples=6)
@given(mask=blobs, edge=st.integers(3, 40))
def test_blocks_change_no_bit(mask: NDArray[np.uint32], edge: int) -> None:
    labels = reference(mask)
    for image in (
        np.random.default_rng(1).integers(0, 256, (*labels.shape, 1)).astype(np.uint8),
        np.random.default_rng(1).random((*labels.shape, 1)).astype(np.float32),
    ):
        for percentiles in (QUARTERS, None):
            ours = measured(labels, edge, image, percentiles=percentiles)
            whole = measured(labels, 99, image, percentiles=percentiles)
            assert list(ours) == list(whole)
            for name in ours:
                if name.startswith("weighted") and image.dtype.kind == "f":
                    np.testing.assert_allclose(ours[name], whole[name], rtol=1e-12)
                else:
                    np.testing.assert_array_equal(ours[name], whole[name], err_msg=name)


def test_frames_are_named_and_agree() -> None:
    """A mask of every second row and every fourth column, in px of its own, of the largest resolution, and in µm."""
    labels = np.zeros((20, 20), np.uint32)
    labels[3:7, 5:10] = 1
    plain = measured(labels, 8)
    assert not [name for name in plain if name.startswith("mask_")]
    found = measured(labels, 8, frames=Frames((2.0, 4.0), (1.0, 2.0)))
    assert [found[f"box_{name}_px"].tolist() for name in ("y0", "x0", "y1", "x1")] == [[6], [20], [14], [40]]
    assert [found[f"mask_box_{name}_px"].tolist() for name in ("y0", "x0", "y1", "x1")] == [[3], [5], [7], [10]]
    assert (found["mask_area_px"].tolist(), found["area_px"].tolist(), found["area_um2"].tolist()) == (
        [20],
        [160],
        [40],
    )
    # Rows 6 to 13 and columns 20 to 39 of the largest resolution lie under it, with pixels of 0.5 µm.
    assert (found["centroid_y_px"].item(), found["centroid_x_px"].item()) == (9.5, 29.5)
    assert (found["centroid_y_um"].item(), found["centroid_x_um"].item()) == (4.75, 14.75)
    assert found["mask_centroid_y_px"].item() == 4.5 and "perimeter_um" not in found and "perimeter_px" not in found
    square = measured(labels, 8, frames=Frames((4.0, 4.0), (2.0, 2.0)))
    assert square["feret_max_px"] == 4 * plain["feret_max_px"] == 2 * square["feret_max_um"]


@pytest.mark.parametrize(("stains", "matrix"), [("he", hed_from_rgb), ("hdab", hdx_from_rgb)])
def test_stains_are_unmixed_as_scikit_image_does(stains: str, matrix: NDArray[np.float64]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    unmixed = Unmixed(PlainSlide(Path("image"), pixels), stains)
    whole = unmixed.read(next(iter(BlockGrid((30, 40), 64))).box)
    theirs = separate_stains(pixels, matrix)[:, :, :2] * 6  # its logarithm has the base 1e-6, ours 10
    np.testing.assert_allclose(whole, theirs, atol=2e-5)
    parts = [unmixed.read(block.box) for block in BlockGrid((30, 40), 7)]
    for block, part in zip(BlockGrid((30, 40), 7), parts, strict=True):
        np.testing.assert_array_equal(part, whole[block.box.slices])


def test_what_cannot_be_measured_is_refused() -> None:
    for percentiles in ((-1.0,), (101.0,), (math.nan,), (5.0, 5.0)):
        with pytest.raises(UsageError, match="--percentiles"):
            Measures(percentiles=percentiles)
    with pytest.raises(UsageError, match="red, green and blue"):
        Unmixed(PlainSlide(Path("image"), np.zeros((3, 3, 1), np.uint8)), "he")
