"""Weight maps of label files: what `unettile weights` does.

Two passes over the label images. The first surveys them (`plan`, `survey`): it refuses what is no label map, and counts
the pixels that balance the classes over the whole set. The second computes and writes one map for each (`write`), piece
by piece, so that memory does not grow with the image. Each map appears under its name when it is complete, and says in
its metadata all that decides its pixels: a set that was interrupted goes on with the maps that are missing.
"""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[int, int], None]
"""Takes pixels done and pixels in all."""
