"""Images of objects: their ids, or how probable each is, in any format that is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.images.canvas import Canvas, Layer, Readers
from unettile.images.formats import format_of


def ids_canvas(base: Canvas, count: int) -> Canvas:
    """Return the image of ids: 16 bits where they fit, else 32.

    Args:
        base: its shape and metadata.
        count: the largest id.
    """
    layer = Layer("instances", reduction="majority", names=("background",))
    return replace(base, layers=(layer,), dtype=np.dtype(np.uint16 if count < 2**16 else np.uint32))


def confidence_canvas(base: Canvas) -> Canvas:
    """Return the image in which every object has its mean probability, in 1/255; `base` as in `ids_canvas`."""
    metadata = {key: value for key, value in base.metadata.items() if not key.startswith("id_")}
    layers = (Layer("confidence", reduction="mean"),)
    return replace(base, layers=layers, dtype=np.dtype(np.uint8), metadata=metadata | {"content": "confidence"})


def confidence_values(confidence: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return what the image of confidences has in place of the ids 0 … N, of whose objects (N,) they are."""
    return np.concatenate([[0.0], np.rint(255 * confidence)]).astype(np.uint8)


def check_canvases(base: Canvas, labels: Path | None, confidence: Path | None) -> None:
    """Refuse formats that cannot hold the images, before any work; `base` as in `ids_canvas`.

    Raises:
        UsageError, InputError: one cannot.
    """
    if labels is not None:
        format_of(labels).check(ids_canvas(base, 0))
    if confidence is not None:
        format_of(confidence).check(confidence_canvas(base))


def write_canvas(path: Path, temporary: Path, canvas: Canvas, read: Readers) -> None:
    """Write a canvas in the format of `path` to a temporary name.

    Raises:
        UsageError: a format that cannot hold it.
        OSError: it cannot be written.
    """
    form = format_of(path)
    form.check(canvas)
    if form.is_directory:
        temporary.mkdir()
    form.write(temporary, canvas, read)
