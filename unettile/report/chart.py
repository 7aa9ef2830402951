"""Line charts as SVG that takes its colours from the page, so that it is readable on a light and on a dark ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 46  # px around the plot
TICKS = 5


@dataclass(frozen=True)
class Line:
    """One line: a name, a class of the page's style that gives its colour, and its values, NaN where there is none."""

    name: str
    style: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Axis:
    """The y axis: its title, whether it is logarithmic, and its ends, if they are fixed."""

    title: str
    log: bool = False
    ends: tuple[float, float] | None = None


def line_chart(x: Sequence[float], lines: Sequence[Line], axis: Axis, marked: float) -> str:
    """Return an <svg> of lines over epochs `x`; a vertical line marks the epoch `marked`."""
    shown = [line for line in lines if any(_fits(value, axis) for value in line.values)]
    low, high = axis.ends or _ends([value for line in shown for value in line.values if _fits(value, axis)], axis.log)
    first, last = min(x), max(max(x), min(x) + 1)

    def across(value: float) -> float:
        return LEFT + (value - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        a, b, v = (math.log10(n) for n in (low, high, value)) if axis.log else (low, high, value)
        return HEIGHT - BOTTOM - (v - a) / (b - a) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in _log_ticks(low, high) if axis.log else _ticks(low, high):
        parts.append(f'<path class="grid" d="M{LEFT} {up(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up(tick) + 5:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(first, last):
        if tick == int(tick):
            where = HEIGHT - BOTTOM + 20
            parts.append(f'<text x="{across(tick):.1f}" y="{where}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<path class="marked" d="M{across(marked):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    for line in shown:
        points = [(across(a), up(b), b, a) for a, b in zip(x, line.values, strict=True) if _fits(b, axis)]
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py, _, _ in points)
        parts.append(f'<path class="line {line.style}" d="M{path}"/>')
        parts += [
            f'<circle class="{line.style}" cx="{px:.1f}" cy="{py:.1f}" r="{4 if a == marked else 2}">'
            f"<title>{escape(line.name)}, epoch {a:g}: {value:.4g}</title></circle>"
            for px, py, value, a in points
        ]
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">epoch</text>')
    legend = "".join(f'<span class="key {line.style}">{escape(line.name)}</span>' for line in shown)
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(axis.title)}">{"".join(parts)}</svg>'
    return f"<figure><figcaption>{escape(axis.title)}</figcaption>{drawing}<p>{legend}</p></figure>"


def _fits(value: float, axis: Axis) -> bool:
    return math.isfinite(value) and not (axis.log and value <= 0)


def _ends(values: Sequence[float], log: bool) -> tuple[float, float]:
    if not values:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = min(values), max(values)
    if log:
        return low / 1.15, high * 1.15
    room = (high - low or 1.0) * 0.06
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two ends, at most TICKS + 1."""
    decade = math.floor(math.log10((high - low) / TICKS))
    step: float = 10.0**decade
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= TICKS)
    return [round(k * step, -decade) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two ends above 0, few enough to read."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 5), (1, 3), (1,)):
        found = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(found) <= TICKS + 1:
            break
    return found if len(found) > 1 else _ticks(low, high)
