"""A folder of masks for each class is one label image for each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.io import imsave

from unettile.box import Box
from unettile.cli import run
from unettile.drawn.pairing import labels_by_name
from unettile.errors import InputError
from unettile.images.classmasks import ClassMasks
from unettile.images.slide import open_labels
from unettile.images.spacing import UNKNOWN
from unettile.training.meaning import find_meaning
from unettile.training.pairs import find_pairs
from unettile.training.parts import LabelPart
from unettile.training.request import AUTO, TrainRequest

CLASSES = ("Vessel", "gland")


def write(folder: Path, count: int = 2) -> NDArray[np.uint8]:
    """Write images, and masks of two classes that overlap; return the classes of the first, vessels below glands."""
    rng = np.random.default_rng(0)
    first = np.zeros((70, 90), np.uint8)
    for number in range(count):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        imsave(folder / "images" / f"i{number}.png", rng.integers(0, 255, (70, 90), np.uint8), check_contrast=False)
        for place, name in enumerate(CLASSES, start=1):
            mask = np.zeros((70, 90), np.uint8)
            mask[10 * place : 40, 5 : 30 * place] = 255
            mask[50:60, 20 * place : 20 * place + 15] = 255  # a part by itself
            (folder / "labels" / name).mkdir(parents=True, exist_ok=True)
            suffix = "_mask" if place == 2 else ""
            imsave(folder / "labels" / name / f"i{number}{suffix}.png", mask, check_contrast=False)
            if number == 0:
                first[mask > 0] = place
    return first


def test_masks_are_one_label_image_read_by_region(tmp_path: Path) -> None:
    truth = write(tmp_path)
    labels = labels_by_name(tmp_path / "labels")
    assert list(labels) == ["i0", "i1"]
    with open_labels(labels["i0"]) as slide:
        np.testing.assert_array_equal(slide.read(Box(0, 0, 70, 90))[..., 0], truth)
        np.testing.assert_array_equal(slide.read(Box(8, 3, 33, 77))[..., 0], truth[8:33, 3:77])
        assert len(slide.files) == 2 and slide.spacing == UNKNOWN
    found = labels["i0"]
    assert isinstance(found, ClassMasks)
    turned = found.in_classes(("background", "GLAND", "vessel"))
    with open_labels(turned) as slide:  # by name, whatever the case, and the later one lies above
        below = slide.read(Box(0, 0, 70, 90))[..., 0]
    assert below[15, 10] == 2 and below[25, 10] == 2 and below[25, 50] == 1
    assert truth[15, 10] == 1 and truth[25, 10] == 2


def test_training_understands_them(tmp_path: Path) -> None:
    write(tmp_path, 4)
    images, labels = tmp_path / "images", tmp_path / "labels"
    meaning = find_meaning(find_pairs(images, labels), LabelPart())
    assert meaning.part.kind == "classes" and meaning.part.names == ("background", "gland", "Vessel")
    assert "the later one has the pixel" in meaning.found
    chosen, _ = TrainRequest(images, labels, tmp_path / "m.safetensors", AUTO).choose()
    assert chosen.labels.names == meaning.part.names
    named = TrainRequest(
        images, labels, tmp_path / "m.safetensors", AUTO, changes=('labels.names=["background","vessel","gland"]',)
    )
    assert named.choose()[0].labels.names == ("background", "vessel", "gland")
    job = named.job()
    with open_labels(job.training[0].labels) as slide:
        assert slide.read(Box(0, 0, 70, 90))[25, 10, 0] == 2
    with pytest.raises(InputError, match=r"masks of classes, the recipe learns objects"):
        TrainRequest(images, labels, tmp_path / "m.safetensors", AUTO, ('labels.kind="instances"',)).choose()


def test_separate_parts_of_them_are_objects_where_that_is_asked_for(tmp_path: Path) -> None:
    truth = write(tmp_path, 4)
    request = TrainRequest(
        tmp_path / "images",
        tmp_path / "labels",
        tmp_path / "m.safetensors",
        AUTO,
        changes=('labels.kind="components"',),
    )
    _, reasons = request.choose()
    assert f"{(truth > 0).mean():.2%} of the pixels" in reasons[0]


def test_what_does_not_fit_is_refused_in_a_line(tmp_path: Path) -> None:
    write(tmp_path)
    labels = tmp_path / "labels"
    masks = labels_by_name(labels)["i0"]
    assert isinstance(masks, ClassMasks)
    with pytest.raises(InputError, match=r"of the class 'gland', the classes are background, Vessel: name it"):
        masks.in_classes(("background", "Vessel"))
    with pytest.raises(InputError, match=r"labels has no folder of masks for the class 'nerve'"):
        masks.in_classes(("background", "Vessel", "gland", "nerve"))
    imsave(labels / "gland" / "i0_mask.png", np.zeros((60, 90), np.uint8), check_contrast=False)
    with pytest.raises(InputError, match=r"need masks of one size"):
        open_labels(masks)
    (labels / "gland" / "i0_mask.png").unlink()
    with pytest.raises(InputError, match=r"gland has no mask for i0, Vessel has one"):
        labels_by_name(labels)
    (labels / "Vessel" / "i0.png").unlink()
    imsave(labels / "gland" / "i7.png", np.zeros((70, 90), np.uint8), check_contrast=False)
    with pytest.raises(InputError, match=r"Vessel has no mask for i7, gland has one"):
        labels_by_name(labels)


def test_they_are_a_truth_to_evaluate_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = write(tmp_path, 1)
    mask = tmp_path / "masks" / "i0.png"
    mask.parent.mkdir()
    truth[:15] = 0
    imsave(mask, truth, check_contrast=False)
    command = ["evaluate", str(mask.parent), str(tmp_path / "labels"), "--class-names", "background,Vessel,gland"]
    assert run([*command, "--json"]) == 0
    assert '"dice_2": 1.0' in capsys.readouterr().out


def test_folders_of_images_are_no_classes(tmp_path: Path) -> None:
    """A folder for each image with a mask of each of its objects: what was understood is said."""
    write(tmp_path)
    for number, name in enumerate(CLASSES):
        (tmp_path / "labels" / name).rename(tmp_path / "labels" / f"i{number}")
    for path in sorted((tmp_path / "labels").rglob("*.png")):
        path.rename(path.with_name(path.name.replace("i", "nucleus_")))
    with pytest.raises(InputError, match=r"no label image .*: i0, i1; .* taken for classes \(i0, i1\): need a mask of"):
        find_pairs(tmp_path / "images", tmp_path / "labels")
