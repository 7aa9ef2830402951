"""Checkpoint: all that `segment` needs to know about a model, in one safetensors file.

The tensors are the parameters; the file's metadata holds one JSON object, under the key `unettile`, with the network's
name and config, geometry, normalisation, classes, recipe and card. Loading one from a stranger runs no code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from unettile.atomic import atomic_path
from unettile.errors import InputError, UsageError
from unettile.geometry import Geometry
from unettile.images.normalize import Normalization
from unettile.networks import build_network, config_values, find_network, parse_config
from unettile.networks.difference import measure_difference
from unettile.networks.folding import fold_batch_norm
from unettile.networks.margin import graph_of
from unettile.objects.rules import ObjectRules
from unettile.objectsize import ObjectSize

FORMAT = 1


@dataclass(frozen=True)
class ClassInfo:
    """A class of the model: its name and its colour in a mask, (r, g, b) in 0 … 255."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Checkpoint:
    """A model.

    Args:
        network: name in the registry `unettile.networks.NETWORKS`.
        config: the network's config as plain values.
        normalization: how an image is scaled before the network sees it.
        classes: one entry for each channel of the logits; the first is the background.
        depth: the network has one more output, the last: a logit whose sigmoid is how far inside its object a pixel
            lies, from 0 at the object's edge, and on background, to 1 in its middle.
        parameters: the network's state, by name; batch norm is not folded, so that training can go on from it.
        geometry: as the network declares it.
        grey_to_rgb: an image of one channel is fed to a network of three by repetition.
        pixel_size_um: µm, of the images that it was trained on; None if unknown.
        recipe: the whole recipe that made it.
        card: what people should know: data, licence, scores, limits.
        objects: how objects are made of what it says, unless a user wants otherwise.
        objects_px: how large objects are that it knows, px of what the network sees; None if unknown.
        difference: the largest change of a probability between windows of two sizes, where the geometry is not
            exact; measured when the checkpoint is saved, None before.
        module: the network of a model from elsewhere, in eval mode; None builds it from the registry.
        measured_field: px, the receptive field of such a module, measured; None if it was not found.
        sha256: of the file it was loaded from; empty before it is saved.
    """

    network: str
    config: dict[str, Any]
    geometry: Geometry
    normalization: Normalization
    classes: tuple[ClassInfo, ...]
    parameters: dict[str, Tensor]
    depth: bool = False
    grey_to_rgb: bool = False
    pixel_size_um: float | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    objects: ObjectRules = field(default_factory=ObjectRules)
    objects_px: ObjectSize | None = None
    difference: float | None = None
    module: nn.Module | None = None
    measured_field: int | None = None
    sha256: str = ""

    @property
    def in_channels(self) -> int:
        return int(self.config["in_channels"])

    @property
    def receptive_field(self) -> int | None:
        """The edge, px, of the largest square of the image on which one pixel of the mask depends; None if unknown."""
        if self.module is not None:
            return self.measured_field
        config = parse_config(self.network, self.config)
        return graph_of(find_network(self.network).build, config).receptive_field(config.stride)

    @property
    def identity(self) -> dict[str, Any]:
        """What a mask says of the model that made it."""
        identity: dict[str, Any] = {"network": self.network, "sha256": self.sha256}
        return identity if self.geometry.exact else identity | {"largest_difference": self.difference}

    def build(self) -> nn.Module:
        """Return the network for inference: parameters loaded, eval mode, batch norm folded."""
        if self.module is not None:
            return self.module
        with torch.device("meta"):  # nothing is drawn that would be replaced
            network = build_network(self.network, self.config)
        network.load_state_dict(self.parameters, assign=True)
        return fold_batch_norm(network.eval())

    def build_shapes(self) -> nn.Module:
        """Return the network for inference with parameters that have shapes alone, for counting what it costs."""
        if self.module is not None:
            return self.module
        with torch.device("meta"):
            return build_network(self.network, self.config).eval()

    def with_config(self, changes: dict[str, Any]) -> Checkpoint:
        """Return the model with its network's config changed, where its parameters hold all that then remains.

        So a U-Net++ is pruned: `model.with_config({"prune": 2})`.

        Raises:
            InputError: an unknown key or value, or a network that needs parameters which the model does not have.
        """
        if self.module is not None:
            raise InputError("a program has no config to change: export the network as it should be")
        config = parse_config(self.network, self.config | changes)
        values = config_values(config)
        with torch.device("meta"):
            needed = build_network(self.network, values).state_dict()
        for name, tensor in needed.items():
            if name not in self.parameters or self.parameters[name].shape != tensor.shape:
                what = ", ".join(f"{key} = {value}" for key, value in changes.items())
                raise InputError(f"{what} needs parameters that the model does not have ({name}): train it with --set")
        parameters = {name: self.parameters[name] for name in needed}
        geometry = config.geometry
        return replace(self, config=values, geometry=geometry, parameters=parameters, difference=None, sha256="")


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """Write a checkpoint under a temporary name, then move it to `path`; return it with its hash.

    Where tiles may disagree, by how much is measured first.

    Raises:
        InputError: `path` cannot be written.
    """
    if not checkpoint.geometry.exact and checkpoint.difference is None:
        difference = measure_difference(checkpoint.build(), checkpoint.geometry, checkpoint.in_channels)
        checkpoint = replace(checkpoint, difference=difference)
    header = {
        "format": FORMAT,
        "network": checkpoint.network,
        "config": checkpoint.config,
        "geometry": checkpoint.geometry.to_dict(),
        "normalization": checkpoint.normalization.to_dict(),
        "classes": [{"name": info.name, "color": list(info.color)} for info in checkpoint.classes],
        "depth": checkpoint.depth,
        "grey_to_rgb": checkpoint.grey_to_rgb,
        "pixel_size_um": checkpoint.pixel_size_um,
        "recipe": checkpoint.recipe,
        "card": checkpoint.card,
        "objects": checkpoint.objects.to_dict(),
        "objects_px": checkpoint.objects_px.to_dict() if checkpoint.objects_px else None,
        "difference": checkpoint.difference,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.parameters.items()}
    data = to_safetensors(tensors, metadata={"unettile": json.dumps(header, sort_keys=True)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return replace(checkpoint, sha256=hashlib.sha256(data).hexdigest())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and validate a checkpoint; no code in it is run.

    Raises:
        InputError: no such file, not a safetensors file (a pickle, say), not made by unettile, of a newer format, or
            with parameters that do not fit its network.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}: need a .safetensors file that `unettile train` wrote")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            parameters = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        what = "it looks like a pickle, which may run code when read" if _is_pickle(path) else f"{error}"
        raise InputError(f"{path} is not a safetensors checkpoint ({what}): need one that unettile wrote") from error
    if "unettile" not in metadata:
        raise InputError(f"{path} is a safetensors file that unettile did not write: its metadata has no 'unettile'")
    checkpoint = _parse(metadata["unettile"], parameters, path)
    _check_fit(checkpoint, path)
    with path.open("rb") as data:
        return replace(checkpoint, sha256=hashlib.file_digest(data, "sha256").hexdigest())


def _parse(text: str, parameters: dict[str, Tensor], path: Path) -> Checkpoint:
    try:
        header = json.loads(text)
        if header["format"] != FORMAT:
            raise InputError(f"{path} has format {header['format']}, need {FORMAT}: a newer unettile may read it")
        return Checkpoint(
            network=str(header["network"]),
            config=dict(header["config"]),
            geometry=Geometry.from_dict(header["geometry"]),
            normalization=Normalization.from_dict(header["normalization"]),
            classes=tuple(_class_info(values) for values in header["classes"]),
            parameters=parameters,
            depth=bool(header.get("depth", False)),
            grey_to_rgb=bool(header["grey_to_rgb"]),
            pixel_size_um=header["pixel_size_um"],
            recipe=dict(header["recipe"]),
            card=dict(header["card"]),
            objects=ObjectRules.from_dict(header.get("objects", {})),
            objects_px=ObjectSize.from_dict(header["objects_px"]) if header.get("objects_px") else None,
            difference=header.get("difference"),
        )
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise InputError(f"{path} has damaged metadata ({type(error).__name__}: {error}): take a fresh copy") from error


def _class_info(values: dict[str, Any]) -> ClassInfo:
    red, green, blue = (int(value) for value in values["color"])
    return ClassInfo(str(values["name"]), (red, green, blue))


def _check_fit(checkpoint: Checkpoint, path: Path) -> None:
    """Refuse parameters, classes or a geometry that the named network would not have."""
    config = parse_config(checkpoint.network, checkpoint.config)
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        expected = build_network(checkpoint.network, checkpoint.config).state_dict()
    names = sorted(expected.keys() ^ checkpoint.parameters.keys())
    if names:
        raise InputError(f"{path} does not fit its network {checkpoint.network!r}: {names[0]} is missing or unknown")
    for name, tensor in checkpoint.parameters.items():
        if tensor.shape != expected[name].shape:
            got, need = tuple(tensor.shape), tuple(expected[name].shape)
            raise InputError(f"{path} does not fit its network: {name} has shape {got}, need {need}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"{path} holds values that are not finite in {name}: train again, or take a fresh copy")
    if len(checkpoint.classes) + checkpoint.depth != config.classes:
        raise InputError(
            f"{path} names {len(checkpoint.classes)} classes for a network of {config.classes - checkpoint.depth}"
        )
    if checkpoint.geometry != config.geometry:
        raise InputError(f"{path} declares {checkpoint.geometry}, but its network has {config.geometry}")


def _is_pickle(path: Path) -> bool:
    """Whether the file starts like a pickle, or like the zip archive that torch.save writes."""
    with path.open("rb") as file:
        start = file.read(4)
    return start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or start == b"PK\x03\x04"
