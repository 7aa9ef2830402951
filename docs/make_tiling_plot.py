"""Plot how many pixels change class with the step between tiles: docs/tiling-step.svg and docs/tiling-step.json.

    python docs/make_tiling_plot.py

Tiles of one window size are laid every 368, 369, ... 400 px over sample_data/nuclei.tif, each writing a square of one
step, and the mask is compared with that of a single window over the whole mirrored image. This is done for a narrow
U-Net with random parameters and for the model nuclei-valid. Takes a few minutes on two cores.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import tifffile
import torch
from matplotlib import pyplot
from numpy.typing import NDArray

from unettile.box import Box
from unettile.geometry import Geometry
from unettile.images.mirror import reflect_indices
from unettile.networks.unet import UNet, UNetConfig

HERE = Path(__file__).parent
STEPS = range(368, 401)
OUTPUT_EDGE = 404  # 4 + 16 * 25, the smallest legal output that every step fits into

# (C, h, w) float32 window to (K, h - 184, w - 184) logits
Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def main() -> None:
    image = tifffile.imread(HERE.parent / "sample_data" / "nuclei.tif").astype(np.float32)[..., None]
    lines = {"random parameters": changed_pixels(*random_network(image))}
    shipped = HERE.parent / "unettile" / "models" / "nuclei-valid.safetensors"
    if shipped.is_file():
        lines["shipped model"] = changed_pixels(*shipped_network(shipped, image))
    (HERE / "tiling-step.json").write_text(json.dumps({"steps": list(STEPS), **lines}, indent=1) + "\n")
    plot(lines, HERE / "tiling-step.svg")


def changed_pixels(forward: Forward, geometry: Geometry, image: NDArray[np.float32]) -> list[float]:
    """Return, for every step, the fraction of pixels whose class differs from that of one window over everything."""
    whole_edges = [geometry.smallest_output_edge(length) for length in image.shape[:2]]
    whole = classes(forward, geometry, image, Box(0, 0, *whole_edges))[: image.shape[0], : image.shape[1]]
    changed = []
    for step in STEPS:
        mask = np.zeros_like(whole)
        for y in range(0, image.shape[0], step):
            for x in range(0, image.shape[1], step):
                output = classes(forward, geometry, image, Box(y, x, y + OUTPUT_EDGE, x + OUTPUT_EDGE))
                target = mask[y : y + step, x : x + step]
                target[...] = output[: target.shape[0], : target.shape[1]]
        changed.append(float((mask != whole).mean()))
        print(f"step {step}: {changed[-1]:.3%} of the pixels change class", flush=True)  # noqa: T201
    return changed


def classes(forward: Forward, geometry: Geometry, image: NDArray[np.float32], output: Box) -> NDArray[np.intp]:
    """Return the classes of the pixels of `output`, whose window may lie past the image."""
    window = output.expand(geometry.margin)
    rows = reflect_indices(window.y0, window.y1, image.shape[0])
    columns = reflect_indices(window.x0, window.x1, image.shape[1])
    return forward(image[np.ix_(rows, columns)].transpose(2, 0, 1)).argmax(axis=0)


def random_network(image: NDArray[np.float32]) -> tuple[Forward, Geometry, NDArray[np.float32]]:
    """Build a narrow U-Net with random parameters whose two classes share the image about equally."""
    torch.manual_seed(0)
    network = UNet(UNetConfig(widths=(4, 8, 16, 32, 64))).eval()
    forward = on_torch(network)
    scaled = (image - image.mean()) / image.std()
    logits = forward(scaled[:572, :572].transpose(2, 0, 1))
    with torch.no_grad():
        network.head.bias[0] += float(np.median(logits[1] - logits[0]))
    return forward, network.geometry, scaled


def shipped_network(path: Path, image: NDArray[np.float32]) -> tuple[Forward, Geometry, NDArray[np.float32]]:
    """Load a checkpoint, and bring the image to the channels and the scale that it expects."""
    from unettile.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    scaled = checkpoint.normalization.measure_array(image).apply(image)
    if checkpoint.config["in_channels"] == 3:
        scaled = np.repeat(scaled, 3, axis=2)
    return on_torch(checkpoint.build()), checkpoint.geometry, scaled


def on_torch(network: torch.nn.Module) -> Forward:
    network = network.to(memory_format=torch.channels_last)

    def forward(window: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = torch.from_numpy(np.ascontiguousarray(window))[None].to(memory_format=torch.channels_last)
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(batch)[0].numpy()
        return logits

    return forward


def plot(lines: dict[str, list[float]], path: Path) -> None:
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = path.name  # the same numbers give the same file
    figure, panels = pyplot.subplots(
        len(lines), figsize=(8, 0.8 + 2.2 * len(lines)), sharex=True, squeeze=False, layout="constrained"
    )
    for axes, (name, changed) in zip(panels[:, 0], lines.items(), strict=True):
        for multiple in STEPS[::16]:
            axes.axvline(multiple, color="0.85", linewidth=6, zorder=0)
        axes.plot(STEPS, [100 * part for part in changed], color="#c2410c", marker="o", markersize=4, clip_on=False)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xticks(STEPS[::4])
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel("step between tiles, px (grey: multiples of the stride, 16 px)")
    figure.supylabel("pixels that change class, %", fontsize=10)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
