"""Writing a model as a bioimage.io package, format 0.5: a folder of description, weights, test, card and cover.

rdf.yaml         the description: how intensities are scaled, the sizes of windows, the margin as halo
weights.onnx     scaled windows (N, C, H, W) to probabilities (N, K, h, w)
weights.pt       the parameters of the same, for unettile; the header of its checkpoint is in rdf.yaml
test_*.npy       a drawn picture, and what the network makes of it
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from unettile import __version__
from unettile.checkpoint import Checkpoint
from unettile.exchange.probable import ProbableNetwork
from unettile.images.normalize import HIGHEST, LOWEST
from unettile.typed import plain_json

FORMAT = "0.5.4"
OPSET = 20
_TEST = 96  # px of the output of the test
_USUAL = 24.0  # px: diameter of what is drawn for a model that does not say how large its objects are
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{1,40}")
_PAPERS = {
    "unet": ("Ronneberger et al. 2015, U-Net", "10.1007/978-3-319-24574-4_28"),
    "lite-unet": ("Ronneberger et al. 2015, U-Net", "10.1007/978-3-319-24574-4_28"),
    "fcn": ("Long et al. 2015, Fully convolutional networks", "10.1109/CVPR.2015.7298965"),
    "resnet34-unet": ("Chaurasia et al. 2017, LinkNet", "10.1109/VCIP.2017.8305148"),
    "deeplabv3+": ("Chen et al. 2018, DeepLabv3+", "10.1007/978-3-030-01234-2_49"),
    "unet++": ("Zhou et al. 2018, UNet++", "10.1007/978-3-030-00889-5_1"),
    "u2net": ("Qin et al. 2020, U2-Net", "10.1016/j.patcog.2020.107404"),
}


@dataclass(frozen=True)
class Trial:
    """A picture and what the network makes of it.

    Args:
        image: (C, H, W) float32, whole numbers from 0 to 255.
        result: (K, h, w) float32.
    """

    image: NDArray[np.float32]
    result: NDArray[np.float32]

    @property
    def lost(self) -> int:
        """How many px the result is smaller on each side."""
        return int(self.image.shape[-1] - self.result.shape[-1]) // 2


def write_package(model: Checkpoint, name: str, onnx: bytes, header: str, folder: Path) -> None:
    """Write the files of a package into an empty folder.

    Args:
        name: of the model.
        onnx: the network with a softmax after it.
        header: of the checkpoint, as JSON.
    """
    test = _compute_test(model)
    parameters = {f"network.{key}": tensor.contiguous() for key, tensor in model.parameters.items()}
    stream = io.BytesIO()
    torch.save(parameters, stream)
    files = {
        "weights.onnx": onnx,
        "traced.pt": _traced(model),
        "weights.pt": stream.getvalue(),
        "test_input.npy": _npy(test.image[None]),
        "test_output.npy": _npy(test.result[None]),
        "cover.png": _cover(model, test),
        "README.md": _readme(model, name).encode(),
    }
    description = _description(model, name, header, files, test)
    files["rdf.yaml"] = yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=120).encode()
    for place, data in files.items():
        (folder / place).write_bytes(data)


def _traced(model: Checkpoint) -> bytes:
    """Return the network with a softmax after it as TorchScript."""
    geometry, stream = model.geometry, io.BytesIO()
    edge = geometry.input_edge(geometry.smallest_output_edge(1))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # torch calls it deprecated, and fears that sizes are fixed: tests show otherwise
        window = torch.zeros(1, model.in_channels, edge, edge + geometry.stride)
        network = ProbableNetwork.of(model.build(), len(model.classes)).eval()
        torch.jit.save(torch.jit.trace(network, window, check_trace=False), stream)  # type: ignore[no-untyped-call]
    return stream.getvalue()


def _compute_test(model: Checkpoint) -> Trial:
    geometry = model.geometry
    edge = geometry.input_edge(geometry.smallest_output_edge(_TEST))
    size = model.objects_px.median if model.objects_px else _USUAL
    picture = _picture(edge, model.in_channels, size)
    pixels = np.ascontiguousarray(picture.transpose(1, 2, 0))
    scaled = torch.from_numpy(model.normalization.measure_array(pixels).apply(pixels)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        result = ProbableNetwork.of(model.build(), len(model.classes))(scaled.contiguous())[0].numpy()
    return Trial(picture, np.ascontiguousarray(result))


def _picture(edge: int, channels: int, size: float) -> NDArray[np.float32]:
    """Draw bright discs of about one diameter on noise, (C, edge, edge) of whole numbers."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:edge, :edge]
    light = rng.normal(20, 4, (edge, edge))
    for _ in range(max(4, int((edge / size) ** 2 / 5))):
        (cy, cx), radius = rng.random(2) * edge, size / 2 * rng.uniform(0.8, 1.2)
        light = np.maximum(light, rng.uniform(90, 220) * np.clip(radius - np.hypot(y - cy, x - cx), 0, 2) / 2)
    shades = np.linspace(1.0, 0.8, channels)[:, None, None]
    return np.clip(np.rint(light * shades), 0, 255).astype(np.float32)


def _description(model: Checkpoint, name: str, header: str, files: dict[str, bytes], test: Trial) -> dict[str, Any]:
    card, papers = model.card, _PAPERS.get(model.network) or _PAPERS["fcn" if "fcn" in model.network else "u2net"]
    licence = str(card.get("licence", ""))
    kwargs = {"name": model.network, "config": plain_json(header)["config"], "classes": len(model.classes)}
    version = torch.__version__.partition("+")[0]
    named = ", ".join(info.name for info in model.classes)
    return {
        "format_version": FORMAT,
        "type": "model",
        "name": _named(name),
        "description": f"Segments images into {named}. Trained on: {card.get('data') or 'not said'}"[:1000],
        "authors": [{"name": str(one)} for one in card.get("authors", ())] or [{"name": "unettile"}],
        "cite": [{"text": papers[0], "doi": papers[1]}],
        **({"license": licence} if _SPDX.fullmatch(licence) else {}),
        "documentation": "README.md",
        "covers": ["cover.png"],
        "tags": ["segmentation", model.network, "unettile", *(info.name for info in model.classes[1:])],
        "version": "1.0",
        "inputs": [_input(model)],
        "outputs": [_output(model, test)],
        "weights": {
            "pytorch_state_dict": {
                "source": "weights.pt",
                "sha256": _sha256(files["weights.pt"]),
                "architecture": {
                    "import_from": "unettile.exchange.probable",
                    "callable": "ProbableNetwork",
                    "kwargs": kwargs,
                },
                "pytorch_version": version,
            },
            "torchscript": {
                "source": "traced.pt",
                "sha256": _sha256(files["traced.pt"]),
                "pytorch_version": version,
                "parent": "pytorch_state_dict",
            },
            "onnx": {
                "source": "weights.onnx",
                "sha256": _sha256(files["weights.onnx"]),
                "opset_version": OPSET,
                "parent": "pytorch_state_dict",
            },
        },
        "config": {"unettile": {"version": __version__, "header": header}},
    }


def _input(model: Checkpoint) -> dict[str, Any]:
    geometry, count = model.geometry, model.in_channels
    least = geometry.input_edge(geometry.smallest_output_edge(1))
    channels = ["red", "green", "blue"] if count == 3 else [f"channel{k}" for k in range(count)]
    scale = {} if model.pixel_size_um is None else {"scale": model.pixel_size_um, "unit": "micrometer"}
    space = [
        {"type": "space", "id": axis, "size": {"min": least, "step": geometry.stride}, **scale} for axis in ("y", "x")
    ]
    return {
        "id": "image",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": channels}, *space],
        "data": {"type": "float32"},
        "test_tensor": {"source": "test_input.npy"},
        "preprocessing": _preprocessing(model),
    }


def _preprocessing(model: Checkpoint) -> list[dict[str, Any]]:
    scaling = model.normalization
    if scaling.intensities:
        low, high = scaling.intensities
        gain = 1 / (high - low)
        steps: list[dict[str, Any]] = [{"id": "scale_linear", "kwargs": {"gain": gain, "offset": -low * gain}}]
    else:
        axes = ["y", "x"] if scaling.per_channel else ["channel", "y", "x"]
        ends = {"min_percentile": scaling.low_percentile, "max_percentile": scaling.high_percentile}
        steps = [{"id": "scale_range", "kwargs": {"axes": axes, **ends}}]
    if scaling.signed:
        steps.append({"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": -1.0}})
    return [*steps, {"id": "clip", "kwargs": {"min": LOWEST, "max": HIGHEST}}]


def _output(model: Checkpoint, test: Trial) -> dict[str, Any]:
    cut = model.geometry.margin - test.lost
    space = [
        {
            "type": "space",
            "id": axis,
            "size": {"tensor_id": "image", "axis_id": axis, **({"offset": -2 * test.lost} if test.lost else {})},
            **({} if model.pixel_size_um is None else {"scale": model.pixel_size_um, "unit": "micrometer"}),
            **({"halo": cut} if cut else {}),
        }
        for axis in ("y", "x")
    ]
    names = [info.name for info in model.classes]
    return {
        "id": "probabilities",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": names}, *space],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": {"source": "test_output.npy"},
    }


def _cover(model: Checkpoint, test: Trial) -> bytes:
    """Return a PNG, twice as wide as high: the test's picture, and the classes in their colours beside it."""
    edge, lost = test.result.shape[-1], test.lost
    middle = test.image[:, lost : lost + edge, lost : lost + edge].transpose(1, 2, 0)
    picture = np.repeat(middle[..., :1], 3, axis=2) if middle.shape[2] != 3 else middle
    colours = np.array([info.color for info in model.classes], np.uint8)
    both = np.concatenate([picture.astype(np.uint8), colours[test.result.argmax(axis=0)]], axis=1)
    step = -(-edge // 400)
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(both[::step, ::step])))


def _readme(model: Checkpoint, name: str) -> str:
    geometry, card = model.geometry, model.card
    lines = [
        f"# {name}",
        "",
        f"Network `{model.network}`. Classes: {', '.join(info.name for info in model.classes)}.",
        f"Windows need a margin of {geometry.margin} px, which is dropped (the halo), and lie on a grid of"
        f" {geometry.stride} px.",
        "",
        *(f"- {key}: {card[key]}" for key in ("data", "limits", "licence") if card.get(key)),
        *([f"- objects: {model.objects_px.low:g} to {model.objects_px.high:g} px across"] if model.objects_px else []),
        "",
        "Intensities are scaled by figures of the whole image: a program that takes them of each tile shows its tiles.",
        "",
        "# Validation",
        "",
        f"Scores: {card.get('scores') or 'none are known'}. The test input is a drawing.",
    ]
    return "\n".join(lines) + "\n"


def _named(name: str) -> str:
    """Return a name of letters that the format allows, 5 to 64 of them."""
    return f"unettile {re.sub('[^A-Za-z0-9_+() -]', ' ', name)}"[:64].strip()


def _npy(values: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
