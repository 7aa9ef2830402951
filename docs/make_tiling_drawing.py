"""Draw one tile on an image with its mirrored border, and the phase of the poolings: docs/tiling.svg.

python docs/make_tiling_drawing.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import tifffile
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from unettile.box import Box
from unettile.geometry import Geometry
from unettile.images.mirror import reflect_indices
from unettile.tiling import TileGrid

HERE = Path(__file__).parent
UNET = Geometry(margin=92, stride=16, base=4)
WINDOW, OUTPUT, WRITE, OTHER = "#1d4ed8", "#7c3aed", "#c2410c", "#0f766e"


def main() -> None:
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "tiling", "font.size": 9})
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.6), width_ratios=(1.15, 1), layout="constrained")
    draw_tile(left)
    draw_phase(right)
    figure.savefig(HERE / "tiling.svg", metadata={"Date": None}, dpi=72)


def draw_tile(axes: Axes) -> None:
    """Show the first tile of the sample image: its window reaches 92 px into the mirrored border."""
    image = np.sqrt(tifffile.imread(HERE.parent / "sample_data" / "nuclei.tif").clip(24, 110) - 24.0)
    shown = Box(-150, -150, 640, 960)
    rows = reflect_indices(shown.y0, shown.y1, image.shape[0])[::3]
    columns = reflect_indices(shown.x0, shown.x1, image.shape[1])[::3]
    mirrored = image[np.ix_(rows, columns)]
    inside = (np.arange(shown.y0, shown.y1, 3)[:, None] >= 0) & (np.arange(shown.x0, shown.x1, 3)[None] >= 0)
    shade = 1 - np.where(inside, 0.75, 0.35) * mirrored / mirrored.max()
    extent = (shown.x0, shown.x1, shown.y1, shown.y0)
    axes.imshow(shade, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.axvline(0, color="0.3", linewidth=0.8)

    grid = TileGrid(image.shape, UNET, 388)
    first, second = grid.tile(0, 0), grid.tile(0, 1)
    outline(axes, second.window, OTHER, linestyle=(0, (4, 3)))
    outline(axes, second.write, OTHER, facecolor=OTHER)
    outline(axes, first.window, WINDOW, linestyle="-")
    outline(axes, first.window.expand(-UNET.margin), OUTPUT, linestyle=":")
    outline(axes, first.write, WRITE, facecolor=WRITE)
    write_label(axes, -80, -104, "window: 572 px are read", WINDOW)
    write_label(axes, 14, 40, "write: 384 px", WRITE)
    write_label(axes, 14, 424, "output: 388 px", OUTPUT)
    write_label(axes, 398, 40, "the next tile", OTHER)
    write_label(axes, 500, 467, "its window", OTHER)
    write_label(axes, -140, 620, "mirrored", "0.25")
    write_label(axes, 14, 620, "image", "0.1")
    axes.annotate(
        "", (-92, 200), (0, 200), arrowprops={"arrowstyle": "<->", "color": WINDOW, "shrinkA": 0, "shrinkB": 0}
    )
    write_label(axes, -84, 186, "92 px", WINDOW)
    axes.set_xlim(shown.x0, shown.x1)
    axes.set_ylim(shown.y1, shown.y0)
    axes.set_xticks([0, 384, 768])
    axes.set_yticks([0, 384])
    axes.set_title("A window, what it puts out, and what is written of it", loc="left")


def draw_phase(axes: Axes) -> None:
    """Show the poolings' 16 px grid under neighbouring tiles laid every 384 and every 388 px."""
    span = (336, 432)
    for height, step, colour in ((0, 384, OTHER), (1, 388, WRITE)):
        base = 2.9 * height
        in_phase = step % UNET.stride == 0
        for row, origin, name, tone in ((0, 0, "first tile", "0.55"), (1, step, "next tile", colour)):
            y = base + 0.65 * row
            start = origin + (span[0] - origin) // UNET.stride * UNET.stride
            for x in range(start, span[1], UNET.stride):
                axes.add_patch(Rectangle((x, y), UNET.stride, 0.5, facecolor="white", edgecolor=tone, linewidth=1.2))
            axes.text(span[0] - 2, y + 0.27, name, ha="right", va="center", color=tone)
        axes.plot([step, step], [base - 0.1, base + 1.35], color="0.2", linewidth=1.4)
        axes.text(step, base + 1.72, f"the next tile begins at {step}", ha="center", va="center")
        verdict = (
            "384 = 24 · 16: both pool the same 16 px together, so both give the same answer"
            if in_phase
            else "388 = 24 · 16 + 4: they pool different pixels together, so they disagree"
        )
        axes.text(span[0], base - 0.38, verdict, va="center", color=colour)
    axes.set_xlim(*span)
    axes.set_ylim(4.9, -0.7)
    axes.set_axis_off()
    axes.set_title("Which pixels four 2 × 2 poolings bring together", loc="left")


def outline(axes: Axes, box: Box, colour: str, linestyle: object = "-", facecolor: str | None = None) -> None:
    place = (box.x0, box.y0)
    if facecolor:
        axes.add_patch(Rectangle(place, box.width, box.height, facecolor=facecolor, alpha=0.18, linewidth=0))
    axes.add_patch(
        Rectangle(place, box.width, box.height, fill=False, edgecolor=colour, linestyle=linestyle, linewidth=1.6)
    )


def write_label(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.text(x, y, text, color=colour, fontsize=8.5, fontweight="bold")


if __name__ == "__main__":
    main()
