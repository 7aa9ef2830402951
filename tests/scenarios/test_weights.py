"""`unettile weights` through the command line: exit code, files, message."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unettile.box import Box
from unettile.cli import run
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import write_image
from unettile.images.listing import list_images
from unettile.images.slide import open_slide
from unettile.labels import carve_gaps
from unettile.weighting.preview import CELL
from unettile.weightmap import balanced_class_weights, border_term, weight_map

Weights = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def weights(capsys: pytest.CaptureFixture[str]) -> Weights:
    """Run the command; returns exit code, JSON result ({} if none) and what went to stderr."""

    def invoke(*arguments: str | Path) -> tuple[int, dict[str, Any], str]:
        exit_code = run(["weights", *map(str, arguments), "--json"])
        shown = capsys.readouterr()
        return exit_code, json.loads(shown.out) if shown.out else {}, shown.err

    return invoke


def discs(shape: tuple[int, int], cells: int, seed: int) -> NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint16)
    y, x = np.indices((19, 19)) - 9
    for cell in range(1, cells + 1):
        top, left = (int(rng.integers(0, length - 10)) for length in shape)
        part = labels[top : top + 19, left : left + 19]
        inside = y**2 + x**2 <= rng.uniform(3, 9) ** 2
        part[inside[: part.shape[0], : part.shape[1]]] = cell
    return labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three label images: two with cells, one empty."""
    directory = tmp_path / "labels"
    directory.mkdir()
    tifffile.imwrite(directory / "a.tif", discs((60, 70), 12, 0))
    tifffile.imwrite(directory / "b.tif", discs((33, 120), 9, 1).astype(np.int32))
    tifffile.imwrite(directory / "c.tif", np.zeros((20, 20), np.uint8))
    (directory / "notes.txt").write_text("not an image")
    return directory


def read_all(folder: Path) -> list[NDArray[Any]]:
    return [tifffile.imread(path) for path in sorted(folder.glob("*.tif"))]


def test_a_folder_gives_a_folder_of_maps(folder: Path, weights: Weights) -> None:
    exit_code, result, said = weights(folder)
    out = folder.with_name("labels_weights")
    assert exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.tif", "b.tif", "c.tif"]
    labels = read_all(folder)
    balanced = balanced_class_weights(labels)
    for ids, computed in zip(labels, read_all(out), strict=True):
        assert computed.dtype == np.float32
        np.testing.assert_array_equal(computed, weight_map(ids, class_weights=balanced))
    assert result["output"] == str(out)
    assert (result["maps"], result["written"], result["kept"]) == (3, 3, 0)
    assert result["cells"] == sum(len(np.unique(ids)) - 1 for ids in labels)
    assert result["class_weights"] == {"background": balanced[0], "cell": balanced[1]}
    assert f"wrote 3 weight maps to {out}" in said
    assert "w0 10, sigma 5 px" in said


def test_a_file_gives_a_file_with_the_options_applied(folder: Path, tmp_path: Path, weights: Weights) -> None:
    out = tmp_path / "w.tif"
    options = ("--w0", "4", "--sigma", "2.5", "--class-weights", "none", "--gap", "2")
    exit_code, result, _ = weights(folder / "a.tif", "-o", out, *options)
    assert exit_code == 0
    assert result["class_weights"] == {"background": 1.0, "cell": 1.0}
    expected = weight_map(carve_gaps(tifffile.imread(folder / "a.tif"), 2), 4, 2.5)
    with tifffile.TiffFile(out) as tif:
        page = tif.pages.first
        np.testing.assert_array_equal(page.asarray(), expected)
        assert page.is_tiled
        assert page.compression.name == "ADOBE_DEFLATE"
        about = json.loads(page.description)
    assert (about["w0"], about["sigma"], about["gap"], about["class_weights"]) == (4, 2.5, 2, [1, 1])


def test_the_default_place_of_a_file_is_beside_it(folder: Path, weights: Weights) -> None:
    assert weights(folder / "a.tif")[0] == 0
    assert (folder / "a_weights.tif").is_file()


def test_half_precision_is_the_map_rounded(folder: Path, tmp_path: Path, weights: Weights) -> None:
    for dtype in ("float32", "float16"):
        exit_code, result, _ = weights(folder / "a.tif", "-o", tmp_path / f"{dtype}.tif", "--dtype", dtype)
        assert (exit_code, result["dtype"]) == (0, dtype)
    half = tifffile.imread(tmp_path / "float16.tif")
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, tifffile.imread(tmp_path / "float32.tif").astype(np.float16))
    exit_code, _, said = weights(folder / "a.tif", "-o", tmp_path / "w.ome.tif", "--dtype", "float16")
    assert exit_code == 2
    assert "holds no float16" in said


def test_an_ome_tiff_holds_the_same_map(folder: Path, tmp_path: Path, weights: Weights) -> None:
    for name in ("w.tif", "w.ome.tif"):
        assert weights(folder / "a.tif", "-o", tmp_path / name)[0] == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "w.ome.tif"), tifffile.imread(tmp_path / "w.tif"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_ome_zarr_goes_in_and_comes_out(folder: Path, tmp_path: Path, weights: Weights, dtype: str) -> None:
    labels = tifffile.imread(folder / "a.tif")
    canvas = Canvas(labels.shape, (Layer("labels"),), np.dtype(np.uint16), pixel_size_um=(0.5, 0.25))
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "a.ome.zarr", canvas, lambda box: labels[box.slices])
    for source, output in ((folder / "a.tif", "w.tif"), (tmp_path / "in" / "a.ome.zarr", "w.ome.zarr")):
        assert weights(source, "-o", tmp_path / output, "--dtype", dtype)[0] == 0
    with open_slide(tmp_path / "w.ome.zarr") as slide:
        assert (slide.dtype, slide.pixel_size_um) == (np.dtype(dtype), (0.5, 0.25))
        np.testing.assert_array_equal(
            slide.read(Box.of_shape(slide.shape))[..., 0], tifffile.imread(tmp_path / "w.tif")
        )
    exit_code, _, said = weights(tmp_path / "in" / "a.ome.zarr", "-o", tmp_path / "w.ome.zarr", "--dtype", dtype)
    assert exit_code == 0
    assert "is finished already: nothing to do" in said
    exit_code, _, said = weights(tmp_path / "in" / "a.ome.zarr", "-o", tmp_path / "w.ome.zarr", "--w0", "3")
    assert exit_code == 3
    assert "already there" in said
    assert weights(tmp_path / "in")[0] == 0
    assert [path.name for path in (tmp_path / "in_weights").iterdir()] == ["a.tif"]


def test_a_killed_run_leaves_nothing_that_stays(folder: Path, tmp_path: Path, weights: Weights) -> None:
    """What a process that was killed left half-written goes when the map is written."""
    program = (
        "import os, sys\n"
        "from unettile.weighting import write\n"
        "from unettile.cli import run\n"
        "write.weight_map = lambda *_, **__: os._exit(9)\n"
        "run(['weights', sys.argv[1], '-o', sys.argv[2], '--quiet'])"
    )
    out = tmp_path / "w.tif"
    assert subprocess.run([sys.executable, "-c", program, folder / "a.tif", out]).returncode == 9
    assert not out.exists()
    assert list(tmp_path.glob(".w.tif*"))
    assert weights(folder / "a.tif", "-o", out)[0] == 0
    assert not list(tmp_path.glob(".w.tif*"))


def test_sigma_in_the_unit_of_the_pixel_size(folder: Path, tmp_path: Path, weights: Weights) -> None:
    options = ("--sigma", "1.5", "--pixel-size", "0.5,0.25", "--class-weights", "none")
    exit_code, result, _ = weights(folder / "b.tif", "-o", tmp_path / "w.tif", *options)
    assert (exit_code, result["pixel_size"]) == (0, [0.5, 0.25])
    expected = weight_map(tifffile.imread(folder / "b.tif"), 10, 1.5, pixel_size=(0.5, 0.25))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "w.tif"), expected)


def test_a_preview_shows_cells_and_borders_in_colour(folder: Path, tmp_path: Path, weights: Weights) -> None:
    assert weights(folder / "a.tif", "-o", tmp_path / "w.tif", "--preview")[0] == 0
    with open_slide(tmp_path / "w_preview.png") as slide:
        picture = slide.read(Box.of_shape(slide.shape))
    labels, shown = tifffile.imread(folder / "a.tif"), picture.astype(int).sum(axis=-1)
    assert picture.shape == (*labels.shape, 3)
    assert (picture[labels > 0] == CELL).all()
    term = border_term(labels)
    assert shown[term == term.max()].min() > 400 > shown[(labels == 0) & (term < 0.1)].max()


def test_previews_of_a_folder_do_not_pass_for_maps(folder: Path, weights: Weights) -> None:
    assert weights(folder, "--preview")[0] == 0
    out = folder.with_name("labels_weights")
    assert [path.name for path in list_images(out)] == ["a.tif", "b.tif", "c.tif"]
    assert sorted(path.name for path in (out / "previews").iterdir()) == ["a.png", "b.png", "c.png"]


def test_the_preview_of_a_large_map_shows_the_highest_weights(tmp_path: Path, weights: Weights) -> None:
    labels = np.zeros((300, 5000), np.uint8)
    labels[:, 2500], labels[:, 2502] = 1, 2
    tifffile.imwrite(tmp_path / "wide.tif", labels)
    assert weights(tmp_path / "wide.tif", "--preview")[0] == 0
    with open_slide(tmp_path / "wide_weights_preview.png") as slide:
        assert slide.shape == (100, 1667)
        bright = slide.read(Box(0, 0, 100, 1667)).astype(int).sum(axis=-1) > 500
    assert bright.all(axis=0).nonzero()[0].tolist() == [2501 // 3]


def test_maps_larger_than_a_tile_do_not_show_their_pieces(tmp_path: Path, weights: Weights) -> None:
    labels = discs((700, 600), 400, 2)
    tifffile.imwrite(tmp_path / "big.tif", labels)
    assert weights(tmp_path / "big.tif", "--class-weights", "none", "--gap", "3", "--sigma", "8")[0] == 0
    expected = weight_map(carve_gaps(labels, 3), 10, 8)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "big_weights.tif"), expected)


def test_the_same_labels_give_the_same_bytes(folder: Path, tmp_path: Path, weights: Weights) -> None:
    weights(folder, "-o", tmp_path / "one")
    weights(folder, "-o", tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_real_nuclei(shared_data: Path, tmp_path: Path, weights: Weights) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in sorted((shared_data / "dsb2018_train" / "labels").iterdir())[:5]:
        (labels / path.name).symlink_to(path)
    exit_code, result, _ = weights(labels, "--gap", "2")
    assert exit_code == 0
    assert result["maps"] == 5
    maps = read_all(tmp_path / "labels_weights")
    mean = sum(float(array.sum(dtype=np.float64)) for array in maps) / sum(array.size for array in maps)
    assert mean > 1  # class weights have mean 1, and the border term adds to it
    assert max(array.max() for array in maps) > 8  # touching nuclei were parted: d1 + d2 = 3


# --- going on, and not overwriting


def test_a_dry_run_says_what_would_be_written(folder: Path, weights: Weights) -> None:
    before = sorted(folder.rglob("*"))
    exit_code, result, text = weights(folder, "-o", folder.parent / "maps", "--dry-run")
    assert (exit_code, result["status"], result["written"], result["to_write"]) == (0, "planned", 0, 3)
    assert "would write 3 weight maps" in text and "at most 0.00 GB" in text
    assert sorted(folder.rglob("*")) == before and not (folder.parent / "maps").exists()
    assert weights(folder, "-o", folder.parent / "maps")[0] == 0
    exit_code, result, text = weights(folder, "-o", folder.parent / "maps", "--dry-run")
    assert (exit_code, result["status"], result["to_write"], result["kept"]) == (0, "skipped", 0, 3)


def test_a_finished_output_is_kept_and_another_is_refused(folder: Path, weights: Weights) -> None:
    weights(folder)
    out = folder.with_name("labels_weights")
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    exit_code, result, said = weights(folder)
    assert (exit_code, result["status"], result["written"]) == (0, "skipped", 0)
    assert said.splitlines()[-1] == f"{out} is finished already: nothing to do"
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    exit_code, _, said = weights(folder, "--sigma", "3")
    assert exit_code == 3
    assert "other sigma" in said and "--overwrite" in said.splitlines()[-1]
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    exit_code, result, _ = weights(folder, "--sigma", "3", "--overwrite")
    assert (exit_code, result["written"]) == (0, 3)


@pytest.mark.parametrize("name", ["w.tif", "w_preview.png"])
def test_a_map_and_its_picture_are_finished_together(folder: Path, tmp_path: Path, weights: Weights, name: str) -> None:
    """Whichever of the two a kill between their names kept away: the same command makes it, and leaves the other."""
    command = (folder / "a.tif", "-o", tmp_path / "w.tif", "--preview")
    assert weights(*command)[0] == 0
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("w*")}
    assert whole.keys() == {"w.tif", "w_preview.png"}
    (tmp_path / name).unlink()
    exit_code, result, _ = weights(*command)
    assert (exit_code, result["written"]) == (0, 1)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("w*")} == whole
    assert weights(*command)[1]["status"] == "skipped"


def test_a_picture_in_the_way_keeps_the_map_away(folder: Path, tmp_path: Path, weights: Weights) -> None:
    (tmp_path / "w_preview.png").write_bytes(b"another's")
    exit_code, _, said = weights(folder / "a.tif", "-o", tmp_path / "w.tif", "--preview")
    assert exit_code == 3
    assert "w_preview.png is already there" in said
    assert [path.name for path in tmp_path.glob("w*")] == ["w_preview.png"]
    assert (tmp_path / "w_preview.png").read_bytes() == b"another's"


def test_a_picture_that_fails_takes_its_map_with_it(
    folder: Path, tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("unettile.weighting.preview.write_png", full)
    exit_code, _, said = weights(folder / "a.tif", "-o", tmp_path / "w.tif", "--preview")
    assert exit_code == 3
    assert "disk is full" in said
    assert not list(tmp_path.glob("*w*tif")) and not list(tmp_path.glob("*w*png"))


def test_an_interrupted_set_goes_on_with_the_missing_maps(folder: Path, weights: Weights) -> None:
    weights(folder)
    out = folder.with_name("labels_weights")
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "b.tif").unlink()
    exit_code, result, said = weights(folder)
    assert (exit_code, result["written"], result["kept"]) == (0, 1, 2)
    assert "2 more were there" in said
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


def test_an_interrupted_set_does_not_go_on_with_other_options_or_labels(folder: Path, weights: Weights) -> None:
    weights(folder)
    out = folder.with_name("labels_weights")
    (out / "b.tif").unlink()
    exit_code, _, said = weights(folder, "--sigma", "3")
    assert exit_code == 3
    assert "other sigma" in said
    tifffile.imwrite(folder / "a.tif", discs((60, 70), 5, 9))
    exit_code, _, said = weights(folder, "--class-weights", "balanced")
    assert exit_code == 3
    assert "other class_weights, labels" in said
    assert not (out / "b.tif").exists()


def test_a_foreign_file_in_the_way_is_refused(folder: Path, tmp_path: Path, weights: Weights) -> None:
    out = tmp_path / "out"
    out.mkdir()
    tifffile.imwrite(out / "a.tif", np.zeros((4, 4), np.uint8))
    exit_code, _, said = weights(folder, "-o", out)
    assert exit_code == 3
    assert "a.tif is already there" in said
    assert [path.name for path in out.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_half_map_and_the_run_goes_on(tmp_path: Path, weights: Weights, number: int) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    ids = discs((500, 500), 60, 0)
    for index in range(30):
        tifffile.imwrite(labels / f"{index:02d}.tif", ids, compression="zlib")
    out = tmp_path / "labels_weights"
    process = subprocess.Popen([sys.executable, "-m", "unettile", "weights", labels, "--quiet"])
    deadline = time.monotonic() + 100
    while not list(out.glob("*.tif")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(60) == -number
    assert not [path.name for path in out.iterdir() if path.suffix != ".tif"]
    finished = len(list(out.iterdir()))
    assert 1 <= finished < 30
    exit_code, result, _ = weights(labels)
    assert (exit_code, result["kept"]) == (0, finished)


# --- refusals


def test_train_refuses_weight_maps_of_another_size(
    tmp_path: Path, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels, maps = (tmp_path / name for name in ("images", "labels", "maps"))
    for name in ("a.tif", "b.tif"):
        for folder, array in ((images, discs((220, 230), 9, 0) * 9), (labels, discs((220, 230), 9, 0))):
            folder.mkdir(exist_ok=True)
            tifffile.imwrite(folder / name, array)
    assert weights(labels, "-o", maps, "--dtype", "float16")[0] == 0
    tifffile.imwrite(maps / "b.tif", np.ones((230, 220), np.float16))
    small = (
        "--recipe",
        "nuclei-valid",
        "--epochs",
        "1",
        "--set",
        "run.steps_per_epoch=1",
        "--set",
        "network.widths=[2,4]",
        "--validation",
        "0.5",
    )
    arguments = (images, labels, "-o", tmp_path / "m.safetensors", "--weights", maps, "--device", "cpu", *small)
    assert run(["train", *map(str, arguments)]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert "maps/b.tif has shape (230, 220), its image has (220, 230)" in last


def png_with_colours(path: Path) -> None:
    import imagecodecs

    path.write_bytes(imagecodecs.png_encode(np.zeros((8, 8, 3), np.uint8)))


BAD_LABELS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "fractions.tif": (lambda path: tifffile.imwrite(path, np.full((8, 8), 0.5, np.float32)), "whole numbers"),
    "not_a_number.tif": (lambda path: tifffile.imwrite(path, np.full((8, 8), np.nan, np.float32)), "whole numbers"),
    "negative.tif": (lambda path: tifffile.imwrite(path, np.full((8, 8), -2, np.int16)), "negative label -2"),
    "colours.tif": (
        lambda path: tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb"),
        "3 channels",
    ),
    "colours.png": (png_with_colours, "3 channels"),
    "text.tif": (lambda path: path.write_text("labels"), "need a TIFF, OME-Zarr, PNG or JPEG"),
    "empty.tif": (lambda path: path.write_bytes(b""), "it is empty"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_what_is_no_label_map_is_refused_before_anything_is_written(name: str, folder: Path, weights: Weights) -> None:
    make, reason = BAD_LABELS[name]
    make(folder / name)
    for labels, out in ((folder, "labels_weights"), (folder / name, f"labels/{Path(name).stem}_weights.tif")):
        exit_code, _, said = weights(labels)
        assert exit_code == 3
        last = said.splitlines()[-1]
        assert reason in last
        assert name in last
        assert not (folder.parent / out).exists()


@pytest.mark.parametrize("command", ["weights"])
def test_nothing_to_read_is_refused(tmp_path: Path, weights: Weights, command: str) -> None:
    exit_code, _, said = weights(tmp_path / "absent")
    assert exit_code == 3
    assert "no such file" in said
    (tmp_path / "hollow").mkdir()
    exit_code, _, said = weights(tmp_path / "hollow")
    assert exit_code == 3
    assert "holds no images" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hollow"]


@pytest.mark.parametrize(
    "options",
    [
        ("--sigma", "0"),
        ("--sigma", "-1"),
        ("--sigma", "nan"),
        ("--sigma", "x"),
        ("--w0", "-1"),
        ("--gap", "-1"),
        ("--dtype", "float64"),
        ("--dtype", "float16", "--w0", "66000"),
        ("--w0", "1e300"),
        ("--sigma", "1e300"),
        ("--pixel-size", "1"),
        ("--pixel-size", "1,x"),
        ("--pixel-size", "1,0"),
        ("--pixel-size", "1,1,1"),
    ],
)
def test_numbers_out_of_range_are_wrong_usage(folder: Path, weights: Weights, options: tuple[str, ...]) -> None:
    exit_code, _, said = weights(folder, *options)
    assert exit_code == 2
    assert len(said.splitlines()) == 1
    assert not folder.with_name("labels_weights").exists()


def test_outputs_that_do_not_fit_the_input_are_wrong_usage(folder: Path, tmp_path: Path, weights: Weights) -> None:
    file = tmp_path / "file.tif"
    file.write_text("mine")
    for labels, out, reason in (
        (folder, file, "is a file"),
        (folder, folder, "one of the inputs"),
        (folder / "a.tif", folder / "a.tif", "one of the inputs"),
        (folder / "a.tif", tmp_path, "is a folder"),
        (folder / "a.tif", tmp_path / "w.png", "ends with .tif"),
        (folder / "a.tif", tmp_path / "w.jpg", "cannot tell the format"),
    ):
        exit_code, _, said = weights(labels, "-o", out, "--overwrite")
        assert exit_code == 2, (labels, out)
        assert reason in said
    assert file.read_text() == "mine"
    assert tifffile.imread(folder / "a.tif").dtype == np.uint16


def test_two_label_images_of_one_name_are_refused(folder: Path, weights: Weights) -> None:
    tifffile.imwrite(folder / "a.tiff", np.zeros((9, 9), np.uint8))
    exit_code, _, said = weights(folder)
    assert exit_code == 3
    assert "a.tif" in said.splitlines()[-1]
    assert "rename one" in said.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_destination_that_cannot_be_written_is_refused(folder: Path, tmp_path: Path, weights: Weights) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert weights(folder, "-o", locked / "out")[0] == 3


def test_a_destination_without_its_folder_is_refused(folder: Path, tmp_path: Path, weights: Weights) -> None:
    exit_code, _, said = weights(folder / "a.tif", "-o", tmp_path / "absent" / "w.tif")
    assert exit_code == 3
    assert "does not exist" in said


def test_quiet_says_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["weights", str(folder), "--quiet"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_class_weights_that_the_type_cannot_hold_are_refused_with_the_figure(
    tmp_path: Path, weights: Callable[..., tuple[int, dict[str, Any], str]]
) -> None:
    labels = np.zeros((400, 400), np.uint8)
    labels[0, 0] = 1  # one pixel of a cell: w_c of 80,000
    tifffile.imwrite(tmp_path / "a.tif", labels)
    code, _, said = weights(tmp_path / "a.tif", "-o", tmp_path / "w.tif", "--dtype", "float16")
    assert code == 2 and "weights reach 80000" in said and "float16 holds up to 65504" in said and "float32" in said
    assert not (tmp_path / "w.tif").exists()
    assert weights(tmp_path / "a.tif", "-o", tmp_path / "w.tif")[0] == 0
