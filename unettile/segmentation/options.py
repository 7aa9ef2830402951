"""What a user chooses for a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unettile.errors import UsageError
from unettile.images.canvas import ZARR_VERSIONS
from unettile.images.normalize import Scaling
from unettile.images.planes import PlaneRange
from unettile.images.slide import ImageSource
from unettile.images.view import FIRST, View
from unettile.inference.kinds import NAMES, in_order
from unettile.objects.rules import ObjectRules
from unettile.segmentation.diameter import FRAMES, parse_diameter

if TYPE_CHECKING:
    from unettile.segmentation.sizing import Sizing

NODATA = ("outside", "keep")
SCALINGS = ("stack", "plane")


@dataclass(frozen=True)
class StackFacts:
    """What is measured once for all planes of a stack.

    Args:
        scaling: of intensities.
        sizing: at which size the network sees every plane; None for as it is.
    """

    scaling: Scaling
    sizing: Sizing | None


@dataclass(frozen=True)
class SegmentOptions:
    """What a user chooses for a run; device and precision belong to the `Predictor`.

    Args:
        write: names of kinds of output; brought into their order.
        output_edge: of a tile, px; None chooses by device.
        batch: windows at once; None chooses by device and memory.
        view: which image of the file, at which resolution, and which of its channels the model sees.
        mask: an image of any resolution; only where it is not 0 is the image segmented.
        skip_background: only what is not background is segmented.
        objects: how instances are made; None for as the model has it.
        diameter: of the objects: `auto` estimates it, `off` leaves the image as it is; else px, or µm as in `90um`.
        pixel_size_um: edge of the image's pixels, where the image does not state it or is wrong; None for what it says.
        frame: whose pixels the mask has where the network sees the image at another size: `image` or `model`.
        nodata: what is made of pixels that hold no data, as the image declares: `outside`, they are no part of it, or
            `keep`, they are intensities as any others.
        times, depths: of a stack, all or some of its planes; None for the one that `view` chooses.
        scaling: from what intensities and the size of objects are measured: each `plane` alone, or the whole `stack`;
            None takes the plane where one is chosen, and the stack where several are.
        stack: what was measured of the whole stack; found when it is needed.
        zarr: the version of OME-Zarr that is written, 0.5 or 0.4; it changes no pixel.
        force: segment what unettile wrote, too: a mask, which is rarely meant.

    Raises:
        UsageError: a value that cannot be meant.
    """

    write: tuple[str, ...] = ("classes",)
    output_edge: int | None = None
    batch: int | None = None
    view: View = FIRST
    mask: ImageSource | None = None
    skip_background: bool = False
    objects: ObjectRules | None = None
    force: bool = False
    diameter: str = "auto"
    pixel_size_um: float | None = None
    frame: str = "image"
    nodata: str = "outside"
    times: PlaneRange | None = None
    depths: PlaneRange | None = None
    scaling: str | None = None
    stack: StackFacts | None = None
    zarr: str = ZARR_VERSIONS[0]

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.write if kind not in NAMES]
        if unknown or not self.write:
            raise UsageError(f"--write {' '.join(unknown)!r} is not known: need one of {', '.join(NAMES)}")
        object.__setattr__(self, "write", in_order(self.write))
        if self.objects is not None and "instances" not in self.write:
            raise UsageError("how objects are made changes nothing here: give --write instances, too")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"--batch {self.batch} is too small: need at least 1")
        if self.mask is not None and self.skip_background:
            raise UsageError("--mask and --skip-background exclude each other: give the one that you mean")
        parse_diameter(self.diameter)
        if self.frame not in FRAMES:
            raise UsageError(f"--frame {self.frame!r} is not known: need {' or '.join(FRAMES)}")
        if self.scaling not in (None, *SCALINGS):
            raise UsageError(f"--scaling {self.scaling!r} is not known: need {' or '.join(SCALINGS)}")
        if self.nodata not in NODATA:
            raise UsageError(f"--nodata {self.nodata!r} is not known: need {' or '.join(NODATA)}")
        if self.zarr not in ZARR_VERSIONS:
            raise UsageError(f"--format-version {self.zarr!r} is not written: need {' or '.join(ZARR_VERSIONS)}")
        if self.pixel_size_um is not None and not 0 < self.pixel_size_um < 1e6:
            raise UsageError(f"--pixel-size {self.pixel_size_um:g} cannot be: need µm, above 0")

    @property
    def fills(self) -> bool:
        """Whether pixels that hold no data are outside."""
        return self.nodata == "outside"
