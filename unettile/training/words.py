"""Early words: what looks wrong with a set before the first step is taken, a line each; nothing is refused."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from unettile.box import Box
from unettile.objects.diameters import diameter_percentiles
from unettile.training.job import Data
from unettile.training.kinds import MOST_KINDS, UNKNOWN, kind_names
from unettile.training.pairs import Pair
from unettile.training.reader import OpenPair
from unettile.training.recipe import Recipe

FILES = 24  # pairs whose fit is measured, spread evenly
EDGE = 512  # px of their middle that are looked at
LOOKED_AT = 4096  # px of its middle in which classes are looked for
SAMPLE = 256  # px of the middle by which images are told to be the same
SHIFT = 24  # px, by which labels are moved to see whether they fit better there
BETTER = 1.5  # times better in most pairs: so much better is no accident
GAIN = 0.03  # of the variance, at least: what explains next to nothing may do so by accident
LIGHT = 61  # px over which light is taken to be even
MOST = 0.7  # of the pairs
SMALL = 4.0  # px across: less than that a network of a few poolings hardly sees

PLACE = re.compile(r"[ _-]?[xyrc]_?\d+[ _-]?[xyrc]_?\d+.*$|[ _-](?:tile|crop|patch)[ _-]?\d+.*$", re.IGNORECASE)
"""What a crop's name adds to that of its image."""

Mask = NDArray[np.bool_]


def early_words(data: Data, recipe: Recipe) -> tuple[str, ...]:
    """Return what to tell the user of images and labels, a line each.

    Raises:
        InputError: a file that cannot be read.
    """
    found = (
        _repeated(data, recipe),
        _leaking(data),
        _ill_fitting(data.training, recipe),
        _unseen(data.training, recipe),
        _untold_kinds(data.training, recipe),
        _of_unknown_kind(data.training, recipe),
        _too_small(data.training, recipe),
    )
    return tuple(line for line in found if line is not None)


def _repeated(data: Data, recipe: Recipe) -> str | None:
    """Tell of images to validate on whose pixels are those of one to train on."""
    if data.validation == data.training:
        return None
    known = {_pixels(pair, recipe): pair for pair in data.training}
    twice = [(pair, known[key]) for pair in (*data.validation, *data.test) if (key := _pixels(pair, recipe)) in known]
    if not twice:
        return None
    (pair, other), count = twice[0], len(twice)
    return (
        f"{count} held-out images have the pixels of one that is trained on, {pair.name} those of {other.name}: scores"
        " will be too good; leave one of each out"
    )


def _leaking(data: Data) -> str | None:
    """Tell of crops of one image that lie on both sides."""
    if data.validation == data.training:
        return None
    sides = [{PLACE.sub("", pair.full_name) for pair in part if PLACE.search(pair.name)} for part in _parts(data)]
    both = sorted(sides[0] & sides[1])
    if not both:
        return None
    more = f" and {len(both) - 1} other images" if len(both) > 1 else ""
    return (
        f"crops of {both[0]}{more} are trained on and validated on: neighbours look alike, so scores will be too good;"
        " give --validation-images of another image"
    )


def _parts(data: Data) -> tuple[Sequence[Pair], Sequence[Pair]]:
    return data.training, (*data.validation, *data.test)


def _ill_fitting(pairs: Sequence[Pair], recipe: Recipe) -> str | None:
    """Tell of labels that fit their images better when they are turned, moved, or given to the next image."""
    some = [pairs[place * len(pairs) // min(len(pairs), FILES)] for place in range(min(len(pairs), FILES))]
    seen = [_look(pair, recipe) for pair in some]
    votes: dict[str, list[float]] = defaultdict(list)
    for place, (grey, mask) in enumerate(seen):
        if not 0 < mask.mean() < 1:
            continue
        here = _fit(grey, mask)
        for name, change in CHANGES.items():
            changed = change(mask)
            if changed.shape == mask.shape:
                votes[name].append(_better(_fit(grey, changed), here))
        other = seen[(place + 1) % len(seen)][1]
        if len(seen) > 2 and other.shape == mask.shape and not np.array_equal(other, mask):
            votes["of the next image"].append(_better(_fit(grey, other), here))
    wins = {name: float(np.mean(np.array(gains) > 0)) for name, gains in votes.items() if len(gains) > 1}
    best = max(wins, key=lambda name: (wins[name], float(np.median(votes[name]))), default="")
    if not best or wins[best] < MOST:
        return None
    asked = ADVICE.get(best, "moved")
    return f"labels {best} would fit {wins[best]:.0%} of the images better than as they are: are they {asked}?"


CHANGES: dict[str, Callable[[Mask], Mask]] = {
    "mirrored left to right": lambda mask: mask[:, ::-1],
    "mirrored top to bottom": lambda mask: mask[::-1],
    "turned by 180°": lambda mask: mask[::-1, ::-1],
    "with rows and columns exchanged": lambda mask: mask.T,
    f"{SHIFT} px lower": lambda mask: np.roll(mask, SHIFT, 0),
    f"{SHIFT} px higher": lambda mask: np.roll(mask, -SHIFT, 0),
    f"{SHIFT} px further right": lambda mask: np.roll(mask, SHIFT, 1),
    f"{SHIFT} px further left": lambda mask: np.roll(mask, -SHIFT, 1),
}
ADVICE = {
    "mirrored left to right": "mirrored",
    "mirrored top to bottom": "mirrored",
    "turned by 180°": "turned",
    "with rows and columns exchanged": "transposed",
    "of the next image": "paired wrongly",
}


def _better(there: float, here: float) -> float:
    """Return by how much a fit is better elsewhere; 0 unless it is by so much that it is no accident."""
    return there - here if there > max(BETTER * here, here + GAIN) else 0.0


def _fit(grey: NDArray[np.float32], mask: Mask) -> float:
    """Return which share of the variance of intensities, or of their slopes, a mask explains, the larger; 0 … 1."""
    inside = float(mask.mean())
    slope = np.hypot(*np.gradient(grey))
    shares = []
    for values in (grey, slope):
        spread = float(values.var())
        apart = float(values[mask].mean() - values[~mask].mean()) if 0 < inside < 1 else 0.0
        shares.append(inside * (1 - inside) * apart**2 / spread if spread > 0 else 0.0)
    return max(shares)


def _look(pair: Pair, recipe: Recipe) -> tuple[NDArray[np.float32], Mask]:
    """Return the intensities and what is not background of the middle of a pair."""
    with OpenPair(pair, recipe.labels) as opened:
        box = _middle(opened.shape, EDGE)
        grey = opened.image.read(box).astype(np.float32).mean(axis=2)
        ids = opened.ids(box)
    grey = grey - uniform_filter(grey, LIGHT, mode="nearest")
    return grey, (ids > 0) & (ids != recipe.labels.ignore)


def _pixels(pair: Pair, recipe: Recipe) -> str:
    with OpenPair(pair, recipe.labels) as opened:
        pixels = opened.image.read(_middle(opened.shape, SAMPLE))
        told = f"{opened.shape} {pixels.shape} {pixels.dtype}".encode()
    if pixels.min() == pixels.max():
        return pair.full_name  # an empty middle is no likeness
    return hashlib.sha256(told + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _unseen(pairs: Sequence[Pair], recipe: Recipe) -> str | None:
    """Tell of classes that are in no label image that is trained on."""
    names = recipe.labels.names
    if not (recipe.labels.kind == "classes" or recipe.labels.kinds) or len(pairs) > FILES:
        return None
    found: set[int] = set()
    for pair in pairs:
        with OpenPair(pair, recipe.labels) as opened:
            ids = np.unique(opened.ids(_middle(opened.shape, LOOKED_AT)))
            found.update((ids if opened.kinds is None else opened.kinds.of(ids)).tolist())
    missing = [name for index, name in enumerate(names) if index not in found and (index or not recipe.labels.kinds)]
    if not missing:
        return None
    return f"no training image has {' or '.join(missing)}: the network cannot learn it; check labels.names"


def _untold_kinds(pairs: Sequence[Pair], recipe: Recipe) -> str | None:
    """Tell of kinds that objects have and the recipe does not tell apart."""
    if recipe.labels.kind != "instances" or recipe.labels.kinds:
        return None
    some = pairs[:: max(1, len(pairs) // FILES)]
    names = kind_names([(pair.labels, pair.label_view) for pair in some])
    if not 1 < len(names) <= MOST_KINDS:
        return None
    told = ", ".join(f'"{name}"' for name in ("background", *names))
    return f"objects have classes, which are not told apart: --set 'labels.names=[{told}]' learns them as kinds"


def _of_unknown_kind(pairs: Sequence[Pair], recipe: Recipe) -> str | None:
    """Tell of objects whose kind nothing says, in some of the images."""
    if not recipe.labels.kinds:
        return None
    unknown = every = 0
    for pair in pairs[:FILES]:
        with OpenPair(pair, recipe.labels) as opened:
            assert opened.kinds is not None
            ids = np.unique(opened.ids(_middle(opened.shape, LOOKED_AT)))
            kinds = opened.kinds.of(ids[(ids > 0) & (ids != recipe.labels.ignore)])
        unknown, every = unknown + int((kinds == UNKNOWN).sum()), every + len(kinds)
    if not unknown:
        return None
    seen = "" if len(pairs) <= FILES else f" of {FILES} images"
    return f"{unknown:,} of {every:,} objects{seen} are of unknown kind: they teach where objects are, and not which"


def _too_small(pairs: Sequence[Pair], recipe: Recipe) -> str | None:
    if recipe.labels.kind != "instances" or recipe.labels.diameter:
        return None
    areas = []
    for pair in pairs[:FILES]:
        with OpenPair(pair, recipe.labels) as opened:
            areas.append(np.unique(opened.ids(_middle(opened.shape, EDGE)), return_counts=True))
    sizes = np.concatenate([counts[ids > 0] for ids, counts in areas])
    if not len(sizes):
        return None
    median = float(diameter_percentiles(sizes, [50])[0])
    if median >= SMALL:
        return None
    return (
        f"objects are {median:.1f} px across, less than a network sees well: --set labels.diameter=16 enlarges images"
        " first"
    )


def _middle(shape: tuple[int, int], edge: int) -> Box:
    height, width = (min(edge, length) for length in shape)
    y0, x0 = (shape[0] - height) // 2, (shape[1] - width) // 2
    return Box(y0, x0, y0 + height, x0 + width)
