"""Checkpoint: all that `segment` needs to know about a model, in one safetensors file.

The tensors are the parameters; the file's metadata holds one JSON object, under the key `unettile`, with the network's
name and config, geometry, normalisation, classes, recipe and card. Loading one from a stranger runs no code.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from msgspec import UNSET
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from unettile.atomic import atomic_group
from unettile.errors import InputError
from unettile.geometry import Geometry
from unettile.header import ClassInfo, Header
from unettile.identity import ModelIdentity
from unettile.images.normalize import Normalization
from unettile.networks import build_network, config_values, find_network, parse_config
from unettile.networks.difference import measure_difference
from unettile.networks.folding import fold_batch_norm
from unettile.networks.margin import receptive_field_of
from unettile.objects.rules import ObjectRules
from unettile.objectsize import ObjectSize
from unettile.regular import open_regular
from unettile.typed import Unfit

__all__ = ["Checkpoint", "ClassInfo", "load_checkpoint", "save_checkpoint"]

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


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
        members: models whose probabilities are averaged, in this order (`unettile.ensemble`); none for one model.
        tta: flips, where windows are turned over in all four ways and averaged, else empty.
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
    members: tuple[Checkpoint, ...] = ()
    tta: str = ""

    @property
    def in_channels(self) -> int:
        return int(self.config["in_channels"])

    @property
    def receptive_field(self) -> int | None:
        """The edge, px, of the largest square of the image on which one pixel of the mask depends; None if unknown."""
        if self.module is not None:
            return self.measured_field
        config = parse_config(self.network, self.config)
        return receptive_field_of(find_network(self.network).build, config)

    @property
    def header(self) -> Header:
        """All of it but its parameters."""
        return Header(
            network=self.network,
            config=self.config,
            geometry=self.geometry,
            normalization=self.normalization,
            classes=self.classes,
            depth=self.depth,
            grey_to_rgb=self.grey_to_rgb,
            pixel_size_um=self.pixel_size_um,
            recipe=self.recipe,
            card=self.card,
            objects=self.objects.to_dict(),
            objects_px=self.objects_px,
            difference=self.difference,
        )

    @property
    def identity(self) -> ModelIdentity:
        """What a mask says of the model that made it."""
        return ModelIdentity(
            self.network,
            self.sha256,
            UNSET if self.geometry.exact else self.difference,
            tuple(member.sha256 for member in self.members) if self.members else UNSET,
            self.tta or UNSET,
        )

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


def save_checkpoint(checkpoint: Checkpoint, path: Path, *, overwrite: bool = True) -> Checkpoint:
    """Write a checkpoint under a temporary name, then move it to `path`; return it with its hash.

    Where tiles may disagree, by how much is measured first.

    Args:
        overwrite: replace what is there; without it, only the same checkpoint may be there.

    Raises:
        InputError: `path` cannot be written, or is another.
    """
    if not checkpoint.geometry.exact and checkpoint.difference is None:
        difference = measure_difference(checkpoint.build(), checkpoint.geometry, checkpoint.in_channels)
        checkpoint = replace(checkpoint, difference=difference)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.parameters.items()}
    data = to_safetensors(tensors, metadata={"unettile": checkpoint.header.to_json()})
    with atomic_group([path], overwrite=overwrite) as temporary:
        temporary[path].write_bytes(data)
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
            if "unettile" not in metadata:
                raise InputError(
                    f"{path} is a safetensors file that unettile did not write: its metadata has no 'unettile'"
                )
            header = _header(metadata["unettile"], path)
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            _check_shapes(header, {name: (tuple(p.get_shape()), p.get_dtype()) for name, p in parts.items()}, path)
            parameters = {name: file.get_tensor(name) for name in parts}
        with open_regular(path) as data:
            sha256 = hashlib.file_digest(data, "sha256").hexdigest()
    except (SafetensorError, OSError, ValueError) as error:
        what = "it looks like a pickle, which may run code when read" if _is_pickle(path) else f"{error}"
        raise InputError(f"{path} is not a safetensors checkpoint ({what}): need one that unettile wrote") from error
    _check_values(parameters, path)
    return Checkpoint(
        network=header.network,
        config=header.config,
        geometry=header.geometry,
        normalization=header.normalization,
        classes=header.classes,
        parameters=parameters,
        depth=header.depth,
        grey_to_rgb=header.grey_to_rgb,
        pixel_size_um=header.pixel_size_um,
        recipe=header.recipe,
        card=header.card,
        objects=header.rules,
        objects_px=header.objects_px,
        difference=header.difference,
        sha256=sha256,
    )


def _header(text: str, path: Path) -> Header:
    try:
        return Header.from_json(text)
    except Unfit as error:
        raise InputError(f"{path} has damaged metadata ({error}): take a fresh copy") from error


def _check_shapes(header: Header, found: dict[str, tuple[tuple[int, ...], str]], path: Path) -> None:
    """Refuse parameters, classes or a geometry that the named network would not have; nothing is read for it.

    Args:
        found: shapes and types of the parameters in the file, by name.
    """
    config = parse_config(header.network, header.config)
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        expected = build_network(header.network, header.config).state_dict()
    names = sorted(expected.keys() ^ found.keys())
    if names:
        raise InputError(f"{path} does not fit its network {header.network!r}: {names[0][:80]!r} is missing or unknown")
    for name, (shape, dtype) in found.items():
        need = expected[name]
        if shape != tuple(need.shape):
            raise InputError(f"{path} does not fit its network: {name} has shape {shape}, need {tuple(need.shape)}")
        if _DTYPES.get(dtype) != need.dtype:
            raise InputError(f"{path} does not fit its network: {name} is of type {dtype}, need {need.dtype}")
    if len(header.classes) + header.depth != config.classes:
        raise InputError(f"{path} names {len(header.classes)} classes for a network of {config.classes - header.depth}")
    if header.geometry != config.geometry:
        raise InputError(f"{path} declares {header.geometry}, but its network has {config.geometry}")


def _check_values(parameters: dict[str, Tensor], path: Path) -> None:
    """Refuse parameters that no training gives."""
    for name, tensor in parameters.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"{path} holds values that are not finite in {name}: train again, or take a fresh copy")
        if name.endswith(".running_var") and (tensor < 0).any():
            raise InputError(f"{path} holds variances below 0 in {name}: train again, or take a fresh copy")


def _is_pickle(path: Path) -> bool:
    """Whether the file starts like a pickle, or like the zip archive that torch.save writes."""
    with open_regular(path) as file:
        start = file.read(4)
    return start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or start == b"PK\x03\x04"
