"""Bad input: the right exit code, one line that says what and what to do, nothing under the final name."""

from __future__ import annotations

import os
import pickle
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from safetensors.numpy import save_file

from tests.scenarios.conftest import Cli, make_pixels


def declared(width: int, height: int, samples: int = 1) -> bytes:
    """Return a TIFF that declares a size and holds 16 bytes of pixels."""
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1),
        (273, 4, 8), (277, 3, samples), (278, 4, max(height, 1)), (279, 4, 16),
    ]  # fmt: skip
    ifd = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 24) + bytes(16) + struct.pack("<H", len(entries)) + ifd + bytes(4)


def grey(path: Path) -> None:
    tifffile.imwrite(path, make_pixels(60, 50))


def text(path: Path) -> None:
    path.write_text("not an image")


def truncated(path: Path) -> None:
    tifffile.imwrite(path, make_pixels(60, 50), rowsperstrip=10)
    path.write_bytes(path.read_bytes()[:1500])


def zero_sized(path: Path) -> None:
    path.write_bytes(declared(0, 0))


def absurd(path: Path) -> None:
    path.write_bytes(declared(2**31 - 1, 2**31 - 1))


def five_channels(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((60, 50, 5), np.uint8), photometric="minisblack", planarconfig="contig")


def infinite(path: Path) -> None:
    pixels = make_pixels(60, 50).astype(np.float32)
    pixels[30, 20] = np.inf
    tifffile.imwrite(path, pixels)


def missing(path: Path) -> None:
    pass


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.mkdir()


BAD_IMAGES: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (missing, ("no such file",)),
    (empty, ("empty",)),
    (text, ("TIFF, OME-Zarr, PNG or JPEG",)),
    (truncated, ("truncated",)),
    (zero_sized, ("no pixels",)),
    (absurd, ()),
    (five_channels, ("5 channels", "--channel")),
    (infinite, ("finite",)),
]


@pytest.mark.parametrize(("make", "parts"), BAD_IMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_bad_image(cli: Cli, tmp_path: Path, model: Path, make: Callable[[Path], None], parts: tuple[str, ...]) -> None:
    image, out = tmp_path / "bad.tif", tmp_path / "out"
    make(image)
    out.mkdir()
    done = cli("segment", image, "-m", model, "-o", out / "mask.tif")
    assert done.code == 3, done.err
    assert done.err.startswith("unettile: ") and done.err.count("\n") == 1 and done.out == ""
    assert all(part in done.err for part in ("bad.tif", *parts)), done.err
    assert not list(out.iterdir())


def test_directory_without_images(cli: Cli, tmp_path: Path, model: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("x")
    done = cli("segment", tmp_path / "in", "-m", model, "-o", tmp_path / "out")
    assert done.code == 3 and "holds no images" in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def random_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4)


def foreign(path: Path) -> None:
    save_file({"weight": np.zeros(3, np.float32)}, path)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (Path("exploded"),))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (random_bytes, "not a safetensors"),
        (foreign, "did not write"),
        (pickled, "pickle"),
        (missing, "no model called"),
    ],
)
def test_bad_model(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path, make: Callable[[Path], None], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "bad.safetensors")
    done = cli("segment", image, "-m", tmp_path / "bad.safetensors", "-o", tmp_path / "mask.tif")
    assert done.code == 3 and part in done.err and done.err.count("\n") == 1, done.err
    assert not (tmp_path / "mask.tif").exists() and not (tmp_path / "exploded").exists()


def test_labels_that_do_not_pair(cli: Cli, tmp_path: Path) -> None:
    for part, names in (("images", "abc"), ("labels", "abd")):
        (tmp_path / part).mkdir()
        for name in names:
            grey(tmp_path / part / f"{name}.tif")
    done = cli("train", tmp_path / "images", tmp_path / "labels", "-o", tmp_path / "m.safetensors", "--device", "cpu")
    assert done.code == 3 and done.err.count("\n") == 1 and "c" in done.err, done.err
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--tile", 400), ("tile edge 400 does not fit this network: need 4 + 16k; use 388 or 404",)),
        (("--tile", 4), ("tile edge 4 does not fit", "use 20")),
        (("--device", "gpu"), ("gpu", "cuda:N")),
        (("--device", "cpu", "--precision", "fp16"), ("fp16", "CUDA")),
        (("--channel", "0,,1"), ("0,,1", "like 0 or 0,1,2")),
        (("--channel", "-1"), ("-1", "counted from 0")),
        (("--mpp", 0), ("--mpp 0", "like 0.5")),
        (("--batch", 0), ("--batch",)),
    ],
)
def test_bad_options(
    cli: Cli, tmp_path: Path, model: Path, image: Path, options: tuple[object, ...], parts: tuple[str, ...]
) -> None:
    done = cli("segment", image, "-m", model, "-o", tmp_path / "mask.tif", *options)
    assert done.code == 2 and done.err.count("\n") == 1 and all(part in done.err for part in parts), done.err
    assert list(tmp_path.iterdir()) == [image]


@pytest.mark.parametrize("name", ["mask.tif", "mask.ome.tif", "mask.png", "mask.ome.zarr"])
def test_a_mask_is_no_image(cli: Cli, tmp_path: Path, model: Path, image: Path, name: str) -> None:
    """What unettile wrote is refused as an image unless it is meant; crops that it joined are an image."""
    assert cli("segment", image, "-m", model, "-o", tmp_path / name).code == 0
    words = ("segment", tmp_path / name, "-m", model, "-o", tmp_path / "again.tif")
    done = cli(*words)
    assert done.code == 3 and done.err.count("\n") == 1, done.err
    assert f"{name} is a result of unettile (mask)" in done.err and "--force" in done.err
    assert not (tmp_path / "again.tif").exists()
    done = cli(*words, "--force", "--channel", "0")
    assert done.code == 0 and (tmp_path / "again.tif").exists(), done.err


def test_other_results_are_no_images_but_joined_crops_are(cli: Cli, tmp_path: Path, model: Path) -> None:
    crops = tmp_path / "crops"
    crops.mkdir()
    tifffile.imwrite(crops / "a_y00000_x00000.tif", make_pixels(60, 50))
    assert cli("stitch", crops, "-o", tmp_path / "whole.tif").code == 0
    assert cli("segment", tmp_path / "whole.tif", "-m", model, "-o", tmp_path / "mask.tif").code == 0
    assert cli("weights", tmp_path / "mask.tif", "-o", tmp_path / "weights.tif").code == 0
    done = cli("segment", tmp_path / "weights.tif", "-m", model, "-o", tmp_path / "no.tif")
    assert done.code == 3 and "(weight map)" in done.err and done.err.count("\n") == 1, done.err


def test_the_advice_on_channels_works(cli: Cli, tmp_path: Path, rgb_model: Path) -> None:
    """Two channels for a model of three: the command with what the message names runs."""
    tifffile.imwrite(
        tmp_path / "two.tif", np.stack([make_pixels(60, 50)] * 2, 2), photometric="minisblack", planarconfig="contig"
    )
    words = ("segment", tmp_path / "two.tif", "-m", rgb_model, "-o", tmp_path / "mask.tif")
    done = cli(*words)
    found = re.search(r"--channel,? .*?(\d(?:,\d)*),", done.err)
    assert done.code == 3 and found is not None, done.err
    assert cli(*words, "--channel", found[1]).code == 0


@pytest.mark.parametrize("name", ["mask.jpg", "mask", "mask.safetensors"])
def test_unknown_output_ending(cli: Cli, tmp_path: Path, model: Path, image: Path, name: str) -> None:
    done = cli("segment", image, "-m", model, "-o", tmp_path / name)
    assert done.code == 2 and ".tif" in done.err and ".png" in done.err and done.err.count("\n") == 1, done.err
    assert list(tmp_path.iterdir()) == [image]


def test_existing_output(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    out = tmp_path / "mask.tif"
    out.write_text("precious")
    done = cli("segment", image, "-m", model, "-o", out)
    assert done.code == 3 and "--overwrite" in done.err and done.err.count("\n") == 1, done.err
    assert out.read_text() == "precious"
    assert cli("segment", image, "-m", model, "-o", out, "--overwrite", "--quiet").code == 0
    assert tifffile.imread(out).shape == (150, 170)


def test_destination_without_a_directory(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    for out in (tmp_path / "missing" / "mask.tif", image / "mask.tif"):
        done = cli("segment", image, "-m", model, "-o", out)
        assert done.code == 3 and "directory" in done.err and done.err.count("\n") == 1, done.err
    assert list(tmp_path.iterdir()) == [image]


def test_what_failed_before_its_first_block_leaves_nothing(
    cli: Cli, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that runs out says what to change; what did not begin does not bind the next command to its options."""
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, make_pixels(60, 50))

    def fail(self: object, windows: object) -> None:
        raise MemoryError

    monkeypatch.setattr("unettile.inference.predict.Predictor._logits", fail)
    done = cli("segment", image, "-m", model, "-o", tmp_path / "mask.tif", "--tile", 388)
    assert done.code == 3 and "--tile or --batch" in done.err, done.err
    assert list(tmp_path.iterdir()) == [image]


@pytest.fixture(params=["full", "read-only"])
def bad_disk(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    """A small file system that is full or read-only."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    try:
        if request.param == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        else:
            with (place / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
                while True:
                    filler.write(bytes(4096))
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_unusable_destination(cli: Cli, model: Path, image: Path, bad_disk: Path) -> None:
    done = cli("segment", image, "-m", model, "-o", bad_disk / "mask.tif")
    assert done.code == 3 and done.err.splitlines()[-1].startswith("unettile: "), done.err
    assert str(bad_disk) in done.err and "Traceback" not in done.err
    assert not (bad_disk / "mask.tif").exists()


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from unettile.cli import main
main()
"""


def test_a_file_that_may_not_grow(tmp_path: Path, model: Path) -> None:
    """What any user can test of a full disk: the mask of noise is larger than the limit."""
    image, out = tmp_path / "image.tif", tmp_path / "mask.tif"
    tifffile.imwrite(image, make_pixels(700, 700))
    arguments = ["segment", image, "-m", model, "-o", out, "--write", "probabilities"]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[-1].startswith("unettile: ") and "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    place = tmp_path / "closed"
    place.mkdir(mode=0o555)
    done = cli("segment", image, "-m", model, "-o", place / "mask.tif")
    assert done.code == 3 and "permission" in done.err and done.err.count("\n") == 1, done.err
