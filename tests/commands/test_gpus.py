"""`segment --device cuda:all`: the file is that of one device. The processor stands in for GPUs.

This process is the first of two, and the other one is a real process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

import unettile
from tests.commands.conftest import FIRST, Started, words
from tests.scenarios.conftest import Cli, make_pixels
from unettile.cli import run
from unettile.commands import gpus
from unettile.errors import UsageError
from unettile.segmentation.share import Share

ALL = ("--device", "cuda:all")


def test_the_file_is_that_of_one_device(
    cli: Cli, given: Path, tmp_path: Path, started: Started, own: list[int]
) -> None:
    both = ("--write", "instances", "--write", "probabilities", "--skip-background", "--verify")
    files = [tmp_path / f"{name}.ome.tif" for name in ("one", "all")]
    assert run(words(given, given / "image.tif", files[0], *both, "--device", "cpu", "--quiet")) == 0
    own.clear()
    done = cli(*words(given, given / "image.tif", files[1], *both, *ALL, "--json"))
    assert done.code == 0, done.err
    assert files[0].read_bytes() == files[1].read_bytes() and sorted(tmp_path.iterdir()) == sorted(files)
    assert own == [*range(FIRST)], "the rest is the other's"
    assert done.err.splitlines()[0] == "computed by 2 processes, on cpu, cpu"
    assert "image.tif: 100 %" in done.err and done.err.count("wrote ") == 1, "the other one says nothing"
    told = json.loads(done.out)
    assert (told["blocks_computed"], told["blocks_resumed"], told["devices"]) == (9, 0, ["cpu", "cpu"])
    assert told["verify"]["differing_pixels"] == 0 and "left_out" in told
    [helper] = started
    assert helper.returncode == 0 and len(started) == 1
    again = cli(*words(given, given / "image.tif", files[1], *both, *ALL))
    assert again.code == 0 and "finished already" in again.err and len(started) == 1


def test_the_processes_share_the_threads(started: Started, given: Path, tmp_path: Path) -> None:
    """Two threads are one for each; the time that is left is the others', too."""
    task = gpus.Task(given / "image.tif", tmp_path / "mask.tif")
    crew = gpus.Gpus(("cuda:0", "cuda:2"), ("--tile", "68"), 1, "cells", time.monotonic() + 90).of(task)
    seen: list[tuple[list[str], dict[str, str]]] = []

    def note(words: list[str], env: dict[str, str], **options: object) -> subprocess.Popen[bytes]:
        seen.append((words, env))
        return popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)

    popen = gpus.subprocess.Popen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpus.subprocess, "Popen", note)
        patch.setenv("CUDA_VISIBLE_DEVICES", "3, 5, GPU-8a")
        with crew.start([Share(0, 1, 4, 9, 9)]) as finished:
            while not finished():
                time.sleep(0.02)
    [(given_words, environment)] = seen
    text = " ".join(given_words)
    assert "--into-labels cells --tile 68 --quiet --json --device cuda --share 0:1/4:9/9 --max-time" in text
    assert 80 <= int(given_words[-1].removesuffix("s")) <= 90
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-8a" and environment["OMP_NUM_THREADS"] == "1"


def test_a_stack_is_shared_by_planes(given: Path, tmp_path: Path, started: Started, own: list[int]) -> None:
    planes = np.stack([make_pixels(100, 90, seed=seed) for seed in range(3)])
    tifffile.imwrite(tmp_path / "stack.tif", planes, imagej=True, metadata={"axes": "ZYX"})
    files = [tmp_path / f"{name}.tif" for name in ("one", "all")]
    for file, device in zip(files, ("cpu", "cuda:all"), strict=True):
        own.clear()
        more = ("--z", "all", "--diameter", "off", "--device", device, "--quiet")
        assert run(words(given, tmp_path / "stack.tif", file, *more)) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert own == [*range(4)], "one plane of three, of four blocks each"
    assert {path.name for path in tmp_path.iterdir()} == {"stack.tif", "one.tif", "all.tif"}


def test_of_a_folder_one_image_after_the_other(cli: Cli, given: Path, tmp_path: Path, started: Started) -> None:
    """An image of one block needs no other process, and one that cannot be read is refused once, by a line."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "bad.tif").write_bytes(b"no image")
    (images / "large.tif").write_bytes((given / "image.tif").read_bytes())
    tifffile.imwrite(images / "small.tif", make_pixels(50, 60))
    done = cli(*words(given, images, tmp_path / "masks", *ALL, "--format", "tif"))
    assert done.code == 3 and done.err.count("cannot read") == 1, done.err
    assert "1 of 3 images was refused (2 done, 1 refused)" in done.err
    assert (tmp_path / "masks" / "large.tif").read_bytes() == (given / "mask.tif").read_bytes()
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"large.tif", "small.tif"}
    assert [helper.returncode for helper in started] == [0]


def test_where_there_is_none_or_one(
    cli: Cli, given: Path, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unettile.devices.list_cuda", lambda: ())
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    refused = [
        cli(*words(given, given / "image.tif", tmp_path / "no.tif", "--device", name)) for name in ("cuda", "cuda:all")
    ]
    assert refused[0] == refused[1] and refused[0].code == 2 and "0 CUDA devices" in refused[0].err
    monkeypatch.setattr("unettile.devices.list_cuda", lambda: ("cpu",))
    done = cli(*words(given, given / "image.tif", tmp_path / "one.tif", *ALL, "--json"))
    assert done.code == 0 and "processes" not in done.err and "devices" not in json.loads(done.out)
    assert (tmp_path / "one.tif").read_bytes() == (given / "mask.tif").read_bytes()
    assert not started


def test_refusals(cli: Cli, given: Path, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each, before any process is started."""
    image, out = given / "image.tif", tmp_path / "mask.tif"
    planned = cli(*words(given, image, out, *ALL, "--dry-run"))
    assert planned.code == 0 and "shared by cpu, cpu, a process for each" in planned.err
    cases: list[tuple[list[str], int, str]] = [
        (words(given, image, tmp_path / "a.run", *ALL, "--shard", "0/2"), 2, "parts the image by itself"),
        (words(given, image, out, *ALL, "--shards", "2", "--dry-run"), 2, "--device cuda, a GPU for each job"),
        (words(given, image, out, *ALL, "--share", "1"), 2, "share"),
        (words(given, tmp_path / "no.tif", out, *ALL), 3, "no such file"),
        (["train", str(given), str(given), "-o", str(tmp_path / "m.safetensors"), *ALL], 2, "torchrun"),
    ]
    for command, code, said in cases:
        done = cli(*command)
        assert (done.code, done.err.count("\n")) == (code, 1) and said in done.err, done.err
    with pytest.raises(UsageError, match="unettile segment"):
        unettile.load(given / "model.safetensors", device="cuda:all")
    monkeypatch.setattr("unettile.segmentation.crew.memory_limit", lambda: 2**29)
    done = cli(*words(given, image, out, *ALL, "--quiet"))
    assert done.code == 3 and "2 processes, on cpu, cpu, need about" in done.err and done.err.count("\n") == 1
    assert not started and list(tmp_path.iterdir()) == []
