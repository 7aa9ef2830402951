"""Names that pair: equal ones, those that differ in form alone, and those that are alike where exactly one fits."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.scenarios.conftest import Cli
from unettile.errors import InputError, UsageError
from unettile.evaluation.pairs import note_pairs as note_masks
from unettile.evaluation.pairs import pair_masks
from unettile.training.pairs import find_pairs, hold_out, note_pairs

COUNT = 4
Names = Callable[[int], str]


def fill(folder: Path, names: Names, count: int = COUNT) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        pixels = np.full((20, 20), number, np.uint8)
        tifffile.imwrite(folder / f"{names(number)}.tif", pixels)
    return folder


@pytest.mark.parametrize(
    ("image", "label", "alike"),
    [
        (lambda n: f"cell_{n}", lambda n: f"cell_{n}", False),
        (lambda n: f"Zelle é{n}", lambda n: unicodedata.normalize("NFD", f"Zelle é{n}"), False),
        (lambda n: f"cell_{n}", lambda n: f"cell_{n}_masks", True),
        (lambda n: f"cell_{n}", lambda n: f"cell_{n}_cp_masks", True),
        (lambda n: f"cell_{n}_img", lambda n: f"cell_{n}_label", True),
        (lambda n: f"s [x={n}00,y=0,w=9,h=9]", lambda n: f"s [x={n}00,y=0,w=9,h=9]-labelled", True),
        (lambda n: f"case_{n:03}_0000", lambda n: f"case_{n:03}", True),
        (lambda n: f"CELL_{n}", lambda n: f"cell_{n}", True),
    ],
    ids=["equal", "NFD", "Cellpose", "Cellpose 2", "both", "QuPath", "nnU-Net", "case"],
)
def test_names_that_pair(image: Names, label: Names, alike: bool, tmp_path: Path) -> None:
    images, labels = fill(tmp_path / "images", image), fill(tmp_path / "labels", label)
    pairs = find_pairs(images, labels)
    masks = pair_masks(images, labels)
    for first, second in [(pair.image, pair.labels) for pair in pairs] + [(one.prediction, one.truth) for one in masks]:
        assert (tifffile.imread(first) == tifffile.imread(second)).all()
    assert len(pairs) == len(masks) == COUNT
    for note in (note_pairs(pairs), note_masks(masks)):
        assert (note is not None) == alike
        assert note is None or f"{image(0)}.tif with {label(0)}.tif" in note
    maps = fill(tmp_path / "maps", lambda number: f"{label(number)}_weights")
    for pair in find_pairs(images, labels, maps):
        assert pair.weights is not None and (tifffile.imread(pair.image) == tifffile.imread(pair.weights)).all()


def test_what_is_held_out_does_not_depend_on_the_form_of_letters(tmp_path: Path) -> None:
    parts = []
    composed, apart = (lambda n: f"\u00e9{n}"), (lambda n: f"e\u0301{n}")
    for form, names in (("composed", composed), ("apart", apart)):
        folders = [fill(tmp_path / f"{form}{kind}", names, 9) for kind in "ab"]
        parts.append([[pair.name for pair in part] for part in hold_out(find_pairs(*folders), 0.3)])
    assert parts[0] == parts[1]


def test_an_equal_name_comes_first(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", lambda n: f"a_{n}")
    labels = fill(tmp_path / "labels", lambda n: f"a_{n}")
    tifffile.imwrite(images / "a_0_image.tif", np.full((20, 20), 77, np.uint8))
    tifffile.imwrite(labels / "a_0_mask.tif", np.full((20, 20), 77, np.uint8))
    for pair in find_pairs(images, labels):
        assert (tifffile.imread(pair.image) == tifffile.imread(pair.labels)).all()


def test_what_fits_twice_is_refused_and_named(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", lambda n: f"case_{n // 2}_000{n % 2}")  # two channels an image
    labels = fill(tmp_path / "labels", lambda n: f"case_{n}", 2)
    with pytest.raises(InputError, match=r"2 files have no label image of the same name: case_0_0001, case_1_0001"):
        find_pairs(images, labels)
    labels = fill(tmp_path / "others", lambda n: f"case_{n // 2}{('_mask', '_label')[n % 2]}")
    with pytest.raises(InputError, match=r"have no label image of the same name: .*\(case_0_\w+ is the most like case"):
        find_pairs(images, labels)


def test_the_nearest_name_is_named(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", lambda n: f"section_{n}_stained")
    labels = fill(tmp_path / "labels", lambda n: f"section_{n}_drawn")
    with pytest.raises(InputError, match=r"\(section_0_drawn is the most like section_0_stained\)"):
        find_pairs(images, labels)
    with pytest.raises(InputError, match=r"\(section_0_drawn\.tif is the most like it\)"):
        pair_masks(images, labels)


def test_two_files_of_one_name_in_two_forms(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", lambda n: unicodedata.normalize("NFC" if n else "NFD", "é"), 2)
    with pytest.raises(InputError, match="two files called 'é'"):
        find_pairs(images, fill(tmp_path / "labels", lambda n: "é", 1))


def test_one_folder_twice(cli: Cli, tmp_path: Path) -> None:
    images = fill(tmp_path / "images", lambda n: f"a{n}")
    (tmp_path / "linked").symlink_to(images, target_is_directory=True)
    for labels in (images, tmp_path / "linked"):
        done = cli("train", images, labels, "-o", tmp_path / "m.safetensors", "--device", "cpu")
        assert done.code == 2 and "given twice" in done.err and "own labels" in done.err, done.err
    with pytest.raises(UsageError, match="given twice"):
        find_pairs(images, fill(tmp_path / "labels", lambda n: f"a{n}"), images)


def test_names_that_are_no_text(cli: Cli, tmp_path: Path) -> None:
    """Older file systems and archives hold names in Latin-1."""
    for folder in ("images", "labels"):
        fill(tmp_path / folder, lambda n: os.fsdecode(b"Zelle_\xe9_%d" % n))
    y, x = np.mgrid[:64, :64]
    cells = 1 + (y > 32).astype(np.uint8) + 2 * (x > 32).astype(np.uint8)
    cells[((y % 32 - 16) ** 2 + (x % 32 - 16) ** 2) > 80] = 0
    for folder, pixels in (("images", 50 * (cells > 0) + y), ("labels", cells)):
        for path in (tmp_path / folder).iterdir():
            tifffile.imwrite(path, pixels.astype(np.uint8))
    small = ("network.widths=[2,4,4,8,8]", "run.steps_per_epoch=1", "run.batch=1")
    given = [word for one in small for word in ("--set", one)]
    options = ("--recipe", "nuclei-valid", "--epochs", 1, "--workers", 0, "--device", "cpu", "--validation", 0.3)
    done = cli("train", tmp_path / "images", tmp_path / "labels", "-o", tmp_path / "m.safetensors", *options, *given)
    assert done.code == 0, done.err
    assert (tmp_path / "m.training" / "report.html").exists()
