"""Mutations: what may become of a valid file on its way, or in a stranger's hands. All are drawn from a seed."""

from __future__ import annotations

import json
import random
from typing import Any

ABSURD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**32, 2**63, 2**64 - 1, 10**9, 10**12, 10**18, 10**400, -(10**400),
    0.0, -0.5, 0.5, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"),
    "", "²", "NaN", "a", "../../x", "\x00", "\x1b[31m", "\ud800", "x" * 5000, "9" * 5000, "uint8", "=1+1",
    [], [[]], {}, [0] * 1000, [-1, -1], [1e300, 1e300], [10**9, 10**9], {"a": 1}, [None], ["a", 1],
)  # fmt: skip


def absurd_json(rng: random.Random, values: Any) -> str:
    """Return JSON text of a value with one to three places changed, or the text itself damaged."""
    changed = json.loads(json.dumps(values))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        changed = _changed(rng, changed)
    text = json.dumps(changed)
    match rng.randrange(12):
        case 0:
            return text[: rng.randrange(len(text) + 1)]
        case 1:
            return text.replace("1", "9" * 5000, 1)
        case 2:
            return "[" * 100_000 if rng.random() < 0.5 else text.replace(":", ":" + "[" * 100_000, 1)
        case 3:
            return damaged(rng, text.encode()).decode("utf-8", "replace")
    return text


def _changed(rng: random.Random, value: Any) -> Any:
    """Return a value with one place of it replaced, dropped, added or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        match rng.randrange(8):
            case 0:
                return {name: item for name, item in value.items() if name != key}
            case 1:
                return value | {rng.choice(("nonsense", "", "\ud800", key + "s")): rng.choice(ABSURD)}
        return value | {key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:place] + value[place + 1 :]
        return [*value[:place], _changed(rng, value[place]), *value[place + 1 :]]
    return rng.choice(ABSURD)


def damaged(rng: random.Random, data: bytes, near: int = 2**12) -> bytes:
    """Return bytes of which some are flipped, cut off, doubled or overwritten, mostly near the beginning."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not content:
            break
        place = rng.randrange(min(len(content), near)) if rng.random() < 0.8 else rng.randrange(len(content))
        match rng.randrange(7):
            case 0:
                del content[place:]
            case 1:
                content[place:place] = content[: rng.randrange(64)]
            case 2:
                content[place : place + 4] = rng.choice((b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff"))
            case 3:
                content[place : place + 8] = rng.choice((b"\xff" * 8, bytes(8)))
            case _:
                content[place] ^= 1 << rng.randrange(8)
    return bytes(content)
