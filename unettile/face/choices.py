"""Choices: what may be said to `Model.segment` by name, whatever is written; that method says what each means."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from unettile.face.image import Channel, ImageLike

OnProgress = Callable[[int, int], None]
"""Takes pixels done and pixels in all."""

PathLike = str | os.PathLike[str]


class Choices(TypedDict, total=False):
    """Names and types for those who check types: `Model.segment` returns what fits `output` and `write`."""

    series: int | None
    level: int | None
    mpp: float | None
    channel: Channel | None
    diameter: float | str
    pixel_size: float | None
    z: int | str | None
    time: int | str | None
    scaling: str | None
    mask: ImageLike | None
    skip_background: bool
    force: bool
    frame: str
    nodata: str
    changes: Mapping[str, Any] | None
    tile: int | None
    batch: int | None
    overwrite: bool
    format_version: str
    verify: bool
    max_time: float | str | None
    progress: OnProgress | None
