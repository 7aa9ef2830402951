"""The README and docs/ tell the truth: commands and options exist, links lead somewhere, the README's examples run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer

from unettile.cli import app, run

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = (
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "sample_data" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
GROUP: Any = typer.main.get_command(app)

# What makes a training short enough for a test; everything else is as the README says.
SHORT_TRAINING = shlex.split(
    "--epochs 1 --workers 0 --set run.steps_per_epoch=1 --set run.batch=1 --set run.output_edge=64"
)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield (the comment before it or "", its text) for each fenced block of shell commands."""
    pattern = r"(?:<!-- ([\w-]+) -->\n)?```sh\n(.*?)```"
    yield from re.findall(pattern, page.read_text("utf-8"), flags=re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every unettile command in some shell text, without the program's name."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            starts = [index for index, word in enumerate(words) if re.fullmatch(r"(\S*/)?unettile", word)]
            if starts and words[starts[0] + 1 :]:
                yield list(takewhile(lambda word: word not in (">", "|"), words[starts[0] + 1 :]))


def written_commands() -> list[Any]:
    """List (page, arguments) for every command in every page, in fences and between backticks."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        inline = "\n".join(re.findall(r"`(unettile [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))
        fenced = "\n".join(body for _, body in blocks(page))
        for arguments in commands(f"{fenced}\n{inline}"):
            found.append(pytest.param(arguments, id=f"{page.name}: {' '.join(arguments)}"))
    return found


@pytest.mark.parametrize("arguments", written_commands())
def test_commands_and_options_exist(arguments: list[str]) -> None:
    if arguments[0].startswith("-"):
        return
    assert arguments[0] in GROUP.commands
    options = {name for parameter in GROUP.commands[arguments[0]].params for name in parameter.opts} | {"--help", "-h"}
    used = {word.split("=")[0] for word in arguments[1:] if re.match(r"--?[a-z]", word)}
    assert used <= options


@pytest.mark.parametrize("name", sorted(GROUP.commands))
def test_every_command_is_shown_in_the_readme(name: str) -> None:
    assert any(arguments[0] == name for _, body in blocks(README) for arguments in commands(body))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    local = [target for target in targets if not target.startswith(("http:", "https:"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_first_screen_has_the_two_commands() -> None:
    lines = README.read_text("utf-8").splitlines()
    first_screen = "\n".join(lines[:22])
    assert lines[0] == "# unettile"
    assert "<!-- first-command -->" in first_screen and "<!-- test-command -->" in first_screen
    named = {name: body.strip() for name, body in blocks(README) if name}
    assert all(body.startswith("python3 -m venv .venv && ") for body in named.values())
    assert all("\n" not in body for body in named.values())


@pytest.mark.timeout(1200)  # a machine that is busy with a training takes minutes
def test_the_examples_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run them in the README's order, in one folder, as a reader would; the set-up alone is left out."""
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    monkeypatch.chdir(tmp_path)
    examples = [body for name, body in blocks(README) if name != "test-command" and not body.startswith("#!")]
    ran = []
    for arguments in commands("\n".join(examples)):
        short = SHORT_TRAINING if arguments[0] == "train" else []
        assert run([*arguments, *short]) == 0, arguments
        ran.append(arguments[0])
    assert set(ran) == set(GROUP.commands)
    assert (tmp_path / "stitched.tif").read_bytes() == (tmp_path / "nuclei_mask.tif").read_bytes()
