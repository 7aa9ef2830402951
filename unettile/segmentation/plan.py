"""Plan: all that decides a pixel of a run, frozen before the first block."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from unettile import __version__
from unettile.geometry import Geometry
from unettile.identity import ModelIdentity
from unettile.images.fingerprint import Fingerprint
from unettile.images.georeference import Georeference
from unettile.images.normalize import Scaling
from unettile.images.view import FIRST, View
from unettile.inference.engine import Task
from unettile.inference.kinds import NAMES, count_planes, planes_with
from unettile.objects.rules import ObjectRules
from unettile.segmentation.restriction import Restriction
from unettile.segmentation.sizing import Sizing
from unettile.tiling import MOST_PIXELS, MOST_SHARDS, BlockGrid, TileGrid
from unettile.typed import Byte, Finite, Name, Positive, Shape, Unfit, from_plain, plain_json

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

MOST_BLOCKS = 2**22
"""Of an image: a million pixels a side have 106,000 of the usual size."""


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

    image: Fingerprint
    shape: Shape
    model: ModelIdentity
    geometry: Geometry
    output_edge: Annotated[int, Meta(ge=1, le=2**15)]
    block_edge: Annotated[int, Meta(ge=1, le=2**16)]
    precision: Annotated[str, Meta(pattern="^(fp32|tf32|bf16|fp16)$")]
    device: Annotated[str, Meta(pattern="^(cpu|cuda)$")]
    scaling: Scaling
    write: tuple[Name, ...]
    stored: tuple[Name, ...]
    class_names: Annotated[tuple[Name, ...], Meta(min_length=2, max_length=256)]
    palette: tuple[tuple[Byte, Byte, Byte], ...]
    shards: Annotated[int, Meta(ge=1, le=MOST_SHARDS)] = 1
    pixel_size_um: tuple[Positive, Positive] | None = None
    view: View = FIRST
    downsample: tuple[Positive, Positive] = (1.0, 1.0)
    origin_um: tuple[Finite, Finite] | None = None
    within: Restriction | None = None
    objects: ObjectRules | None = None
    sizing: Sizing | None = None
    image_shape: Shape | None = None
    georeference: Georeference | None = None
    scaling_of: Annotated[str, Meta(pattern="^(plane|stack)$")] = "plane"
    unettile: Name = __version__

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
        return Task(self.tiles, self.blocks, self.stored, self.scaling, np.dtype(self.image.dtype))

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
        return json.dumps(self._to_dict(), indent=1, sort_keys=True, allow_nan=False) + "\n"

    def _to_dict(self) -> dict[str, Any]:
        own: dict[str, Any] = {
            "image": self.image.to_dict(),
            "model": self.model.to_dict(),
            "within": None if self.within is None else self.within.to_dict(),
        }
        return {"format": FORMAT, **asdict(self), **own}

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Read a plan.

        Raises:
            Unfit: damaged, of another format, or with values that no plan has.
        """
        values = plain_json(text)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise Unfit("its format is that of another version of unettile")
        plan = from_plain(values, cls)
        plan._check()
        if json.loads(plan.to_json()) != values:  # a key that is not known, or a rule that this version does not have
            raise Unfit("it holds what this version of unettile does not know")
        return plan

    def _check(self) -> None:
        """Refuse figures that do not go together.

        Raises:
            Unfit: says which.
        """
        if not self.geometry.is_legal(self.output_edge) or self.block_edge % self.tiles.write_edge:
            raise Unfit(f"output_edge = {self.output_edge} and block_edge = {self.block_edge} do not fit its geometry")
        if len(self.blocks) > MOST_BLOCKS:
            raise Unfit(f"shape has {len(self.blocks)} blocks, need at most {MOST_BLOCKS}")
        for key, (height, width) in (("shape", self.shape), ("image_shape", self.image_shape or self.shape)):
            if height * width > (MOST_PIXELS if key == "image_shape" or self.sizing is None else 64 * MOST_PIXELS):
                raise Unfit(f"{key} = {height} × {width} px, need at most {MOST_PIXELS / 1e9:.0f} Gpx")
        for key, kinds in (("write", self.write), ("stored", self.stored)):
            if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= set(NAMES):
                raise Unfit(f"{key} = {list(kinds)}, need some of {', '.join(NAMES)}")
        if len(self.palette) != len(self.class_names):
            raise Unfit(f"palette has {len(self.palette)} colours for {len(self.class_names)} classes")
        if self.sizing is None and self.image_shape is not None:
            raise Unfit("image_shape needs a sizing")

    def metadata(self) -> dict[str, Any]:
        """Return what the output says of itself: all that decides a pixel, and nothing that does not."""
        found = {
            "unettile": self.unettile,
            "image": self.image.to_dict(),
            "view": self.view.to_dict(),
            "downsample": list(self.downsample),
            "model": self.model.to_dict(),
            "geometry": self.geometry.to_dict(),
            "tile": self.output_edge,
            "precision": self.precision,
            "device": self.device,
            "scaling": self.scaling.to_dict(),
            "within": None if self.within is None else self.within.to_dict(),
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
