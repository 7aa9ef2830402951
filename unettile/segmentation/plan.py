"""Plan: all that decides a pixel of a run, frozen before the first block."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from unettile import __version__
from unettile.checkpoint import Checkpoint
from unettile.errors import InputError
from unettile.geometry import Geometry
from unettile.images.georeference import Georeference
from unettile.images.normalize import Scaling
from unettile.images.view import FIRST, View
from unettile.inference.engine import Task
from unettile.inference.kinds import count_planes, planes_with
from unettile.objects.rules import ObjectRules
from unettile.segmentation.sizing import Sizing, sizing_advice
from unettile.tiling import BlockGrid, TileGrid
from unettile.wording import counted

FORMAT = 3
MEANINGS = {
    "image": "the image",
    "scaling": "the image's intensity scaling",
    "scaling_of": "--scaling",
    "model": "--model",
    "write": "--write",
    "objects": "how objects are made (--set)",
    "output_edge": "--tile",
    "precision": "--precision",
    "device": "--device",
    "within": "--mask, --skip-background or --nodata",
    "georeference": "the map's place on earth",
    "sizing": "--diameter, or --frame",
    "shards": "the number of shards",
    "unettile": "unettile's version",
}

UNLIKE = 1.5
"""Pixels larger or smaller than the model's by this factor are worth a word."""


@dataclass(frozen=True)
class Plan:
    """What every process of a run must agree on.

    Args:
        image: fingerprint of the image (see `unettile.images.slide.fingerprint`).
        shape: of what the network sees, px: of the image, or of the image at another size.
        model: network's name and the checkpoint's SHA-256.
        geometry, output_edge: of the tiles.
        block_edge: of the blocks, px.
        precision: fp32, tf32, bf16 or fp16.
        device: cpu or cuda: kinds of processor round differently.
        scaling: measured once from the image.
        write: what the output holds: probabilities, depth, instances and classes, or some of them, in this order.
        stored: what the blocks hold: the same without instances, and with what those are made of.
        objects: how instances are made; None where none are.
        class_names, palette: of the model, background first.
        shards: how many parts the run is made in.
        pixel_size_um: (y, x) of the pixels that are segmented, or None.
        view: which image of the file, at which resolution, of which plane, and which of its channels.
        downsample: how many pixels of the image's largest resolution one that is segmented is, (y, x).
        origin_um: where the first pixel lies, (y, x), in the frame of the microscope's stage, or None.
        within: what is known of the mask, or of the background, if the work is restricted; None for everywhere.
        sizing: at which size the network sees the image, if that was asked; None for as it is.
        image_shape: of the image, px, where the network sees it at another size; None where it does not.
        georeference: where on earth the output's pixels lie; None where the image does not say.
        scaling_of: from what the scaling was measured, the plane or the stack.
        unettile: version.
    """

    image: dict[str, Any]
    shape: tuple[int, int]
    model: dict[str, Any]
    geometry: Geometry
    output_edge: int
    block_edge: int
    precision: str
    device: str
    scaling: Scaling
    write: tuple[str, ...]
    stored: tuple[str, ...]
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    shards: int = 1
    pixel_size_um: tuple[float, float] | None = None
    view: View = FIRST
    downsample: tuple[float, float] = (1.0, 1.0)
    origin_um: tuple[float, float] | None = None
    within: dict[str, Any] | None = None
    objects: ObjectRules | None = None
    sizing: Sizing | None = None
    image_shape: tuple[int, int] | None = None
    georeference: Georeference | None = None
    scaling_of: str = "plane"
    unettile: str = __version__

    @property
    def tiles(self) -> TileGrid:
        return TileGrid(self.shape, self.geometry, self.output_edge)

    @property
    def blocks(self) -> BlockGrid:
        return BlockGrid(self.shape, self.block_edge)

    @property
    def scale(self) -> float:
        """Network px for each px of the image."""
        return 1.0 if self.sizing is None else self.sizing.scale

    @property
    def is_brought_back(self) -> bool:
        """Whether the output has the image's pixels, and the blocks have others."""
        return self.image_shape is not None and self.sizing is not None and self.sizing.frame == "image"

    @property
    def output_shape(self) -> tuple[int, int]:
        """Of the output, px."""
        return self.image_shape if self.image_shape is not None and self.is_brought_back else self.shape

    @property
    def task(self) -> Task:
        """What an engine is to compute."""
        return Task(self.tiles, self.blocks, self.stored, self.scaling, np.dtype(self.image["dtype"]))

    @property
    def planes(self) -> int:
        """How many planes a block has."""
        return count_planes(self.stored, len(self.class_names))

    def planes_with(self, kind: str) -> slice:
        """Return where the planes of something that is stored lie among those of a block."""
        return planes_with(kind, self.stored, len(self.class_names))

    @property
    def id(self) -> str:
        """SHA-256 of the plan; markers of finished blocks carry it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan.

        Raises:
            ValueError, KeyError, TypeError: damaged, or of another format.
        """
        values = dict(json.loads(text))
        if values.pop("format") != FORMAT:
            raise ValueError("its format is that of another version of unettile")
        values["shape"] = tuple(values["shape"])
        values["geometry"] = Geometry.from_dict(values["geometry"])
        values["scaling"] = Scaling.from_dict(values["scaling"])
        values["write"] = tuple(values["write"])
        values["stored"] = tuple(values["stored"])
        if values["objects"] is not None:
            values["objects"] = ObjectRules.from_dict(values["objects"])
        values["class_names"] = tuple(values["class_names"])
        values["palette"] = tuple(tuple(color) for color in values["palette"])
        values["view"] = View.from_dict(values["view"])
        if values["sizing"] is not None:
            values["sizing"] = Sizing(**values["sizing"])
        if values["image_shape"] is not None:
            values["image_shape"] = tuple(values["image_shape"])
        if values["georeference"] is not None:
            values["georeference"] = Georeference.from_dict(values["georeference"])
        values["downsample"] = tuple(values["downsample"])
        for name in ("pixel_size_um", "origin_um"):
            if values[name] is not None:
                values[name] = tuple(values[name])
        return cls(**values)

    def metadata(self) -> dict[str, Any]:
        """Return what the output says of itself: all that decides a pixel, and nothing that does not."""
        found = {
            "unettile": self.unettile,
            "image": self.image,
            "view": self.view.to_dict(),
            "downsample": list(self.downsample),
            "model": self.model,
            "geometry": self.geometry.to_dict(),
            "tile": self.output_edge,
            "precision": self.precision,
            "device": self.device,
            "scaling": self.scaling.to_dict(),
            "within": self.within,
            "write": list(self.write),
            "classes": list(self.class_names),
        }
        if self.scaling_of != "plane":
            found["scaling_of"] = self.scaling_of
        if self.sizing is not None:
            found["sizing"] = self.sizing.to_dict()
        return found if self.objects is None else found | {"instances": self.objects.to_dict()}

    def differences(self, other: Plan) -> list[str]:
        """Name, in a user's words, what differs between this plan and an earlier one; empty if nothing does."""
        if self.view != other.view:
            return self.view.differences(other.view)  # scaling and shape follow from it
        found = []
        for entry in fields(self):
            now, before = getattr(self, entry.name), getattr(other, entry.name)
            if now != before and entry.name in MEANINGS:
                if entry.name == "write":
                    now, before = " and ".join(now), " and ".join(before)
                shown = isinstance(now, str | int) and isinstance(before, str | int)
                found.append(f"{MEANINGS[entry.name]} ({before} before, {now} now)" if shown else MEANINGS[entry.name])
        return found or (["its plan"] if self != other else [])


def check_channels(checkpoint: Checkpoint, channels: int, name: str, *, chosen: bool = False) -> None:
    """Refuse an image whose number of channels the model does not take.

    Args:
        chosen: the user chose these channels.

    Raises:
        InputError: names the option that resolves it.
    """
    need = checkpoint.in_channels
    if channels == need or (channels == 1 and need == 3 and checkpoint.grey_to_rgb):
        return
    takes = f"{need}, or 1 that it repeats" if checkpoint.grey_to_rgb and need == 3 else str(need)
    if channels > need or chosen:
        do = f"choose with --channel {','.join(str(number) for number in range(need))}"
    elif channels == 1:
        do = f"repeat it with --channel {','.join('0' * need)}, or use another --model"
    elif checkpoint.grey_to_rgb and need == 3:
        do = "choose one of them with --channel 0, which the model repeats, or use another --model"
    else:
        given = ",".join(str(min(number, channels - 1)) for number in range(need))
        do = f"say what it sees with --channel, one of them twice if need be, such as {given}, or use another --model"
    got = counted(channels, "channel")
    raise InputError(f"{name} has {got}{' chosen' if chosen else ''}, the model takes {takes}: {do}")


def advice(checkpoint: Checkpoint, plan: Plan, name: str) -> list[str]:
    """Return what to tell the user before the first block: of pixels that do not suit the model, and of the scale."""
    lines = [pixel_size_advice(checkpoint, plan, name), sizing_advice(plan.sizing, checkpoint.objects_px)]
    return [line for line in lines if line is not None]


def pixel_size_advice(checkpoint: Checkpoint, plan: Plan, name: str) -> str | None:
    """Return what to tell the user where pixels are much larger or smaller than those that the model was trained on.

    None if they are not, or if either size is not known. Nothing is resampled unless the user says so.
    """
    need, got = checkpoint.pixel_size_um, plan.pixel_size_um
    if plan.sizing is not None and plan.sizing.scale != 1:
        return None
    if need is None or got is None or all(1 / UNLIKE < size / need < UNLIKE for size in got):
        return None
    size = f"{got[0]:.3g}" if got[0] == got[1] else f"{got[0]:.3g} × {got[1]:.3g}"
    return (
        f"{name} has pixels of {size} µm, the model was trained at {need:.3g} µm:"
        f" it may see its objects too {'small' if max(got) > need else 'large'}; --mpp {need:g} brings them to its size"
    )
