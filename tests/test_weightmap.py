"""Weight maps equal their definition, written here as one Euclidean distance transform per cell.

The equality demanded is 1e-6 · max(1, w0): distances are exact, terms below 1e-8 · w0 are dropped, the result is
float32. Where two ways of computing the same map are compared (in parts, other ids), they must be identical.
"""

from __future__ import annotations

import doctest
import math
import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from unettile import weightmap
from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.weightmap import (
    TOLERANCE,
    balanced_class_weights,
    balanced_weights,
    blocks,
    border,
    border_term,
    classes,
    reach,
    weight_map,
)

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 14))
SMALL_IDS = st.sampled_from([0, 0, 0, 1, 2, 3, 7])
ANY_IDS = st.sampled_from([0, 0, 0, 1, 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32])
SIGMAS = st.floats(0.5, 50)
SIZES = st.floats(0.1, 8)


def by_definition(
    labels: NDArray[Any],
    w0: float,
    sigma: float,
    class_weights: tuple[float, float] = (1, 1),
    pixel_size: tuple[float, float] = (1, 1),
) -> NDArray[Any]:
    """Compute the map with one Euclidean transform per cell, in float64."""
    weights = np.where(labels > 0, class_weights[1], class_weights[0]).astype(np.float64)
    cells = [label for label in np.unique(labels) if label != 0]
    if len(cells) >= 2:
        nearest = np.full((2, *labels.shape), np.inf)
        for cell in cells:
            distance = ndimage.distance_transform_edt(labels != cell, sampling=pixel_size)
            nearest = np.sort(np.concatenate([nearest, distance[None]]), axis=0)[:2]
        weights += np.where(labels == 0, w0 * np.exp(-(nearest.sum(axis=0) ** 2) / (2 * sigma**2)), 0)
    return weights


def assert_exact(
    labels: NDArray[Any],
    w0: float = 10,
    sigma: float = 5,
    class_weights: tuple[float, float] = (1, 1),
    pixel_size: tuple[float, float] = (1, 1),
) -> None:
    computed = weight_map(labels, w0, sigma, class_weights, pixel_size)
    assert computed.dtype == np.float32
    assert computed.shape == labels.shape
    error = np.abs(computed - by_definition(labels, w0, sigma, class_weights, pixel_size)).max()
    assert error <= 1e-6 * max(1, w0), f"largest error {error:.3g}"


def named_maps() -> dict[str, NDArray[np.int64]]:
    """Return maps of 40 × 50 px, each with one difficulty."""
    blank = np.zeros((40, 50), np.int64)
    maps = {"empty": blank}
    maps["one cell"] = blank.copy()
    maps["one cell"][10:20, 10:20] = 5
    maps["only cells"] = np.repeat(np.arange(1, 41)[:, None], 50, axis=1)
    touching = maps["touching cells"] = blank.copy()
    touching[10:20, 10:20], touching[10:20, 20:30], touching[20:30, 12:25] = 1, 2, 3
    border = maps["border cells"] = blank.copy()
    border[:5, :5], border[:8, 20:30], border[35:, 45:], border[-1, 0] = 1, 2, 3, 4
    pieces = maps["cells in several pieces"] = blank.copy()
    pieces[2:6, 2:6], pieces[2:6, 9:13], pieces[30:34, 2:6], pieces[30:34, 30:34] = 1, 1, 2, 1
    dots = maps["one-pixel cells"] = blank.copy()
    dots[::7, ::9] = np.arange(1, 37).reshape(6, 6)
    holes = maps["cells with holes"] = blank.copy()
    holes[5:35, 5:40] = 1
    holes[10:30, 10:30] = 0
    holes[18:22, 18:22] = 2
    nested = maps["thin lines"] = blank.copy()
    for k in range(0, 40, 4):
        nested[k] = k + 1
    return maps


@pytest.mark.parametrize("name", named_maps())
@pytest.mark.parametrize("sigma", [0.5, 5.0, 50.0])
def test_equals_the_definition_on_difficult_maps(name: str, sigma: float) -> None:
    assert_exact(named_maps()[name], sigma=sigma)


@given(arrays(np.int64, SHAPES, elements=ANY_IDS), st.floats(0, 100), SIGMAS)
@settings(max_examples=300)
def test_equals_the_definition_on_any_labels(labels: NDArray[np.int64], w0: float, sigma: float) -> None:
    assert_exact(labels, w0, sigma, class_weights=(0.7, 1.9))


@given(arrays(np.int64, SHAPES, elements=ANY_IDS), SIGMAS, st.tuples(SIZES, SIZES))
@settings(max_examples=200)
def test_equals_the_definition_where_pixels_are_not_square(
    labels: NDArray[np.int64], sigma: float, pixel_size: tuple[float, float]
) -> None:
    assert_exact(labels, sigma=sigma, pixel_size=pixel_size)


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_definition_on_random_discs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((150, 170), np.uint16)
    y, x = np.indices(labels.shape)
    for cell in range(1, 40):
        cy, cx, radius = rng.uniform(-5, 155), rng.uniform(-5, 175), rng.uniform(0.5, 12)
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = cell
    assert_exact(labels, sigma=rng.uniform(2, 20))


def test_equals_the_definition_on_real_nuclei(shared_data: Path) -> None:
    paths = sorted((shared_data / "dsb2018_train" / "labels").iterdir())
    checked = 0
    for path in paths[:: len(paths) // 8]:
        labels = np.asarray(imagecodecs.imread(path))[:260, :260]
        assert_exact(labels, class_weights=(0.6, 3.0))
        checked += len(np.unique(labels)) - 1
    assert checked > 100


@pytest.mark.parametrize(("sigma", "pixel_size"), [(5.0, (1, 1)), (40.0, (1, 1)), (2.0, (0.5, 0.3))])
def test_blocks_strips_and_threads_do_not_show(
    sigma: float, pixel_size: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """560 × 1200 px are several blocks, each of several strips, some of which have nothing to search for."""
    rng = np.random.default_rng(1)
    labels = np.zeros((560, 1200), np.uint32)
    for cell in range(1, 8):
        y, x, edge = rng.integers(0, 470), rng.integers(0, 800), rng.integers(1, 90)
        labels[y : y + edge, x : x + edge] = cell
    labels[250:262, 575:595], labels[250:262, 600:615] = 20, 21
    assert_exact(labels, sigma=sigma, pixel_size=pixel_size)
    one = weight_map(labels, sigma=sigma, pixel_size=pixel_size)
    monkeypatch.setattr(blocks, "THREAD_PIXELS", 1)  # as in a map large enough for them
    for threads in (2, 3, 40):
        np.testing.assert_array_equal(weight_map(labels, sigma=sigma, pixel_size=pixel_size, threads=threads), one)


def test_a_chunk_that_may_rest_wakes_in_time() -> None:
    """Below an empty stretch of every height, borders begin at their row: nothing is rested through."""
    for empty in range(1, 60):
        labels = np.zeros((empty + 30, 40), np.uint8)
        labels[empty:, :18], labels[empty:, 22:] = 1, 2
        for upright in (labels, labels[::-1]):
            assert_exact(np.ascontiguousarray(upright), sigma=4)


def test_more_ids_than_16_bits_tell_apart() -> None:
    rng = np.random.default_rng(2)
    busy = np.where(rng.random((300, 400)) < 0.8, np.arange(1, 120_001).reshape(300, 400), 0)
    near = busy[:20, :20]
    np.testing.assert_allclose(weight_map(busy, sigma=0.7)[:8, :8], by_definition(near, 10, 0.7)[:8, :8], atol=1e-5)
    np.testing.assert_array_equal(weight_map(busy + (busy > 0) * 2**40), weight_map(busy))
    spread = np.array([[1, 0, 0, 2**32, 0, 70_000], [2**32, 0, 0, 0, 0, 70_000]])
    assert_exact(spread)


@given(arrays(np.int32, st.tuples(st.integers(20, 40), st.integers(20, 40)), elements=SMALL_IDS), st.data())
@settings(max_examples=60)
def test_a_part_read_with_its_margin_is_identical_to_the_whole(labels: NDArray[np.int32], data: st.DataObject) -> None:
    sigma = data.draw(st.floats(0.5, 2))
    y0, x0 = data.draw(st.integers(0, 19)), data.draw(st.integers(0, 19))
    box = Box(y0, x0, data.draw(st.integers(y0 + 1, 20)), data.draw(st.integers(x0 + 1, 20)))
    read = box.expand(reach(sigma)).intersect(Box.of_shape(labels.shape))
    part = weight_map(labels[read.slices], 10, sigma)[box.relative_to(read).slices]
    np.testing.assert_array_equal(part, weight_map(labels, 10, sigma)[box.slices])


@given(arrays(np.int64, SHAPES, elements=SMALL_IDS), st.permutations([1, 2, 3, 7]), st.sampled_from([0, 2**32, 2**62]))
@settings(max_examples=100)
def test_ids_are_names_and_not_numbers(labels: NDArray[np.int64], names: list[int], offset: int) -> None:
    renamed = labels.copy()
    for old, new in zip([1, 2, 3, 7], names, strict=True):
        renamed[labels == old] = new + offset
    np.testing.assert_array_equal(weight_map(renamed), weight_map(labels))


@given(arrays(np.int64, SHAPES, elements=SMALL_IDS))
@settings(max_examples=60)
def test_turning_the_labels_turns_the_map(labels: NDArray[np.int64]) -> None:
    np.testing.assert_array_equal(weight_map(labels.T), weight_map(labels).T)
    np.testing.assert_array_equal(weight_map(labels[::-1, ::-1]), weight_map(labels)[::-1, ::-1])


def test_a_cell_in_two_pieces_is_one_cell() -> None:
    """Two boundary pixels of one cell are no border: the second distance is to the other cell."""
    labels = np.array([[1, 0, 1, 0, 0, 2]])
    expected = 1 + 10 * math.exp(-((1 + 4) ** 2) / 50)
    assert weight_map(labels)[0, 1] == pytest.approx(expected, abs=1e-6)


def test_the_second_term_is_for_background_only_and_needs_two_cells() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[5:8] = 1
    assert not border_term(labels).any()
    labels[10:13] = 2
    term = border_term(labels)
    assert (term[labels > 0] == 0).all()
    assert (term[8:10] > 0).all()
    np.testing.assert_array_equal(weight_map(labels, class_weights=(0, 0)), term)


def test_beyond_the_reach_the_term_is_nothing_that_matters() -> None:
    for sigma in (0.5, 5.0, 50.0):
        assert math.exp(-((reach(sigma) + 1) ** 2) / (2 * sigma**2)) <= TOLERANCE
        assert reach(sigma) < 6.1 * sigma
    labels = np.zeros((1, 64), np.uint8)
    for away in (28, 29, 30, 31, 32):  # d1 + d2 = away, and the cut-off of sigma 5 lies between 30 and 31
        labels[:] = 0
        labels[0, 0], labels[0, away] = 1, 2
        assert (weight_map(labels, 1e6)[0, 1] > 1) == (away <= 30)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.uint64, np.float32])
def test_every_type_of_label_gives_the_same_map(dtype: type[np.generic]) -> None:
    labels = np.array([[1, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(weight_map(labels.astype(dtype)), weight_map(labels))


def test_views_and_byte_orders_give_the_same_map() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (30, 40)).astype(np.uint16)
    wide = np.repeat(labels, 2, axis=1)
    expected = weight_map(labels)
    np.testing.assert_array_equal(weight_map(wide[:, ::2]), expected)
    np.testing.assert_array_equal(weight_map(labels.astype(">u2")), expected)
    np.testing.assert_array_equal(weight_map(np.asfortranarray(labels)), expected)
    frozen = labels.astype(np.int32)
    frozen.flags.writeable = False
    np.testing.assert_array_equal(weight_map(frozen), expected)


def test_the_input_is_left_alone() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (30, 40))
    before = labels.copy()
    weight_map(labels)
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_compute_the_same_map(method: str) -> None:
    labels = named_maps()["touching cells"]
    expected = weight_map(labels)
    with multiprocessing.get_context(method).Pool(2) as pool:
        for computed in pool.map(weight_map, [labels] * 4):
            np.testing.assert_array_equal(computed, expected)


@pytest.mark.parametrize(("w0", "sigma"), [(-1, 5), (math.nan, 5), (math.inf, 5), (10, 0), (10, -5), (10, math.nan)])
def test_w0_and_sigma_out_of_range_are_refused(w0: float, sigma: float) -> None:
    with pytest.raises(UsageError, match="must be"):
        weight_map(np.zeros((3, 3), int), w0, sigma)


@pytest.mark.parametrize("pixel_size", [(0, 1), (1, -1), (1, math.nan), (math.inf, 1), (1, 1, 1)])
def test_pixels_without_a_size_are_refused(pixel_size: Any) -> None:
    with pytest.raises(UsageError, match="need a height and a width above 0"):
        weight_map(np.zeros((3, 3), int), pixel_size=pixel_size)


def test_no_threads_are_refused() -> None:
    with pytest.raises(UsageError, match="need 1 or more"):
        weight_map(np.zeros((3, 3), int), threads=0)


def test_a_w0_of_0_gives_the_class_weights_alone() -> None:
    labels = np.array([[1, 0, 2]])
    assert weight_map(labels, 0, class_weights=(0.5, 3)).tolist() == [[3, 0.5, 3]]
    assert not border_term(labels, 0).any()


def test_sigma_in_micrometres_is_sigma_in_px_times_the_pixel_size() -> None:
    labels = named_maps()["border cells"]
    in_px = weight_map(labels, sigma=6)
    np.testing.assert_array_equal(weight_map(labels, sigma=1.5, pixel_size=(0.25, 0.25)), in_px)


def test_extreme_sigmas_do_not_fail() -> None:
    labels = np.array([[1, 0, 2]])
    assert weight_map(labels, sigma=1e-200)[0, 1] == 1
    assert weight_map(labels, sigma=1e200)[0, 1] == 11
    wide = np.zeros((1, 70_000), np.uint8)
    wide[0, 0], wide[0, -1] = 1, 2
    with pytest.raises(UsageError, match="give a smaller sigma"):
        weight_map(wide, sigma=1e6)


def test_the_examples_of_the_documentation_run() -> None:
    page = Path(__file__).parent.parent / "docs" / "weights.md"
    modules = [doctest.testmod(module) for module in (weightmap, border, classes)]
    for done in (*modules, doctest.testfile(str(page), module_relative=False)):
        assert done.attempted >= 1
        assert done.failed == 0


def test_torch_is_not_needed() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"  # an import of it now fails
        "from unettile.weightmap import weight_map\n"
        "assert weight_map([[1, 0, 2]])[0, 1] > 9\n"
        "assert not [name for name in sys.modules if name.startswith('torch.')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_it_works_where_compiled_code_cannot_be_kept() -> None:
    program = (
        "from numba.core.caching import CacheImpl\n"
        "CacheImpl._locator_classes = []\n"  # as if neither the package nor the home directory could be written
        "from unettile.weightmap.kernel import _copy, _compiled\n"
        "assert _copy.stats.cache_path is None\n"
        "assert _compiled(lambda x: x + 1)(1) == 2"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# --- class weights


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=6).filter(any))
def test_balanced_weights_give_every_class_the_same_share(counts: list[int]) -> None:
    weights = balanced_weights(counts)
    shares = [weight * count for weight, count in zip(weights, counts, strict=True) if count]
    assert all(share == pytest.approx(shares[0]) for share in shares)
    assert sum(shares) == pytest.approx(sum(counts))  # the mean weight is 1
    assert all((weight == 0) == (count == 0) for weight, count in zip(weights, counts, strict=True))


def test_class_weights_are_balanced_over_the_whole_set() -> None:
    maps = [np.array([[0, 0, 0, 1]]), np.array([[2, 2], [0, 0]])]
    assert balanced_class_weights(iter(maps)) == pytest.approx((8 / (2 * 5), 8 / (2 * 3)))
    assert balanced_class_weights([np.zeros((3, 3), int)]) == (1, 0)


def test_no_pixels_have_no_balance() -> None:
    with pytest.raises(InputError, match="got none"):
        balanced_class_weights([])
