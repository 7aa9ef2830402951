"""Bars as SVG: how a figure of objects is spread."""

from __future__ import annotations

import math
from html import escape

from unettile.objects.survey import Spread
from unettile.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH

TICKS = 5


def bar_chart(spread: Spread) -> str:
    """Return a <figure> with a bar for each bin; the dashed line is the mean."""
    title = f"{spread.name}, {spread.unit}" if spread.unit else spread.name
    edges, most = [float(edge) for edge in spread.edges], max(1, int(spread.counts.max()))
    low, high = (_place(edge, spread.log) for edge in (edges[0], edges[-1]))

    def across(value: float) -> float:
        return LEFT + (_place(value, spread.log) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def up(count: float) -> float:
        return HEIGHT - BOTTOM - count / most * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in _whole_ticks(most):
        parts.append(f'<path class="grid" d="M{LEFT} {up(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up(tick) + 5:.1f}" text-anchor="end">{tick:,}</text>')
    for left, right, count in zip(edges, edges[1:], spread.counts.tolist(), strict=False):
        parts.append(
            f'<rect class="bar" x="{across(left):.1f}" y="{up(count):.1f}" width="{across(right) - across(left):.1f}" '
            f'height="{HEIGHT - BOTTOM - up(count):.1f}"><title>{left:.4g} to {right:.4g}: {count:,}</title></rect>'
        )
    for value in (edges[0], *_inner_ticks(edges[0], edges[-1], spread.log), edges[-1]):
        anchor = "start" if value == edges[0] else "end" if value == edges[-1] else "middle"
        parts.append(
            f'<text x="{across(value):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="{anchor}">{_short(value)}</text>'
        )
    if edges[0] <= spread.mean <= edges[-1]:
        parts.append(f'<path class="marked" d="M{across(spread.mean):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    note = f"mean {spread.mean:.4g}, standard deviation {spread.sd:.4g}"
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f'<figure><figcaption>{escape(title)}</figcaption>{drawing}<p class="faint">{note}</p></figure>'


def _place(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def _whole_ticks(most: int) -> list[int]:
    """Return round whole numbers from 0 up to a largest one.

    >>> _whole_ticks(7), _whole_ticks(1234)
    ([0, 2, 4, 6], [0, 500, 1000])
    """
    decade = 1
    while True:
        for factor in (1, 2, 5):
            if most <= TICKS * decade * factor:
                return list(range(0, most + 1, decade * factor))
        decade *= 10


def _inner_ticks(low: float, high: float, log: bool) -> list[float]:
    """Return places between two ends, far enough from both to be read."""
    if log:
        return [low * (high / low) ** (k / 3) for k in (1, 2)]
    return [low + (high - low) * k / 3 for k in (1, 2)]


def _short(value: float) -> str:
    """Return a number with three significant digits, or the whole number of a large one.

    >>> _short(0.87654), _short(2330.4)
    ('0.877', '2,330')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
