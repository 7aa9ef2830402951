"""How probable objects are, inside and at their outline, whatever the blocks; and those that are dropped for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from tests.objects.test_job import field, silent
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import write_image
from unettile.objects.found import Found
from unettile.objects.job import find_objects
from unettile.objects.products import Products, Sources
from unettile.objects.rules import Foreground, Labelling, Splitting

SHAPE = (90, 110)
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


def planes(dtype: type) -> NDArray[np.generic]:
    """Probabilities of background, of two classes of objects; (3, H, W), which add up to 1."""
    first, second = np.clip(field(SHAPE), 0, 1), np.clip(field(SHAPE, seed=4), 0, 1)
    three = np.stack([1 - first, first * second, first * (1 - second)])
    if np.dtype(dtype).kind == "f":
        return three.astype(dtype)
    return np.rint(three * np.iinfo(dtype).max).astype(dtype)


def write(path: Path, pixels: NDArray[np.generic]) -> Path:
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="separate")
    return path


def run(sources: Sources, folder: Path, labelling: Labelling, edge: int, foreground: Foreground | None = None) -> Found:
    known = sources.probabilities is not None or foreground is not None
    products = Products(folder / "ids.tif", folder / "t.csv", confidence=folder / "sure.tif" if known else None)
    return find_objects(
        sources, foreground or Foreground(), labelling, products, overwrite=True, stage=silent, block_edge=edge
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("edge", [24, 200])
def test_confidence_is_the_mean_probability_of_the_objects(tmp_path: Path, dtype: type, edge: int) -> None:
    pixels = planes(dtype)
    mask = tmp_path / "mask.tif"
    tifffile.imwrite(mask, (field(SHAPE) > 0.52).astype(np.uint8))
    sources = Sources(mask, probabilities=write(tmp_path / "p.tif", pixels))
    found = run(sources, tmp_path, Labelling(Splitting(smallest=5), min_size=5), edge)
    ids, rows = tifffile.imread(tmp_path / "ids.tif"), pandas.read_csv(tmp_path / "t.csv")
    top = 1.0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    chance = np.minimum(pixels[1:].sum(axis=0, dtype=float), top) / top
    assert found.count == len(rows) > 10
    for number, inside, outline in zip(rows["id"], rows["confidence"], rows["confidence_outline"], strict=True):
        own = ids == number
        rim = own & ~ndimage.binary_erosion(own, CROSS)
        np.testing.assert_allclose([inside, outline], [chance[own].mean(), chance[rim].mean()], atol=1e-5)

    sure = np.concatenate([[0], np.rint(255 * rows["confidence"])])
    np.testing.assert_allclose(tifffile.imread(tmp_path / "sure.tif"), sure[ids], atol=1)

    least = float(rows["confidence"].median())
    sure = run(sources, tmp_path, Labelling(Splitting(smallest=5), min_size=5, min_confidence=least), edge)
    kept = pandas.read_csv(tmp_path / "t.csv")
    assert sure.uncertain == found.count - sure.count == (rows["confidence"] < least - 1e-6).sum()
    assert kept["id"].tolist() == list(range(1, sure.count + 1)) and kept["confidence"].min() >= least - 1e-6
    assert kept["area_px"].sum() == np.count_nonzero(tifffile.imread(tmp_path / "ids.tif"))


def test_probabilities_of_the_mask_itself_are_taken(tmp_path: Path) -> None:
    mask = write(tmp_path / "p.tif", planes(np.uint8))
    run(Sources(mask), tmp_path, Labelling(min_confidence=0.6), 50, Foreground(0.55, (1,)))
    assert pandas.read_csv(tmp_path / "t.csv")["confidence"].between(0.6, 1).all()


def test_of_a_file_of_several_kinds_the_probabilities_are_taken(tmp_path: Path) -> None:
    pixels = planes(np.uint8)
    ids = (pixels[1] > 100).astype(np.uint8)
    layers = (Layer("classes", reduction="majority"), Layer("probabilities", 3, "mean", ("a", "b", "border")))
    metadata = {"unettile": "0.1.0", "write": ["classes", "probabilities"], "classes": ["a", "b", "border"]}
    together = np.concatenate([ids[None], pixels])
    both = tmp_path / "both.ome.tif"
    write_image(both, Canvas(SHAPE, layers, metadata=metadata), lambda box: together[:, *box.slices])
    run(Sources(both, series=0, probabilities=both), tmp_path, Labelling(), 50)
    found, rows = tifffile.imread(tmp_path / "ids.tif"), pandas.read_csv(tmp_path / "t.csv")
    assert rows["confidence"][0] == pytest.approx(pixels[1][found == 1].mean() / 255, abs=1e-5), "a border is no object"


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    mask = tmp_path / "mask.tif"
    tifffile.imwrite(mask, np.ones((9, 9), np.uint8))
    with pytest.raises(UsageError, match="--probabilities"):
        run(Sources(mask), tmp_path, Labelling(min_confidence=0.5), 50)
    with pytest.raises(UsageError, match="--probabilities"):
        products = Products(confidence=tmp_path / "sure.tif")
        find_objects(Sources(mask), Foreground(), Labelling(), products, overwrite=True, stage=silent)
    with pytest.raises(UsageError, match="min-confidence"):
        Labelling(min_confidence=1.5)
    with pytest.raises(InputError, match="need the image that the mask is of"):
        run(Sources(mask, probabilities=write(tmp_path / "p.tif", planes(np.uint8))), tmp_path, Labelling(), 50)
    other = tmp_path / "ids.png.tif"
    tifffile.imwrite(other, np.ones((9, 9), np.int32))
    with pytest.raises(InputError, match="probabilities are"):
        run(Sources(mask, probabilities=other), tmp_path, Labelling(), 50)
