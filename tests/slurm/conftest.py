"""A Slurm for the session, an image of twelve blocks, its mask from one process, and the scripts for four jobs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.conftest import ROOT
from tests.slurm.cluster import Cluster, NoSlurmError, install

AS_IT_IS = ("--diameter", "off", "--model", "nuclei-valid")
"""Else the nuclei, 80 px across, would be segmented in fewer blocks; tiles of another model have other edges."""
BLOCKS, SHARDS = 12, 4


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes on loopback; the test is skipped where they cannot be had."""
    try:
        install()
        cluster = Cluster()
        cluster.__enter__()
    except NoSlurmError as error:
        pytest.skip(f"no Slurm: {error}")
    try:
        yield cluster
    finally:
        cluster.stop()


def unettile(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command as a person on the login node does."""
    words = [sys.executable, "-m", "unettile", *(str(argument) for argument in arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    return subprocess.run(words, capture_output=True, text=True, env=environment)


@dataclass(frozen=True)
class Run:
    """An image that is segmented by jobs.

    Args:
        place: directory of the image and of what is made of it; its name has a blank.
    """

    place: Path
    cluster: Cluster

    @property
    def image(self) -> Path:
        return self.place / "a slide.tif"

    @property
    def output(self) -> Path:
        return self.place / "a mask.tif"

    @property
    def directory(self) -> Path:
        return self.place / "a mask.tif.run"

    def plan(self, *options: object) -> dict[str, Any]:
        """Ask for the scripts, and save the one that submits the others."""
        words = (
            "segment",
            self.image,
            "-o",
            self.output,
            *AS_IT_IS,
            "--dry-run",
            "--shards",
            SHARDS,
            "--json",
            *options,
        )
        done = unettile(*words)
        assert done.returncode == 0, done.stderr
        planned: dict[str, Any] = json.loads(done.stdout)
        (self.place / "submit.sh").write_text(planned["scripts"]["submit"])
        return planned

    def submit(self, *options: str) -> tuple[str, str]:
        """Submit both jobs; return the numbers of the array and of the stitching."""
        self.cluster.environment["OMP_NUM_THREADS"] = "1"
        logs = f"--output={self.place}/%A_%a.log"
        done = self.cluster.call("bash", str(self.place / "submit.sh"), logs, *options)
        assert done.returncode == 0, done.stderr
        array, stitch = re.search(r"array job (\d+)", done.stderr), re.search(r"batch job (\d+)", done.stdout)
        assert array and stitch, done
        return array[1], stitch[1]

    def done(self, shard: int) -> int:
        """How many blocks of a shard are finished."""
        each = BLOCKS // SHARDS
        markers = range(shard * each, (shard + 1) * each)
        return sum((self.directory / "done" / f"{index:06d}.json").exists() for index in markers)

    def logs(self) -> str:
        return "\n".join(f"{log.name}: {log.read_text()}" for log in sorted(self.place.glob("*.log")))


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nuclei in a column of 768 × 36,864 px: twelve blocks, one below the other, of about a second each.

    Blocks side by side are computed together, and end together.
    """
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    sample = tifffile.imread(ROOT / "sample_data" / "nuclei.tif")[:, :768]
    column = np.concatenate(
        [np.roll(sample, 7 * k, axis=1) for k in range(-(-BLOCKS * 3072 // sample.shape[0]))], axis=0
    )
    tifffile.imwrite(path, column[: BLOCKS * 3072], tile=(512, 384), compression="zlib")
    return path


@pytest.fixture(scope="session")
def whole(slide: Path) -> bytes:
    """What one process makes of it."""
    done = unettile("segment", slide, "-o", slide.with_name("whole.tif"), *AS_IT_IS)
    assert done.returncode == 0, done.stderr
    return slide.with_name("whole.tif").read_bytes()


@pytest.fixture
def run(tmp_path: Path, slide: Path, cluster: Cluster) -> Run:
    """The image in a directory of its own."""
    place = tmp_path / "with a blank"
    place.mkdir()
    (place / "a slide.tif").symlink_to(slide)
    return Run(place, cluster)
