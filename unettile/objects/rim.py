"""Rims: background around an object that is probably its own, although to be background is a little more probable.

Where an edge is soft, as in stained tissue, a network says of a wide rim that it may be the object's or not. A lower
threshold would give the rim to the objects, and join those that nearly touch. So objects are made and parted of what is
sure, and take their rims after that: pixels of background that are an object's with at least some probability, through
sides, one px in every round, so that objects stay connected and apart.
"""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.objects.certainty import Chance
from unettile.objects.grow import take_rounds
from unettile.objects.rules import Labelling


class Rim:
    """Gives objects their rims.

    Args:
        chance: the probability of an object.
        labelling: how probable a rim is at least, and how wide at most.
    """

    def __init__(self, chance: Chance, labelling: Labelling) -> None:
        self._chance = chance
        self._least = math.ceil(labelling.rim * chance.scale)
        self.width = labelling.rim_width
        self._reading = threading.Lock()  # images are read by one thread at a time

    def take(self, labels: NDArray[np.uint32], box: Box) -> NDArray[np.uint32]:
        """Return the labels (h, w) of a box with their rims; right from `width` px inside its edges on.

        A pixel that two objects reach in the same round gets the smaller id.

        Raises:
            InputError: the probabilities cannot be read.
        """
        if not labels.any():
            return labels
        with self._reading:
            probable: NDArray[np.bool_] = self._chance.read(box)[:, :, 0] >= self._least
        return take_rounds(labels, probable, self.width)
