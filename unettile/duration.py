"""Durations, as people and batch systems write them."""

from __future__ import annotations

import re

from unettile.errors import UsageError

_UNITS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):([0-5]\d)", re.ASCII)
_DAYS = re.compile(r"(\d+)-([01]?\d|2[0-3])(?::([0-5]\d))?(?::([0-5]\d))?", re.ASCII)
_LONGEST_S = 3650 * 86400  # ten years
_EXAMPLES = "need a time such as 55m, 2h, 1h30m, 0:55:00 or 1-02:00:00"


def parse_duration(text: str, option: str = "--max-time") -> float:
    """Return the seconds of a duration.

    Either numbers with units (90s, 55m, 2h, 1h30m, 1d), or as Slurm writes them: minutes:seconds,
    hours:minutes:seconds, days-hours, days-hours:minutes, or days-hours:minutes:seconds. A bare number is refused:
    some take it for seconds, Slurm takes it for minutes.

    Args:
        option: that got the text, for the message.

    Raises:
        UsageError: none of these, nothing at all, or more than ten years.

    >>> [parse_duration(text) for text in ("55m", "1h30m", "55:00", "0:55:00", "1-02:00:00")]
    [3300.0, 5400.0, 3300.0, 3300.0, 93600.0]
    """
    written = text.strip()
    shown = written if len(written) <= 40 else f"{written[:40]}…"
    if re.fullmatch(r"\d{1,40}", written, re.ASCII):
        raise UsageError(
            f"{option} {shown} has no unit: give {shown}s for seconds, {shown}m for minutes or {shown}h for hours"
        )
    if units := _UNITS.fullmatch(written):
        parts = units.groups()
    elif days := _DAYS.fullmatch(written):
        parts = days.groups()
    elif clock := _CLOCK.fullmatch(written):
        hours, minutes, _ = clock.groups()
        if hours is not None and int(minutes[:9]) > 59:
            raise UsageError(f"{option} {shown!r} is not understood: an hour has 60 minutes; {_EXAMPLES}")
        parts = (None, *clock.groups())
    else:
        raise UsageError(f"{option} {shown!r} is not understood: {_EXAMPLES}")
    # more than twelve digits are more than ten years in any unit, and int() refuses thousands of them
    day, hour, minute, second = (int((part or "0").lstrip("0")[:12] or 0) for part in parts)
    seconds = ((day * 24 + hour) * 60 + minute) * 60 + second
    if not 0 < seconds <= _LONGEST_S:
        raise UsageError(f"{option} {shown!r} is {'too long' if seconds else 'no time'}: {_EXAMPLES}")
    return float(seconds)


def seconds_of(duration: float | str | None) -> float | None:
    """Return the seconds of a duration that may be a number of them, a text as `parse_duration` takes it, or None."""
    return parse_duration(duration, "max_time") if isinstance(duration, str) else duration


def format_duration(seconds: float) -> str:
    """Format a time as people read it.

    >>> format_duration(5), format_duration(65), format_duration(3700)
    ('5 s', '1 min 05 s', '1 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
