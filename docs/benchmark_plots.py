"""Plots of docs/benchmarks.md: one function a bench, from its result to an <svg>."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import log10

from benchmark_tables import Result, is_ours, short

NAMES, BAR, ROW, FIGURES = 300, 330, 26, 70  # px: of names, of the longest bar, of a row's height, of figures
OURS, OTHERS, TEXT = "#c2410c", "#6b7280", "#8a8f98"  # readable on a light and on a dark ground

Bar = tuple[str, float, str]
"""Name, length and colour."""


def peers(result: Result) -> str:
    """Plot the time of each way over ours of the same network in bfloat16, on a logarithmic axis."""
    bars = [
        (
            f"{row['way']} ({row['network']}, {row['precision']})",
            row["time_over_ours"]["median"],
            OURS if is_ours(row) else OTHERS,
        )
        for row in result["rows"]
    ]
    low = min(value for _, value, _ in bars) / 2
    high = max(value for _, value, _ in bars)
    return draw(
        "time over ours in bf16, same network (logarithmic)", bars, lambda v: log10(v / low) / log10(high / low)
    )


def ceiling(result: Result) -> str:
    """Plot the part of the ceiling that each network reaches; the whole width is all of it."""
    bars = [
        (f"{row['width']} channels, {row['precision']}", row["of_ceiling"]["median"], OURS) for row in result["rows"]
    ]
    return draw("part of the ceiling; the full width is 1", bars, lambda value: value)


PLOTS: dict[str, Callable[[Result], str]] = {function.__name__: function for function in (peers, ceiling)}


def draw(title: str, bars: Sequence[Bar], part: Callable[[float], float]) -> str:
    """Return horizontal bars with their figures; `part` of the longest bar that a value is."""
    width, height = NAMES + BAR + FIGURES, (len(bars) + 1) * ROW + 10
    inside = [f'<text x="{NAMES}" y="18" font-weight="bold">{escape(title)}</text>']
    for number, (name, value, colour) in enumerate(bars, 1):
        y, length = number * ROW + 4, part(value) * BAR
        inside += [
            f'<text x="{NAMES - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{NAMES}" y="{y + 2}" width="{length:.1f}" height="{ROW - 8}" fill="{colour}"/>',
            f'<text x="{NAMES + length + 6:.1f}" y="{y + 15}">{short(value)}</text>',
        ]
    style = f'font-family="sans-serif" font-size="12" fill="{TEXT}"'
    body = "\n".join(inside)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {style}>\n{body}\n</svg>\n'
