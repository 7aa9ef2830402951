"""Model: a network with its parameters on a processor, ready to segment one image after another."""

from __future__ import annotations

import os
import tempfile
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from unettile.checkpoint import Checkpoint
from unettile.duration import seconds_of
from unettile.ensemble import load_models
from unettile.errors import UsageError
from unettile.face.advice import advise
from unettile.face.choices import Choices, OnProgress, PathLike
from unettile.face.image import Channel, Image, ImageLike, source_of, view_of
from unettile.images.planes import parse_planes
from unettile.images.view import OPTIONS, View
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import SegmentResult
from unettile.segmentation.stacks import segment


class Model:
    """A model on a processor; make one with `unettile.load`.

    Attributes:
        checkpoint: all that its file says: `card`, `classes`, `geometry`, `normalization`, `sha256`, ...
        device: cpu or cuda:N.
        precision: fp32, tf32, bf16 or fp16.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", precision: str = "auto") -> None:
        self.checkpoint = checkpoint
        self._predictor = Predictor(checkpoint, device, precision)
        self.device, self.precision = str(self._predictor.device), self._predictor.precision
        self._lock = Lock()  # the predictor keeps what it has prepared for the last image

    def __repr__(self) -> str:
        names = ", ".join(self.classes)
        return f"<unettile.Model {self.checkpoint.network} on {self.device} in {self.precision}: {names}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a pixel of the mask is an index into them, and the first is the background."""
        return tuple(info.name for info in self.checkpoint.classes)

    @overload
    def segment(
        self,
        image: ImageLike,
        output: None = None,
        *,
        write: str = "classes",
        **choices: Unpack[Choices],
    ) -> NDArray[Any]: ...

    @overload
    def segment(
        self,
        image: ImageLike,
        output: None = None,
        *,
        write: list[str] | tuple[str, ...],
        **choices: Unpack[Choices],
    ) -> dict[str, NDArray[Any]]: ...

    @overload
    def segment(
        self,
        image: ImageLike,
        output: PathLike,
        *,
        write: str | list[str] | tuple[str, ...] = "classes",
        **choices: Unpack[Choices],
    ) -> SegmentResult: ...

    def segment(
        self,
        image: ImageLike,
        output: PathLike | None = None,
        *,
        write: str | list[str] | tuple[str, ...] = "classes",
        series: int | None = None,
        level: int | None = None,
        mpp: float | None = None,
        channel: Channel | None = None,
        diameter: float | str = "auto",
        pixel_size: float | None = None,
        z: int | str | None = None,
        time: int | str | None = None,
        scaling: str | None = None,
        mask: ImageLike | None = None,
        skip_background: bool = False,
        force: bool = False,
        frame: str = "image",
        nodata: str = "outside",
        changes: Mapping[str, Any] | None = None,
        tile: int | None = None,
        batch: int | None = None,
        overwrite: bool = False,
        format_version: str = "0.5",
        verify: bool = False,
        max_time: float | str | None = None,
        progress: OnProgress | None = None,
    ) -> NDArray[Any] | dict[str, NDArray[Any]] | SegmentResult:
        """Segment an image of any size; the mask is that of `unettile segment`, byte for byte.

        Args:
            image: the path of a file; or an array (H, W) or (H, W, C), in memory or lazy, which is read window by
                window; or an open `Image`, which says more of an array, or chooses a part of a file.
            output: a file to write: .tif, .ome.tif, .png or .ome.zarr. None returns the mask. A run that was stopped
                goes on when the same call is made again.
            write: classes, probabilities, depth, uncertainty or instances, or several of them.
            series, level, mpp, channel, z, time: which image of a file, at which resolution; of an `Image` they replace
                what it was opened with.
                z and time are a number; with an `output` also a range such as "0:30", or "all": a stack is segmented
                plane by plane into one file of the same axes.
            scaling: from what intensities are scaled and sizes estimated: each "plane" alone or the whole "stack"; None
                takes the plane where one is chosen, and the stack where several are.
            diameter: how large the objects are: px, or a text such as "12um"; they are brought to the size that the
                model knows. "auto" estimates it, "off" segments the image as it is.
            pixel_size: edge of the image's pixels, µm, where the image does not state it.
            frame: whose pixels the mask has where `diameter` segments the image at another size: image or model.
            nodata: what is made of pixels without data, as a map declares them, or NaN: "outside" of the image, or
                "keep" their numbers.
            mask: an image of any resolution, or GeoJSON polygons; only where it is not 0, or inside, is the image
                segmented.
            skip_background: segment only what differs from the commonest intensity.
            force: segment a mask that unettile wrote, too.
            changes: how objects are made, for instances, such as {"min_size": 30}.
            tile: edge of a tile, px; None chooses.
            batch: windows at once; None chooses.
            overwrite: replace `output` if it exists.
            format_version: of OME-Zarr, if `output` is one: "0.5", or "0.4", which more programs read.
            verify: compute a sample of tiles again at another tile edge, and compare it with what was written.
            max_time: seconds, or a text such as "55m", after which to stop; what is finished is safe if there is an
                `output`.
            progress: takes pixels done and pixels in all.

        Returns:
            Without `output`: the mask, or for several kinds a dict of them. Classes are (H, W) uint8; instances (H, W)
            uint16, or uint32 for more than 65,535; depth and uncertainty (H, W) uint8; probabilities (H, W, K) uint8,
            255 for 1.
            With `output`: what was written, and how it went.

        Raises:
            UsageError: options that do not fit.
            InputError: the image, or the destination, is refused.
            Incomplete: `max_time` is over.

        Warns:
            Advice: what a user should know, such as pixels of another size than the model's.

        >>> import unettile
        >>> model = unettile.load("nuclei", device="cpu")
        >>> mask = model.segment(np.zeros((40, 50), np.uint8))
        >>> mask.shape, mask.dtype, int(mask.max())
        ((40, 50), dtype('uint8'), 0)
        """
        depth, depths = parse_planes(z, "z")
        moment, times = parse_planes(time, "time")
        source, view = source_of(image), view_of(series, level, mpp, channel, depth, moment)
        if isinstance(image, Image):
            source, view = image.source, _replaced(image.view, view)
        kinds = (write,) if isinstance(write, str) else tuple(write)
        rules = None if changes is None else self.checkpoint.objects.changed(dict(changes))
        inside = None if mask is None else source_of(mask, "the mask")
        options = SegmentOptions(
            write=kinds,
            output_edge=tile,
            batch=batch,
            view=view,
            mask=inside,
            skip_background=skip_background,
            objects=rules,
            force=force,
            diameter=str(diameter),
            pixel_size_um=pixel_size,
            frame=frame,
            nodata=nodata,
            times=times,
            depths=depths,
            scaling=scaling,
            zarr=format_version,
        )
        if tile is not None:
            self.checkpoint.geometry.check_output_edge(tile)
        limit = seconds_of(max_time)
        watch = Watch(
            progress or (lambda done, total: None),
            deadline=None if limit is None else clock.monotonic() + limit,
            on_advice=advise,
        )
        with self._lock:
            if output is not None:
                return segment(source, Path(output), self._predictor, options, watch, overwrite, verify)
            if overwrite or verify:
                raise UsageError("overwrite and verify are of a file: give an output, too")
            if times is not None or depths is not None:
                raise UsageError("a stack is segmented into a file: give an output")
            with tempfile.TemporaryDirectory(prefix="unettile-") as folder:
                file = Path(folder, "mask.ome.tif")
                segment(source, file, self._predictor, options, watch)
                found = {kind: _read(file, series) for series, kind in enumerate(options.write)}
        return found[write] if isinstance(write, str) else {kind: found[kind] for kind in kinds}


def load(
    model: PathLike | Sequence[PathLike] = "nuclei",
    *,
    device: str = "auto",
    precision: str = "auto",
    trust: bool = False,
    tta: str = "none",
) -> Model:
    """Load a model, once for many images.

    Args:
        model: a shipped model's name, or the path of a checkpoint, ONNX, a program (.pt2), TorchScript (.pt) or a
            bioimage.io package; or several, of one network, whose probabilities are averaged.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, fp32, tf32, bf16 or fp16; auto takes bf16 where the processor has it, else fp16 on a GPU.
        trust: read a program although reading one can run code that is hidden in it.
        tta: none, or flips: average over windows turned over along each axis and along both.

    Raises:
        InputError: no such model, one that cannot be read, or models that do not go together.
        UsageError: no such device here, or a precision that it or the model does not have.

    >>> import unettile
    >>> unettile.load("nuclei", device="cpu").classes
    ('background', 'nucleus')
    """
    names = [model] if isinstance(model, str | os.PathLike) else list(model)
    if not names:
        raise UsageError("no model is given: need a name or a path")
    return Model(load_models([os.fspath(name) for name in names], trust=trust, tta=tta), device, precision)


def _replaced(opened: View, given: View) -> View:
    """Return the view of an image that is open, with what was given for a call in its place."""
    return replace(opened, **{name: getattr(given, name) for name in OPTIONS if getattr(given, name) is not None})


def _read(file: Path, series: int) -> NDArray[Any]:
    with Image(file, View(series=series), labels=True) as image:
        return np.ascontiguousarray(image.read())
