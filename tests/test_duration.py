"""Durations: as people write them, as Slurm writes them, and what nobody can mean."""

from __future__ import annotations

import pytest

from unettile.duration import parse_duration
from unettile.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("55m", 3300),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d2h", 93_600),
        (" 2h ", 7200),
        ("55:00", 3300),
        ("0:55:00", 3300),
        ("00:00:01", 1),
        ("100:00:00", 360_000),
        ("1-02", 93_600),
        ("1-02:30", 95_400),
        ("1-02:00:00", 93_600),
        ("007h", 25_200),
    ],
)
def test_understood(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["90", "0", "9" * 30])
def test_a_bare_number_needs_a_unit(text: str) -> None:
    """Slurm takes it for minutes, `timeout` for seconds: neither is guessed."""
    with pytest.raises(UsageError, match=rf"--max-time {text} has no unit: give {text}s .*{text}m .*{text}h"):
        parse_duration(text)


NONSENSE = ["", "soon", "inf", "0s", "0:00:00", "-5m", "1.5h", "1h30", "m5", "1:90:00", "1:00:61", "1-25", "1-", "²h"]
ABSURD = ["٣h", "9" * 5000, "9" * 5000 + "h", "9" * 12 + "-01", "3651d", "2 h", "1:2:3:4", "2h\n2h", "\udcff"]


@pytest.mark.parametrize("text", NONSENSE + ABSURD, ids=lambda text: repr(text[:12]))
def test_refused_in_a_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"--limit .*need a time such as 55m") as refused:
        parse_duration(text, "--limit")
    assert len(str(refused.value)) < 200 and "\n" not in str(refused.value)
