"""The page of the objects of an image: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile import __version__
from unettile.objects.survey import Survey
from unettile.report.bars import bar_chart
from unettile.wording import counted, size_text

MAP_EDGE = 720
"""Longest side of the map of the density on the page, px."""

RAMP = np.array(
    [(20, 24, 46), (46, 54, 120), (28, 110, 150), (38, 160, 130), (140, 200, 80), (250, 230, 90)], np.float64
)
"""Colours from no object to most, each lighter than the one before."""


def write_page(path: Path, found: Survey) -> None:
    """Write the page.

    Args:
        path: overwritten; a temporary one.

    Raises:
        OSError: the file cannot be written.
    """
    title = f"Objects of {found.subject.name}"
    body = [_head(title, found)]
    if found.count:
        body.append("<h2>Where they are</h2>" + _map(found))
        if len(found.classes) > 1:
            body.append("<h2>Classes</h2>" + _classes(found))
        charts = "".join(bar_chart(spread) for spread in found.spreads)
        note = '<p class="faint">How many objects have which values; the dashed line is the mean.</p>'
        body.append(f'<h2>Sizes and values</h2><div class="charts">{charts}</div>{note}')
    body.append(f'<p class="faint">unettile {__version__}</p>')
    style = "".join(Path(__file__).with_name(name).read_text("utf-8") for name in ("style.css", "objects.css"))
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>{''.join(body)}</body></html>\n"
    )
    path.write_text(text, "utf-8", "backslashreplace")


def _head(title: str, found: Survey) -> str:
    height, width = found.subject.shape
    tiles = [(f"{found.count:,}", "object" if found.count == 1 else "objects")]
    if found.count:
        tiles.append((f"{100 * found.area / (height * width):.3g} %", "of the image covered"))
        tiles.append(_density(found.count, height * width, found))
    shown = "".join(f'<div class="tile"><b>{value}</b>{escape(name)}</div>' for value, name in tiles)
    size = found.subject.pixel_size_um
    said = "" if size is None else f", {size[0]:.4g} × {size[1]:.4g} µm a pixel"
    about = f'<p class="faint">{size_text(found.subject.shape)}{said}</p>'
    return f'<h1>{escape(title)}</h1>{about}<div class="tiles">{shown}</div>'


def _density(count: float, pixels: float, found: Survey) -> tuple[str, str]:
    """Return how many objects there are on so many pixels, and in which unit."""
    size = found.subject.pixel_size_um
    if size is None:
        return f"{count / pixels * 1e6:,.4g}", "objects a Mpx"
    return f"{count / (pixels * size[0] * size[1]) * 1e6:,.4g}", "objects a mm²"


def _map(found: Survey) -> str:
    density, cell = found.density, found.cell
    most = max(1, int(density.max()))
    colours = _coloured(density / most)
    zoom = max(1, MAP_EDGE // max(density.shape))
    ramp = _png(_coloured(np.linspace(1, 0, 64)[:, None]))
    highest, unit = _density(most, cell * cell, found)
    size = found.subject.pixel_size_um
    micrometres = "" if size is None else f" ({cell * size[0]:.4g} × {cell * size[1]:.4g} µm)"
    picture = (
        f'<img src="{_png(colours)}" width="{zoom * density.shape[1]}" height="{zoom * density.shape[0]}" '
        f'alt="map of the density of objects"/>'
    )
    legend = (
        f'<div class="ramp"><img src="{ramp}" alt="scale"/><div><span>{highest} {unit}</span><span>0</span></div></div>'
    )
    note = (
        f"Each cell is {cell} × {cell} px of the mask{micrometres}; the fullest one has {counted(most, 'object')}. "
        "An object counts where its middle lies."
    )
    return f'<div class="map">{picture}{legend}</div><p class="faint">{note}</p>'


def _classes(found: Survey) -> str:
    size = found.subject.pixel_size_um
    scale, unit = (1.0, "px") if size is None else (size[0] * size[1], "µm²")
    rows = "".join(
        f'<tr><td><i class="swatch" style="background: rgb{one.colour}"></i>{escape(one.name)}</td>'
        f"<td>{one.count:,}</td><td>{100 * one.count / found.count:.1f} %</td>"
        f"<td>{one.area / one.count * scale:,.4g}</td><td>{100 * one.area / found.area:.1f} %</td></tr>"
        for one in found.classes
    )
    heads = ("class", "objects", "share", f"mean area, {unit}", "share of their area")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _coloured(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return colours (h, w, 3) of values (h, w) from 0 to 1."""
    place = values * (len(RAMP) - 1)
    below = np.minimum(place.astype(np.intp), len(RAMP) - 2)
    share = (place - below)[..., None]
    colours: NDArray[np.uint8] = np.rint(RAMP[below] * (1 - share) + RAMP[below + 1] * share).astype(np.uint8)
    return colours


def _png(pixels: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(imagecodecs.png_encode(pixels)).decode()
