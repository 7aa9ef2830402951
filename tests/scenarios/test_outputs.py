"""What `segment` writes, in every format: the same bytes however it was made, both kinds from one pass, or nothing."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import tifffile
from numpy.typing import NDArray

import unettile.tiling
from tests.scenarios.conftest import Cli, make_pixels
from unettile.segmentation.run.reader import BlockReader

KINDS = {
    ".tif": ("classes",),
    ".ome.tif": ("classes", "probabilities"),
    ".ome.zarr": ("probabilities", "classes"),
    ".png": ("classes",),
}
each_ending = pytest.mark.parametrize("ending", KINDS)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """An image of 600 × 700 px, with a pixel size: so that its mask has a pyramid of two levels."""
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, make_pixels(600, 700), resolution=(20_000, 10_000), resolutionunit="CENTIMETER")
    return path


def write(*kinds: str) -> list[str]:
    return [word for kind in kinds for word in ("--write", kind)]


def content(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of every file of a directory."""
    return {str(file.relative_to(path)): file.read_bytes() for file in (path, *path.rglob("*")) if file.is_file()}


def zarr_array(path: Path) -> NDArray[np.uint8]:
    store = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}})
    return np.asarray(store.result().read().result())


@each_ending
def test_nothing_but_image_and_model_decides_a_byte(
    ending: str, cli: Cli, tmp_path: Path, model: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles, batch and blocks change no pixel, shards and jobs no byte. The tile edge is in the metadata."""
    options = (*write(*KINDS[ending]), "-m", model)
    whole = tmp_path / f"whole{ending}"
    assert cli("segment", large, *options, "--tile", 196, "-o", whole).code == 0
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 192)
    for shard in ("1/2", "0/2"):
        done = cli("segment", large, *options, "--tile", 196, "--batch", 2, "-o", tmp_path / "run", "--shard", shard)
        assert done.code == 0, done.err
    joined = tmp_path / f"joined by another name{ending}"
    done = cli("stitch", tmp_path / "run", "-o", joined)
    assert done.code == 0, done.err
    assert content(joined) == content(whole)
    assert str(tmp_path).encode() not in b"".join(content(whole).values())


@each_ending
def test_a_write_that_was_stopped_is_done_again(
    ending: str, cli: Cli, tmp_path: Path, model: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies while it writes leaves the run directory; the same command makes the same bytes."""
    options = (*write(*KINDS[ending]), "-m", model)
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"again{ending}"
    assert cli("segment", image, *options, "-o", whole).code == 0

    class PowerCut(BaseException):
        pass

    def die(self: BlockReader, box: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(BlockReader, "read_box", die)
        cli("segment", image, *options, "-o", out)
    assert not out.exists() and out.with_name(f"{out.name}.run").is_dir()
    done = cli("segment", image, *options, "-o", out, "--json")
    assert done.code == 0 and json.loads(done.out)["blocks_computed"] == 0, done.err
    assert content(out) == content(whole)
    assert sorted(tmp_path.iterdir()) == sorted([image, whole, out])


def test_both_kinds_are_those_of_two_runs(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    for kinds in (("classes",), ("probabilities",), ("classes", "probabilities")):
        for ending in (".ome.tif", ".zarr"):
            done = cli(
                "segment", image, "-m", model, *write(*kinds), "-o", tmp_path / f"{len(kinds)}{kinds[0]}{ending}"
            )
            assert done.code == 0, done.err
    classes, probabilities = (tifffile.imread(tmp_path / f"1{kind}.ome.tif") for kind in ("classes", "probabilities"))
    assert np.abs(probabilities.astype(int).sum(0) - 255).max() <= 1 and set(np.unique(classes)) == {0, 1}
    with tifffile.TiffFile(tmp_path / "2classes.ome.tif") as tif:
        assert np.array_equal(tif.series[0].asarray(), probabilities)
        assert np.array_equal(tif.series[1].asarray(), classes)
    assert np.array_equal(zarr_array(tmp_path / "1classes.zarr" / "0"), classes)
    assert np.array_equal(zarr_array(tmp_path / "2classes.zarr" / "0"), probabilities)
    assert np.array_equal(zarr_array(tmp_path / "2classes.zarr" / "labels" / "classes" / "0"), classes)


def test_pixel_size_is_carried(cli: Cli, tmp_path: Path, model: Path, large: Path) -> None:
    assert cli("segment", large, "-m", model, "-o", tmp_path / "mask.ome.tif").code == 0
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as tif:
        xml = str(tif.ome_metadata)
    assert 'PhysicalSizeX="0.5"' in xml and 'PhysicalSizeY="1.0"' in xml


@pytest.mark.parametrize("name", ["both.tif", "both.png"])
def test_both_need_a_format_that_holds_both(name: str, cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    done = cli("segment", image, "-m", model, *write("classes", "probabilities"), "-o", tmp_path / name)
    assert done.code == 2 and ".ome.tif" in done.err and done.err.count("\n") == 1, done.err
    assert list(tmp_path.iterdir()) == [image]


def test_a_zarr_directory_is_replaced_when_asked(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    out = tmp_path / "mask.ome.zarr"
    assert cli("segment", image, "-m", model, "-o", out).code == 0
    done = cli("segment", image, "-m", model, *write("probabilities"), "-o", out)
    assert done.code == 3 and "--overwrite" in done.err and done.err.count("\n") == 1, done.err
    done = cli("segment", image, "-m", model, *write("probabilities"), "-o", out, "--overwrite")
    assert done.code == 0 and zarr_array(out / "0").shape == (2, 150, 170), done.err
    for place in (tmp_path / "precious.zarr", tmp_path / "file.zarr"):
        if place.stem == "file":
            place.write_text("x")
        else:
            place.mkdir()
            (place / "thesis.txt").write_text("years of work")
        before = content(place)
        done = cli("segment", image, "-m", model, "-o", place, "--overwrite")
        assert done.code == 3 and "no Zarr directory" in done.err and done.err.count("\n") == 1, done.err
        assert content(place) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@each_ending
def test_a_read_only_directory(ending: str, cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    place = tmp_path / "locked"
    place.mkdir()
    place.chmod(0o500)
    done = cli("segment", image, "-m", model, "-o", place / f"mask{ending}")
    assert done.code == 3 and "no permission" in done.err and done.err.count("\n") == 1, done.err


@each_ending
def test_one_image_that_is_finished_stays(ending: str, cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    """The same command again ends well and writes nothing; another model's mask is not taken for this one's."""
    out = tmp_path / f"mask{ending}"
    command = ("segment", image, "-m", model, "-o", out, "--precision", "fp32")
    assert cli(*command).code == 0
    before = content(out)
    (tmp_path / f".mask{ending}.{socket.gethostname()}.999999999.tmp").write_text("of a process that was killed")
    for options in ((), ("--tile", 84), ("--dry-run",)):
        done = cli(*command, *options, "--json")
        assert done.code == 0 and done.err == f"{out} is finished already: nothing to do\n", done.err
        assert json.loads(done.out)["status"] == "skipped"
    assert content(out) == before and sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", out.name]
    for options in (("--precision", "bf16"), ("--skip-background",)):
        done = cli(*command, *options)
        assert done.code == 3 and done.err.count("\n") == 1 and "--overwrite" in done.err, done.err
        assert content(out) == before


@each_ending
def test_a_batch_knows_what_it_finished(ending: str, cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    """By the metadata of each format, which say all that decides a pixel."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    image.rename(folder / image.name)
    options = ("-m", model, "--format", ending.removeprefix("."), "-o", out, "--json")
    for precision, status in (("fp32", "done"), ("fp32", "skipped"), ("bf16", "refused")):
        done = cli("segment", folder, *options, *write(*KINDS[ending]), "--precision", precision)
        assert [entry["status"] for entry in json.loads(done.out)["images"]] == [status], done.err
    assert [path.name for path in out.iterdir()] == [f"image{ending}"]


def test_an_image_inside_the_output_is_safe(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    out = tmp_path / "mask.zarr"
    assert cli("segment", image, "-m", model, "-o", out).code == 0
    before = content(out)
    done = cli("segment", out / "0", "-m", model, "-o", out, "--overwrite")
    assert done.code == 2 and "another name" in done.err and done.err.count("\n") == 1, done.err
    assert content(out) == before


def test_a_mask_of_the_older_zarr_is_the_same_however_it_was_made(
    cli: Cli, tmp_path: Path, model: Path, large: Path
) -> None:
    options = (*write("probabilities", "classes"), "-m", model)
    older = ("--format-version", "0.4")
    whole, stitched = tmp_path / "whole.ome.zarr", tmp_path / "stitched.ome.zarr"
    assert cli("segment", large, *options, *older, "-o", whole).code == 0
    again = cli("segment", large, *options, *older, "-o", whole)
    assert again.code == 0 and "is finished already" in again.err, again.err
    for shard in ("1/2", "0/2"):
        assert cli("segment", large, *options, "--shard", shard, "-o", tmp_path / "run").code == 0
    assert cli("stitch", tmp_path / "run", *older, "-o", stitched).code == 0
    assert content(stitched) == content(whole) and "labels/classes/0/.zarray" in content(whole)
    assert cli("objects", whole / "labels" / "classes", "--table", tmp_path / "t.csv").code == 0
    for newer in (("segment", large, *options, "-o", whole), ("stitch", tmp_path / "run", "-o", whole)):
        refused = cli(*newer)
        assert refused.code == 3 and "is there already, as OME-Zarr 0.4: for 0.5" in refused.err, refused.err
    assert cli("segment", large, *options, "-o", whole, "--dry-run").code == 3
    assert cli("stitch", tmp_path / "run", "-o", whole, "--overwrite").code == 0
    assert "zarr.json" in content(whole) and ".zgroup" not in content(whole)
    refused = cli("segment", large, *options, "--format-version", "0.3", "-o", tmp_path / "x.ome.zarr")
    assert refused.code == 2 and "need 0.5 or 0.4" in refused.err


def test_ids_and_weight_maps_of_the_older_zarr(cli: Cli, tmp_path: Path) -> None:
    labels = tmp_path / "labels.tif"
    ids = np.zeros((60, 70), np.uint8)
    ids[10:30, 10:30] = 1
    tifffile.imwrite(labels, ids)
    commands = {"ids": ("objects", labels, "-o"), "weights": ("weights", labels, "-o")}
    for name, command in commands.items():
        out = tmp_path / f"{name}.ome.zarr"
        done = cli(*command, out, "--format-version", "0.4")
        assert done.code == 0, done.err
        store = tensorstore.open({"driver": "zarr", "kvstore": {"driver": "file", "path": f"{out / '0'}/"}})
        found = np.asarray(store.result().read().result())
        assert np.array_equal(found, ids) if name == "ids" else found.dtype == np.float32 and found.max() > 1
        assert cli(*command, out, "--format-version", "0.4").code == 0
        refused = cli(*command, out)
        assert refused.code == 3 and "as OME-Zarr 0.4: for 0.5 choose another" in refused.err, refused.err
        assert cli(*command, out, "--overwrite").code == 0 and (out / "zarr.json").is_file()
        assert cli(*command, tmp_path / "new.ome.zarr", "--format-version", "1").code == 2
