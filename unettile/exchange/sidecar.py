"""Sidecar: what a program does not say of itself, in `net.json` beside `net.pt2`, or inside a file of ours."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from unettile.errors import InputError
from unettile.geometry import Geometry
from unettile.header import Header
from unettile.images.normalize import Normalization
from unettile.networks.config import did_you_mean
from unettile.objects.rules import ObjectRules
from unettile.objectsize import ObjectSize
from unettile.regular import read_regular
from unettile.typed import Byte, Finite, Name, Positive, Unfit, from_plain, plain_json

OUTPUTS = ("logits", "probabilities")
INSIDE = "unettile"
"""Under which name a file of ours holds its header, as JSON."""

_MOST_BYTES = 2**20
_WIDEST, _STRIDES = 4096, 1024  # px: of a margin and of a stride that are believed


@dataclass(frozen=True)
class Sidecar:
    """What is known of a program besides its arithmetic; every key is optional.

    Args:
        classes: names, background first.
        colours: of the classes, (r, g, b) each.
        depth: a further output, the last, is the depth of a pixel in its object.
        output: what the program puts out: logits, or probabilities (after a softmax or a sigmoid).
        low_percentile, high_percentile, per_channel: intensities of an image that become 0 and 1.
        intensities: two numbers that become 0 and 1 instead, whatever the image holds, such as 0 and 255.
        signed: the low intensity becomes -1 instead of 0.
        mean, std: per channel, subtracted and divided by after that scaling.
        channels: of the windows, where the program does not say.
        grey_to_rgb: an image of one channel is repeated for a program of three.
        pixel_size_um: of the images that it was trained on.
        objects: how objects are made, as `--set` has it.
        objects_px: how large objects are that it knows: median, low, high.
        geometry: margin, stride, base and exact, checked instead of measured.
        receptive_field: px, with the geometry.
        card: what people should know: data, licence, scores.

    Raises:
        ValueError: a value out of its range.
    """

    classes: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(max_length=256)] = ()
    colours: Annotated[tuple[tuple[Byte, Byte, Byte], ...], Meta(max_length=256)] = ()
    depth: bool = False
    output: Name = "logits"
    low_percentile: float = 1.0
    high_percentile: float = 99.8
    per_channel: bool = False
    signed: bool = False
    intensities: tuple[Finite, ...] = ()
    mean: Annotated[tuple[Finite, ...], Meta(max_length=1024)] = ()
    std: Annotated[tuple[Positive, ...], Meta(max_length=1024)] = ()
    channels: Annotated[int, Meta(ge=1, le=1024)] | None = None
    grey_to_rgb: bool = False
    pixel_size_um: Positive | None = None
    objects: dict[str, Any] = field(default_factory=dict)
    objects_px: ObjectSize | None = None
    geometry: Geometry | None = None
    receptive_field: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    card: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ValueError(f"output = {self.output!r} is not known: need one of {', '.join(OUTPUTS)}")
        if len(self.mean) != len(self.std):
            raise ValueError(f"need as many std as mean, got {len(self.std)} and {len(self.mean)}")
        if self.colours and len(self.colours) != len(self.classes):
            raise ValueError(f"need as many colours as classes, got {len(self.colours)} and {len(self.classes)}")
        law = self.geometry
        if law is not None and (law.margin > _WIDEST or law.stride > _STRIDES):
            raise ValueError(f"need a margin up to {_WIDEST} px and a stride up to {_STRIDES}, got {law}")
        _ = self.normalization, self.rules  # refuse what they cannot mean

    @classmethod
    def read(cls, path: Path, inside: str | None = None) -> Sidecar:
        """Read what is known of a program: what stands beside it comes before what its own file says.

        Args:
            path: of the file beside it; it need not be there.
            inside: the header that a file of ours holds.

        Raises:
            InputError: no JSON object, an unknown key or a value that cannot be meant.
        """
        try:
            own = {} if inside is None else plain_header(inside)
        except Unfit as error:
            program = path.with_suffix("")
            raise InputError(f"{program}: what it says of itself is damaged ({error}): take a fresh copy") from error
        try:
            values = plain_json(read_regular(path, _MOST_BYTES)) if path.is_file() else {}
            known = [entry.name for entry in fields(cls)]
            for key in values if isinstance(values, dict) else ():
                if key not in known:
                    raise InputError(f"{path}: unknown key {key[:80]!r}{did_you_mean(key[:80], known)}")
            return from_plain({**own, **values} if isinstance(values, dict) else values, cls)
        except (Unfit, OSError) as error:
            raise InputError(f"{path} does not say what a program needs ({error}): see docs/networks.md") from error

    @property
    def normalization(self) -> Normalization:
        return Normalization(self.low_percentile, self.high_percentile, self.per_channel, self.signed, self.intensities)

    @property
    def rules(self) -> ObjectRules:
        """How objects are made."""
        return ObjectRules.from_dict(self.objects)


def plain_header(text: str) -> dict[str, Any]:
    """Return the header of a checkpoint, as an exported file holds it, in the keys of a `Sidecar`.

    Raises:
        Unfit: damaged, or of another format.
    """
    if len(text) > _MOST_BYTES:
        raise Unfit(f"it has more than {_MOST_BYTES} bytes")
    header = Header.from_json(text)
    values = plain_json(text)
    size = header.objects_px
    return {
        "classes": [info.name for info in header.classes],
        "colours": [list(info.color) for info in header.classes],
        "depth": header.depth,
        **header.normalization.to_dict(),
        "grey_to_rgb": header.grey_to_rgb,
        "pixel_size_um": header.pixel_size_um,
        "objects": header.objects,
        "objects_px": None if size is None else size.to_dict(),
        "geometry": header.geometry.to_dict(),
        "receptive_field": values.get("receptive_field"),
        "card": header.card,
    }
