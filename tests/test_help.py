"""Help: fast because nothing heavy is imported, and complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from unettile.cli import app, run

ROOT = Path(__file__).parent.parent
COMMANDS = ("segment", "stitch", "objects", "weights", "train", "evaluate", "models")
HEAVY = (
    "torch",
    "lightning",
    "numba",
    "zarr",
    "skimage",
    "scipy",
    "tifffile",
    "imagecodecs",
    "numpy",
    "cc3d",
    "pyarrow",
    "matplotlib",
    "safetensors",
)

PROBE = """
import sys
from unettile.cli import run
assert run(sys.argv[1:]) == 0
loaded = sorted({name.split(".")[0] for name in sys.modules})
sys.stderr.write(" ".join(loaded))
"""


@pytest.mark.parametrize("arguments", [(), *((command,) for command in COMMANDS)], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Usage: unettile" in done.stdout
    assert not set(done.stderr.split()) & set(HEAVY)


def test_every_command_and_option_is_documented() -> None:
    group = typer.main.get_command(app)
    assert tuple(group.commands) == COMMANDS  # type: ignore[attr-defined]
    for command in (group, *group.commands.values()):  # type: ignore[attr-defined]
        assert command.help, command.name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{command.name}: {parameter.name} has no help"


def test_help_speaks_of_values_not_of_types(capsys: pytest.CaptureFixture[str]) -> None:
    """What an option takes is shown by name, a flag takes nothing, and arguments stand as they are given."""
    for command in ((), *((command,) for command in COMMANDS)):
        assert run([*command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert not re.findall(r"<\w+|\{\w+|int range|bool", shown.replace("<name>", "")), shown
    assert run(["segment", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: unettile segment IMAGE... [OPTIONS]\n")
    assert "  --precision auto|fp32|tf32|bf16|fp16\n" in shown and "Default: auto." in shown
    assert re.search(r"^  --json +Print", shown, re.MULTILINE)
    assert run(["stitch", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: unettile stitch RUN_OR_CROPS -o OUT [OPTIONS]\n")


def complete(line: str, home: Path) -> list[str]:
    """Return what bash is told may stand at the end of a command line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_UNETTILE_COMPLETE": "complete_bash"}
    environment = {**os.environ, **words, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "unettile"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_shells_learn_to_complete(tmp_path: Path) -> None:
    """The installation writes below the home directory alone, and ends with 0; then commands and options are known."""
    detect = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    environment = {**os.environ, **detect, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "unettile", "--install-completion", "bash"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert any("unettile" in path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file())
    assert complete("unettile s", tmp_path) == ["segment", "stitch"]
    assert complete("unettile segment --prec", tmp_path) == ["--precision"]


def test_every_option_says_what_it_takes() -> None:
    group = typer.main.get_command(app)
    for command in group.commands.values():  # type: ignore[attr-defined]
        for parameter in command.params:
            assert getattr(parameter, "is_flag", False) or parameter.metavar, f"{command.name}: {parameter.name}"


def test_help_is_wide_enough_for_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        assert run([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert max(len(line) for line in shown.splitlines()) <= 100


def test_no_command_shows_the_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Usage: unettile" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from unettile import __version__

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"unettile {__version__}\n"


def test_command_line_page_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, "docs/make_cli.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
