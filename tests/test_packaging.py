"""Recipes for other ways to install: they name what the package needs, and run where their tools exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGING = ROOT / "packaging"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RENAMED = {"torch": "pytorch", "lightning-fabric": "pytorch-lightning"}
"""Names that conda-forge has for packages of PyPI."""


def test_the_conda_recipe_needs_what_the_package_needs() -> None:
    text = (PACKAGING / "conda" / "meta.yaml").read_text("utf-8")
    run = text.partition("  run:\n")[2].partition("\ntest:")[0]
    listed = dict(re.findall(r"^    - (\S+) >=([0-9.]+)", run, re.MULTILINE))
    needed = dict(dependency.split(">=") for dependency in PROJECT["dependencies"])
    expected = {RENAMED.get(name, name): version for name, version in needed.items()}
    assert listed == expected | {"python": PROJECT["requires-python"].removeprefix(">=")}
    assert f'version = "{PROJECT["version"]}"' in text


def test_the_oldest_that_is_tested_is_the_oldest_that_is_allowed() -> None:
    lines = (ROOT / "constraints-oldest.txt").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = PROJECT["optional-dependencies"]
    listed = [
        *PROJECT["dependencies"],
        *(one.partition(";")[0] for name in extras.keys() - {"bench", "docs", "test"} for one in extras[name]),
    ]
    floors = dict(re.fullmatch(r"([\w.-]+)(?:\[\w+\])?>=([\d.]+)", one).groups() for one in listed)  # type: ignore[union-attr]
    for name, floor in floors.items():
        assert _release(pinned[name.lower()], floor.count(".") + 1) == _release(floor), name


def _release(version: str, parts: int | None = None) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:parts])


def test_containers_carry_what_their_steps_read() -> None:
    steps = PACKAGING / "install.sh"
    subprocess.run(["sh", "-n", steps], check=True)
    read = {name.strip('"') for name in re.findall(r"\$source/([\w./]+)", steps.read_text("utf-8"))}
    needed = read | {"unettile", "pyproject.toml", "README.md", "LICENSE"}  # of which pip builds the package
    definition = (PACKAGING / "unettile.def").read_text("utf-8").partition("%files\n")[2].partition("\n\n")[0]
    copied = [line.split() for line in definition.splitlines()]
    assert all(there == f"/src/{here}" and (ROOT / here).exists() for here, there in copied)
    kept = (PACKAGING / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for name in needed:
        assert [name, f"/src/{name}"] in copied and f"!{name}" in kept


@pytest.mark.skipif(not shutil.which("snakemake"), reason="Snakemake is not installed")
def test_the_snakemake_wrapper_makes_the_mask_of_the_command(tmp_path: Path) -> None:
    image = ROOT / "sample_data" / "nuclei.tif"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    snakefile = PACKAGING / "snakemake" / "test" / "Snakefile"
    command = ["snakemake", "--cores", "1", "-s", snakefile, "-d", tmp_path, "--config", f"image={image}"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    alone = [sys.executable, "-m", "unettile", "segment", image, "-o", tmp_path / "alone.tif", "-m", "nuclei"]
    subprocess.run([*alone, "--write", "instances", "--precision", "fp32"], env=environ, check=True, cwd=tmp_path)
    assert (tmp_path / "mask.tif").read_bytes() == (tmp_path / "alone.tif").read_bytes()
    assert "wrote" in (tmp_path / "mask.log").read_text("utf-8")


@pytest.mark.skipif(not (shutil.which("nf-test") and shutil.which("nextflow")), reason="nf-test is not installed")
def test_the_nextflow_module(tmp_path: Path) -> None:
    test = PACKAGING / "nextflow" / "tests" / "main.nf.test"
    done = subprocess.run(["nf-test", "test", test, "--profile", ""], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
