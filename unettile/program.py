"""Programs: networks from elsewhere, as torch.export writes them (.pt2), with what the file does not say beside them.

A program is a graph without Python source. Nothing in it says how images are scaled or what the classes are called, so
`net.json` beside `net.pt2` may; see `Sidecar`. Its geometry is measured, and so is whether tiles agree.

torch.export.load can run code that is hidden in a file: it unpickles constants and some weights without restriction
(`torch.export.pt2_archive._package`). torch's own documentation warns of files from strangers, so nothing of the file
is read before `trust` says that it may.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn

from unettile.checkpoint import Checkpoint, ClassInfo, load_checkpoint
from unettile.errors import InputError
from unettile.geometry import Geometry
from unettile.images.colours import distinct_colours
from unettile.images.normalize import Normalization
from unettile.networks.blocks import class_logits
from unettile.networks.config import did_you_mean
from unettile.networks.difference import measure_difference
from unettile.probing import Measurement, measure_geometry
from unettile.regular import read_regular
from unettile.typed import Finite, Name, Positive, Unfit, from_plain, plain_json

NETWORK = "torch.export"
OUTPUTS = ("logits", "probabilities")
_ENTRIES = (".pt2", "archive_format", "serialized_exported_program.json", "models/model.json")
_ROUNDING = 1e-4  # of a probability: what kernels chosen by size may differ by
_SIDECAR_BYTES = 2**20
_MOST_ENTRIES = 2**16  # of an archive
_MOST_RATIO = 64  # of what an archive unpacks to, to its own size; torch packs nothing
_CONTEXT = 256  # px: the margin of a program that looks at all of its window
_EXPORT = (
    "torch.export.export(net.eval(), (x,), dynamic_shapes=({0: AUTO, 2: AUTO, 3: AUTO},)), AUTO = torch.export.Dim.AUTO"
)


@dataclass(frozen=True)
class Sidecar:
    """What `net.json` beside `net.pt2` may say; every key is optional.

    Args:
        classes: names, background first.
        depth: a further output, the last, is the depth of a pixel in its object.
        output: what the program puts out: logits, or probabilities (after a softmax or a sigmoid).
        low_percentile, high_percentile, per_channel: intensities of an image that become 0 and 1.
        intensities: two numbers that become 0 and 1 instead, whatever the image holds, such as 0 and 255.
        signed: the low intensity becomes -1 instead of 0.
        mean, std: per channel, subtracted and divided by after that scaling.
        grey_to_rgb: an image of one channel is repeated for a program of three.
        pixel_size_um: of the images that it was trained on.
        card: what people should know: data, licence, scores.

    Raises:
        ValueError: a value out of its range.
    """

    classes: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(max_length=256)] = ()
    depth: bool = False
    output: Name = "logits"
    low_percentile: float = 1.0
    high_percentile: float = 99.8
    per_channel: bool = False
    signed: bool = False
    intensities: tuple[Finite, ...] = ()
    mean: Annotated[tuple[Finite, ...], Meta(max_length=1024)] = ()
    std: Annotated[tuple[Positive, ...], Meta(max_length=1024)] = ()
    grey_to_rgb: bool = False
    pixel_size_um: Positive | None = None
    card: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ValueError(f"output = {self.output!r} is not known: need one of {', '.join(OUTPUTS)}")
        if len(self.mean) != len(self.std):
            raise ValueError(f"need as many std as mean, got {len(self.std)} and {len(self.mean)}")
        _ = self.normalization  # refuses what it cannot mean

    @classmethod
    def read(cls, path: Path) -> Sidecar:
        """Read the file, or return the defaults where there is none.

        Raises:
            InputError: no JSON object, an unknown key or a value that cannot be meant.
        """
        if not path.is_file():
            return cls()
        try:
            values = plain_json(read_regular(path, _SIDECAR_BYTES))
            known = [entry.name for entry in fields(cls)]
            for key in values if isinstance(values, dict) else ():
                if key not in known:
                    raise InputError(f"{path}: unknown key {key[:80]!r}{did_you_mean(key[:80], known)}")
            return from_plain(values, cls)
        except (Unfit, OSError) as error:
            raise InputError(f"{path} does not say what a program needs ({error}): see docs/networks.md") from error

    @property
    def normalization(self) -> Normalization:
        return Normalization(self.low_percentile, self.high_percentile, self.per_channel, self.signed, self.intensities)


class ProgramNetwork(nn.Module):
    """A program as our networks are: float windows (N, C, H, W) to one logit a class, (N, K, h, w)."""

    mean: Tensor
    std: Tensor

    def __init__(self, program: nn.Module, sidecar: Sidecar, one_at_a_time: bool) -> None:
        super().__init__()
        self.program = program
        self.sidecar = sidecar
        self.one_at_a_time = one_at_a_time
        self.register_buffer("mean", torch.tensor(sidecar.mean or (0.0,))[:, None, None])
        self.register_buffer("std", torch.tensor(sidecar.std or (1.0,))[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        if self.one_at_a_time and len(x) > 1:
            return torch.cat([self.forward(x[i : i + 1]) for i in range(len(x))])
        result = self.program((x - self.mean) / self.std)
        while not isinstance(result, Tensor):  # side outputs stand after the main one
            result = next(iter(result.values())) if isinstance(result, dict) else result[0]
        if self.sidecar.output == "probabilities":
            p = result.clamp(1e-7, 1 - 1e-7)
            result = torch.logit(p) if p.shape[1] == 1 else p.log()
        return class_logits(result)


def load_model(path: Path, *, trust: bool = False) -> Checkpoint:
    """Read a checkpoint or a program, told apart by their content.

    Args:
        trust: a program may be read although that can run code in it.

    Raises:
        InputError: as `load_checkpoint` and `load_program`.
    """
    return load_program(path, trust=trust) if _is_program(path) else load_checkpoint(path)


def load_program(path: Path, *, trust: bool) -> Checkpoint:
    """Read a program, measure its geometry and whether its tiles agree.

    Raises:
        InputError: not trusted, damaged, or no fully convolutional network of one image.
    """
    if not trust:
        raise InputError(
            f"{path} is a torch.export program, and reading one can run code that is hidden in it (torch unpickles "
            "parts of it): if you know who made it, give --trust; else ask for a safetensors checkpoint"
        )
    beside = path.with_suffix(".json")
    sidecar = Sidecar.read(beside)
    channels, one_at_a_time, program = _read(path)
    network = ProgramNetwork(program, sidecar, one_at_a_time)
    if len(sidecar.mean) not in (0, 1, channels):
        raise InputError(f"{beside} has {len(sidecar.mean)} mean values, the program takes {channels} channels")
    measured, difference = _measure(network, channels, path)
    geometry = measured.geometry
    edge = geometry.input_edge(geometry.smallest_output_edge(1))
    with torch.inference_mode():
        classes = network(torch.zeros(1, channels, edge, edge)).shape[1] - sidecar.depth
    names = sidecar.classes or ("background", *(f"class {k}" for k in range(1, classes)))
    if len(names) != classes:
        raise InputError(f"{beside} names {len(names)} classes, the program tells {classes} apart")
    digest = hashlib.sha256(path.read_bytes())
    digest.update(beside.read_bytes() if beside.is_file() else b"")
    return Checkpoint(
        network=NETWORK,
        config={"in_channels": channels, "classes": classes + sidecar.depth},
        geometry=geometry,
        normalization=sidecar.normalization,
        classes=tuple(ClassInfo(*pair) for pair in zip(names, distinct_colours(classes), strict=True)),
        parameters={name: tensor for name, tensor in network.program.state_dict().items()},
        depth=sidecar.depth,
        grey_to_rgb=sidecar.grey_to_rgb,
        pixel_size_um=sidecar.pixel_size_um,
        card=sidecar.card or {},
        difference=difference,
        module=network,
        measured_field=measured.receptive_field,
        sha256=digest.hexdigest(),
    )


def _read(path: Path) -> tuple[int, bool, nn.Module]:
    """Return the image's channels, whether windows come one at a time, and the graph as a module."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # torch logs tracebacks of what is refused here in a line
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
            inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
            shape = inputs[0].meta["val"].shape
            module: nn.Module = program.module()
    except Exception as error:  # whatever a damaged archive sets off
        raise InputError(
            f"{path} cannot be read as a torch.export program ({type(error).__name__}: {error})"
        ) from error
    finally:
        logging.disable(before)
    if len(inputs) != 1 or len(shape) != 4 or not isinstance(shape[1], int):
        raise InputError(
            f"{path} takes {len(inputs)} inputs, the first of shape {tuple(shape)}: need one, (N, C, H, W)"
        )
    if isinstance(shape[2], int) or isinstance(shape[3], int):
        raise InputError(
            f"{path} takes windows of {shape[2]} × {shape[3]} px alone: export it for any size, by {_EXPORT}"
        )
    return shape[1], isinstance(shape[0], int), module


def _measure(network: nn.Module, channels: int, path: Path) -> tuple[Measurement, float | None]:
    """Return what was measured, `exact` only if noise confirms it, and else the difference that was seen."""

    def forward(window: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            with torch.inference_mode():
                result: NDArray[np.float32] = network(torch.from_numpy(window)[None])[0].numpy()
        except AssertionError as error:  # the program's guards
            raise ValueError(str(error)) from error
        return result

    try:
        measured = measure_geometry(forward, channels, field=True)
    except ValueError as error:
        raise InputError(f"{path} is no network that can be tiled: {error}") from error
    geometry = measured.geometry
    if not geometry.exact:
        margin = geometry.margin + -(-_CONTEXT // geometry.stride) * geometry.stride
        base = (geometry.base - 2 * (margin - geometry.margin)) % geometry.stride
        geometry = Geometry(margin, geometry.stride, base, exact=False)
    difference = measure_difference(network, geometry, channels)
    if geometry.exact and difference <= _ROUNDING:
        return measured, None
    return Measurement(replace(geometry, exact=False), None), difference


def _is_program(path: Path) -> bool:
    """Whether the file is an archive with the entries of torch.export, of this or an earlier version.

    Raises:
        InputError: it is, and would unpack to far more than it holds.
    """
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # damaged: who reads checkpoints says so
        return False
    if not any(entry.filename.endswith(_ENTRIES) for entry in entries):
        return False
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if len(entries) > _MOST_ENTRIES or unpacked > _MOST_RATIO * size:
        raise InputError(
            f"{path} is an archive of {len(entries)} entries that unpack from {size} bytes to {unpacked}: no program"
            " that torch.export.save wrote does; export it again"
        )
    return True
