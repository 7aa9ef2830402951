"""`segment --dry-run --shards N`: what the jobs will need, and scripts that can be submitted from anywhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import unettile.tiling
from tests.scenarios.conftest import Cli, make_pixels
from unettile.commands.jobscripts import check_names
from unettile.errors import InputError
from unettile.segmentation import forecast


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine blocks in the image of 150 × 170 px, and a probe of one batch."""
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)
    monkeypatch.setattr(forecast, "PROBE_S", 0)


@pytest.fixture
def place(tmp_path: Path, image: Path) -> Path:
    """A directory whose name needs quoting, with the image in it."""
    place = tmp_path / "it's a $HOME"
    place.mkdir()
    image.rename(place / "slide.tif")
    return place


def plan(cli: Cli, place: Path, *options: object, out: str = "mask.tif") -> dict[str, Any]:
    words = ("segment", place / "slide.tif", "-o", place / out, "--dry-run", "--shards", 4, "--json", *options)
    done = cli(*words)
    assert done.code == 0, done.err
    planned: dict[str, Any] = json.loads(done.out)
    return planned


def last_command(script: str) -> list[str]:
    """Return the words of the line that a job executes, as its shell sees them."""
    line = script.splitlines()[-1]
    shown = subprocess.run(
        ["bash", "-euc", f'set -- {line.removeprefix("exec ")}; printf "%s\\n" "$@"'],
        env={"SLURM_ARRAY_TASK_ID": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout.splitlines()


def test_the_scripts_repeat_the_command_from_anywhere(
    cli: Cli, place: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    planned = plan(cli, place, "-m", model, "--tile", 68, "--write", "probabilities", "--channel", "0")
    assert (planned["blocks"], planned["shards"], planned["blocks_per_shard"]) == (9, 4, 3)
    scripts, directory = planned["scripts"], f"{place}/mask.tif.run"
    assert "#SBATCH --array=0-3\n" in scripts["array"]
    memory = int(re.search(r"#SBATCH --mem=(\d+)M\n", scripts["array"])[1]) * 2**20  # type: ignore[index]
    assert planned["memory_bytes"] < memory < 2 * planned["memory_bytes"]
    words = last_command(scripts["array"])
    words = words[words.index("segment") :]
    assert words[:4] == ["segment", f"{place}/slide.tif", "--output", directory]
    given = dict(zip(words[4::2], words[5::2], strict=True))
    assert given == {
        "--model": str(model),
        "--tile": "68",
        "--write": "probabilities",
        "--channel": "0",
        "--device": "cpu",
        "--precision": planned["precision"],
        "--shard": "3/4",
    }
    assert last_command(scripts["stitch"])[-4:] == ["stitch", directory, "--output", f"{place}/mask.tif"]
    assert scripts["array"] in scripts["submit"] and scripts["stitch"] in scripts["submit"]
    assert [path.name for path in place.iterdir()] == ["slide.tif"], "a dry run writes nothing"


def test_the_scripts_run(cli: Cli, place: Path, model: Path) -> None:
    """With a stand-in for sbatch that runs every task of an array at once, one after the other."""
    done = cli("segment", place / "slide.tif", "-m", model, "-o", place / "mask.tif", "--dry-run", "--shards", 1)
    assert done.code == 0 and done.out.startswith("#!/bin/bash\n"), done.err
    assert "the one job" in done.err and "GiB" in done.err and re.search(r"windows? took", done.err)
    (place / "sbatch").write_text(
        '#!/bin/bash\necho "$@" >> "$CALLS"; script=$(cat)\n'
        'tasks=$(grep -o "array=0-[0-9]*" <<< "$script" | cut -d- -f2 || true)\n'
        'for task in $(seq 0 ${tasks:-0}); do SLURM_ARRAY_TASK_ID=$task bash -euc "$script" >&2; done; echo 17\n'
    )
    (place / "sbatch").chmod(0o755)
    environment = {**os.environ, "PATH": f"{place}:/usr/bin:/bin", "CALLS": str(place / "calls")}
    ran = subprocess.run(
        ["bash", "-s", "--", "--array=0"], input=done.out, env=environment, cwd="/", capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    calls = (place / "calls").read_text().splitlines()
    assert calls == ["--parsable --array=0", "--dependency=afterok:17 --kill-on-invalid-dep=yes"]
    assert cli("segment", place / "slide.tif", "-m", model, "-o", place / "whole.tif").code == 0
    assert (place / "mask.tif").read_bytes() == (place / "whole.tif").read_bytes()


def write_stack(path: Path) -> Path:
    """Write three planes of 60 × 70 px."""
    pixels = np.stack([make_pixels(60, 70, seed=seed) for seed in range(3)])
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "ZYX"})
    return path


@pytest.mark.parametrize("shards", [2, 4])
def test_the_scripts_of_a_stack_run(cli: Cli, tmp_path: Path, model: Path, shards: int) -> None:
    """Of three planes: two jobs have whole ones, four have a part of each."""
    stack, mask = write_stack(tmp_path / "stack.tif"), tmp_path / "mask.tif"
    words = ("-m", model, "--diameter", "off", "--tile", 68, "--z", "0:3")
    planned = cli("segment", stack, "-o", mask, *words, "--dry-run", "--shards", shards, "--json")
    assert planned.code == 0, planned.err
    found = json.loads(planned.out)
    assert (found["planes"], found["blocks"], found["shards"]) == (3, 6, shards)
    assert found["blocks_per_shard"] == (4 if shards == 2 else 3)
    assert ("each of 2 jobs: 2 planes" if shards == 2 else "each of 4 jobs: a part of every plane") in planned.err
    assert "3 planes of 60 × 70 px" in planned.err and list(tmp_path.glob("mask*")) == []
    array = last_command(found["scripts"]["array"])
    assert array[array.index("--z") + 1] == "0:3" and array[-2:] == ["--shard", f"3/{shards}"]
    run = tmp_path / "mask.tif.run"
    for shard in range(shards):
        options = array[array.index("--output") + 2 : array.index("--shard")]
        assert cli("segment", stack, "-o", run, *options, "--shard", f"{shard}/{shards}").code == 0
    assert cli(*last_command(found["scripts"]["stitch"])[-4:]).code == 0
    again = cli("segment", stack, "-o", mask, *words, "--dry-run")
    assert again.code == 0 and "finished already" in again.err
    assert cli("segment", stack, "-o", tmp_path / "whole.tif", *words).code == 0
    assert mask.read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_what_jobs_of_a_stack_would_refuse_is_refused_now(cli: Cli, tmp_path: Path, model: Path) -> None:
    stack, run, words = (
        write_stack(tmp_path / "stack.tif"),
        tmp_path / "mask.tif.run",
        ("-m", model, "--diameter", "off"),
    )
    part = cli("segment", stack, "-o", run, *words, "--z", "all", "--dry-run", "--shard", "1/2", "--json")
    assert json.loads(part.out)["planes"] == 2, part.err
    assert cli("segment", stack, "-o", run, *words, "--z", "all", "--shard", "0/2").code == 0
    for out, options, code, message in (
        ("m.png", ("--z", "all", "--shards", 2), 2, "a PNG holds one plane, not 3"),
        ("m.png", ("--z", "all"), 2, "a PNG holds one plane, not 3"),
        ("mask.tif", ("--z", "all", "--shards", 3), 3, "differs in the number of shards"),
        ("mask.tif", ("--z", "1:3", "--shards", 2), 3, "differs in --z"),
        ("mask.tif", ("--z", "all", "--shards", 2, "--scaling", "plane"), 3, "differs in"),
    ):
        done = cli("segment", stack, "-o", tmp_path / out, *words, *options, "--dry-run")
        assert done.code == code and message in done.err, done.err


def test_a_run_directory_may_be_named_instead(cli: Cli, place: Path, model: Path) -> None:
    planned = plan(cli, place, "-m", model, out="slide.run")
    assert (planned["run_directory"], planned["output"]) == (f"{place}/slide.run", f"{place}/slide_mask.tif")


def test_what_the_jobs_would_refuse_is_refused_now(cli: Cli, place: Path, model: Path) -> None:
    slide = place / "slide.tif"
    (place / "there.tif").write_bytes(b"mask")
    assert cli("segment", slide, "-m", model, "-o", place / "begun.tif.run", "--shard", "0/3").code == 0
    for words, code, part in (
        ((slide, "-o", place / "m.tif", "--shards", 2), 2, "--dry-run"),
        ((slide, "-o", place / "m.tif", "--shards", 2, "--dry-run", "--shard", "0/2"), 2, "--shard"),
        ((place, "-o", place / "masks", "--shards", 2, "--dry-run"), 2, "one image"),
        ((slide, "-o", place / "m.bmp", "--shards", 2, "--dry-run"), 2, "ending"),
        ((slide, "-o", place / "there.tif", "--shards", 2, "--dry-run"), 3, "--overwrite"),
        ((slide, "-o", place / "begun.tif", "--shards", 2, "--dry-run"), 3, "number of shards"),
    ):
        done = cli("segment", *words, "-m", model)
        assert done.code == code and part in done.err and done.err.count("\n") == 1, done.err
        assert done.out == ""


HARMLESS = (
    b"$(touch pwned)",
    b"`touch pwned`",
    b"'; touch pwned; '",
    b'"; touch pwned; "',
    b"a & touch pwned &",
    b"| touch pwned",
    b"> pwned",
    b"-rf",
    b"--help",
    b"ARRAY",
    b"STITCH",
    b"#SBATCH --wrap=touch",
    b"${IFS}touch${IFS}pwned",
    b"!! !$ ~ * ? [a] {a,b} \\ %s %A",
    "Präparat µ 切片 \U0001f52c".encode(),
    b"raw \xff\xfe bytes",
    b"a" * 200,
)
HOSTILE = (
    "a\nARRAY\ntouch pwned\n",
    "a\nSTITCH\ntouch pwned\n",
    "a\n)\ntouch pwned\n",
    "a\r\ntouch pwned",
    "a\tb",
    "a\x1b[2Jb",
    "a\x7fb",
    "a\x85b",
    "a\u2028b",
    "a\u202eb",
)

SBATCH = """#!/bin/bash
script=$(cat)
bash -n <<< "$script" || exit 1
line=$(tail -n 1 <<< "$script")
eval "set -- ${line#exec }"
printf '%s\\0' "$@" >> "$WORDS"
echo 17
"""
"""Takes a job as Slurm does, reads its last line as a shell does, and notes the words that it would run."""


def test_names_of_every_kind_stay_one_word(cli: Cli, tmp_path: Path, image: Path, model: Path) -> None:
    """All of them are folders, one in another. A real shell reads the script: nothing of a name runs."""
    place = tmp_path.joinpath(*map(os.fsdecode, HARMLESS))
    place.mkdir(parents=True)
    slide = image.rename(place / os.fsdecode(b"-$(touch pwned) 'a' \xff.tif"))
    chosen, output = tmp_path / "my `touch pwned` model.safetensors", place / "mask'.tif"
    chosen.symlink_to(model)
    done = cli("segment", slide, "-m", chosen, "-o", output, "--dry-run", "--shards", 2, "--json")
    assert done.code == 0, done.err
    (tmp_path / "submit.sh").write_bytes(os.fsencode(json.loads(done.out)["scripts"]["submit"]))
    assert subprocess.run(["bash", "-n", "submit.sh"], cwd=tmp_path).returncode == 0
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "sbatch").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1", "WORDS": str(tmp_path / "words")}
    ran = subprocess.run(["bash", "submit.sh"], cwd=tmp_path, env=environment, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    words = [Path(os.fsdecode(word)) for word in (tmp_path / "words").read_bytes().split(b"\0")]
    run_directory = output.with_name("mask'.tif.run")
    options = (Path("segment"), Path("--output"), Path("--model"))
    assert [words[words.index(option) + 1] for option in options] == [slide, run_directory, chosen]
    assert words[-5:-1] == [Path("stitch"), run_directory, Path("--output"), output]
    assert not list(tmp_path.rglob("pwned"))


def test_control_characters_reach_no_script(cli: Cli, tmp_path: Path, image: Path, model: Path) -> None:
    place = tmp_path / HOSTILE[0]
    place.mkdir()
    (place / "slide.tif").symlink_to(image)
    for words in (
        (place / "slide.tif", "-m", model, "-o", tmp_path / "mask.tif"),
        (image, "-m", model, "-o", place / "mask.tif"),
        (image, "-m", model, "-o", tmp_path / "mask.tif", "--set", f"name={HOSTILE[0]}", "--write", "instances"),
    ):
        done = cli("segment", *words, "--dry-run", "--shards", 2)
        assert done.code == 3 and done.out == "" and done.err.count("\n") == 1, done.err
        assert "control character" in done.err


def test_what_a_script_may_hold() -> None:
    check_names(["a b", Path("it's $HOME"), "\udcff", "µ", *map(os.fsdecode, HARMLESS)])
    for name in HOSTILE:
        with pytest.raises(InputError, match="control character") as refused:
            check_names(["fine", name])
        assert str(refused.value).isprintable(), "the message shows them escaped"
