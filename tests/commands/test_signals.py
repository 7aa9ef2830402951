"""Signals: a flag for runs that finish their step, an exception for the rest, and the death that the parent sees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from unettile.commands.signals import StopNow, finish_step_first, stop_at_once

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

CHILD = """
import os, signal, sys
from unettile import cli
from unettile.commands.signals import finish_step_first, stop_at_once
number, times = int(sys.argv[1]), int(sys.argv[2])
def invoke(arguments):
    with finish_step_first("stopping") as should_stop:
        try:
            for _ in range(times):
                os.kill(os.getpid(), number)
        finally:
            sys.stderr.write("cleaned\\n")
            for _ in range(times - 2):
                os.kill(os.getpid(), number)
        assert should_stop() == number
        raise cli.Interrupted(should_stop())
cli._invoke = invoke
cli.main()
"""


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_raises_a_flag(number: int) -> None:
    before = signal.getsignal(number)
    with finish_step_first() as should_stop:
        assert should_stop() is None
        os.kill(os.getpid(), number)
        assert should_stop() == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_step_that_takes_too_long_is_left(number: int) -> None:
    """After the grace it unwinds as after a second signal; a run that ends in time hears no more of it."""
    with pytest.raises(StopNow) as stop, finish_step_first(grace_s=0.05):
        os.kill(os.getpid(), number)
        while True:
            time.sleep(0.01)
    assert stop.value.signum == number
    with finish_step_first(grace_s=0.05) as should_stop:
        os.kill(os.getpid(), number)
        assert should_stop() == number
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("number", NUMBERS)
def test_elsewhere_a_signal_unwinds(number: int) -> None:
    cleaned = False
    with pytest.raises(StopNow) as stop, stop_at_once():
        try:
            os.kill(os.getpid(), number)
        finally:
            cleaned = True
    assert stop.value.signum == number and cleaned


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with finish_step_first() as should_stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert should_stop() is None
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
def test_the_parent_sees_the_signal(number: int, times: int) -> None:
    """One stops after the step, two clean up and stop at once, three kill."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(int(number)), str(times)], capture_output=True, text=True)
    assert done.returncode == -number, done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert lines[:2] == ["stopping", "cleaned"] and len(lines) == (3 if times < 3 else 2)
    assert times == 3 or lines[2].startswith("unettile: stopped by signal")


def test_the_signal_of_batch_systems_ends_with_75_wherever_it_comes() -> None:
    """However often it comes; a second one does not cut short what the first one let finish."""
    child = CHILD.replace("raise cli.Interrupted(should_stop())", "raise cli.Incomplete('later')")
    for text in (child, child.replace("with finish_step_first", "with stop_at_once").replace("as should_stop", "")):
        for times in ("1", "3"):
            done = subprocess.run(
                [sys.executable, "-c", text.replace('("stopping")', "()"), str(int(signal.SIGUSR1)), times],
                capture_output=True,
                text=True,
            )
            assert done.returncode == 75 and "unettile: " in done.stderr, done.stderr


def test_a_closed_pipe_ends_quietly() -> None:
    command = f"{sys.executable} -m unettile segment --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode in (0, 141) and done.stderr == ""
