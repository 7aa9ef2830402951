"""Ranges: how large the figures of a network's config may be; no network is built of others.

The ends are far beyond what has been published, and near what a machine can hold. What goes together within them, each
config checks itself.
"""

from __future__ import annotations

from typing import Any

RANGES: dict[str, tuple[float, float]] = {
    "in_channels": (1, 1024),
    "classes": (2, 257),  # a mask has numbers of 8 bits; a depth is one more
    "widths": (1, 4096),
    "dense": (1, 16384),
    "blocks": (1, 64),
    "mids": (1, 4096),
    "outs": (1, 4096),
    "decoder_mids": (1, 4096),
    "decoder_outs": (1, 4096),
    "rates": (1, 64),
    "width": (1, 4096),
    "output_stride": (8, 16),
    "prune": (0, 16),
    "finest": (1, 64),
    "head_kernel": (1, 15),
    "dropout": (0, 0.99),
    "block_dropout": (0, 0.99),
}
"""The smallest and the largest figure of a key, or of each in its list."""

LONGEST = 16
"""Figures that a list may have."""


def check_range(key: str, value: Any) -> None:
    """Refuse a figure that no network has.

    Raises:
        ValueError: names the key, the figure and its range.
    """
    values = value if isinstance(value, tuple) else (value,)
    if len(values) > LONGEST:
        raise ValueError(f"{key} has {len(values)} figures, need at most {LONGEST}")
    for one in values:
        if isinstance(one, bool | str):
            continue
        low, high = RANGES[key]
        if not low <= one <= high:
            shown = one if isinstance(one, float) or abs(one) < 10**15 else f"a number of {one.bit_length()} bits"
            raise ValueError(f"{key} = {shown} is out of range: need {low} to {high}")
