"""Progress for logs: few lines, whole lines, honest rates."""

from __future__ import annotations

import io
import sys

import pytest

from unettile.commands.console import Console
from unettile.commands.progress import MEGAPIXELS, STEPS, Pace, PlainProgress


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_thirty_seconds_and_one_at_the_end() -> None:
    clock, lines = Clock(), list[str]()
    plain = PlainProgress("a.tif", MEGAPIXELS, lines.append, Pace(clock))
    for second in range(1, 101):
        clock.now = float(second)
        plain.update(second * 1_000_000, 100_000_000)
    plain.finish()
    assert lines == [
        "a.tif: 30 % of 100.0 Mpx, 1.00 Mpx/s, time left 1 min 10 s",
        "a.tif: 60 % of 100.0 Mpx, 1.00 Mpx/s, time left 40 s",
        "a.tif: 90 % of 100.0 Mpx, 1.00 Mpx/s, time left 10 s",
        "a.tif: 100 % of 100.0 Mpx, 1 min 40 s",
    ]


def test_what_an_earlier_run_did_is_none_of_the_rate() -> None:
    clock, lines = Clock(), list[str]()
    plain = PlainProgress("training", STEPS, lines.append, Pace(clock))
    clock.now = 1.0
    plain.update(110, 1000)
    clock.now = 31.0
    plain.update(120, 1000)
    assert lines == ["training: 12 % of 1000 steps, 0.3 steps/s, time left 44 min 00 s"]


def test_a_rate_is_that_of_the_last_minute() -> None:
    clock, lines = Clock(), list[str]()
    plain = PlainProgress("training", STEPS, lines.append, Pace(clock))
    plain.update(900, 1000)
    for second in range(1, 71):
        clock.now = float(second)
        plain.update(900 + second, 1000, "loss 0.1")
    assert lines[-1] == "training: 96 % of 1000 steps, 1.0 steps/s, time left 40 s, loss 0.1"


def test_nothing_is_said_of_nothing() -> None:
    lines = list[str]()
    PlainProgress("a", STEPS, lines.append, Pace()).finish()
    assert not lines


class Terminal(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [True, False])
def test_the_bar_of_a_terminal_honours_no_color(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    with Console().progress("a[red].tif") as update:
        update(500_000, 1_000_000)
        update(1_000_000, 1_000_000)
    shown = terminal.getvalue()
    assert "a[red].tif" in shown and "100%" in shown and "Mpx/s" in shown
    assert ("\x1b[3" in shown or "\x1b[38" in shown) != no_color


def test_without_a_terminal_there_are_plain_lines_only(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().progress("a\n.tif") as update:
        update(1_000_000, 1_000_000)
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert shown.err.startswith("a .tif: 100 %") and "\r" not in shown.err and "\x1b" not in shown.err


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    with console.progress("a") as update:
        update(1, 1)
    console.message("hello")
    console.table(("a",), [("b",)])
    assert capsys.readouterr() == ("", "")


def test_json_is_one_object_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    Console(json_output=True).result({"µ": 1})
    Console().result({"µ": 1})
    assert capsys.readouterr() == ('{"µ": 1}\n', "")
