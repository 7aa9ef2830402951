"""Likeness: round things of the model's size count, bars, specks and what is too large do not."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.draw import disk, ellipse

from unettile.objects.likeness import alike_area
from unettile.objectsize import ObjectSize

SIZE = ObjectSize(24, 12, 48)


@pytest.mark.parametrize(
    ("place", "counts"),
    [
        (disk((60, 60), 12), True),
        (disk((0, 0), 24, shape=(200, 200)), True),  # cut by the border of the picture
        (ellipse(100, 100, 8, 20), True),
        (disk((100, 100), 3), False),
        (disk((100, 100), 60), False),
        (tuple(np.mgrid[10:14, 10:180]), False),
    ],
)
def test_what_looks_like_the_model_s_objects(place: tuple[object, object], counts: bool) -> None:
    ids = np.zeros((200, 200), np.int32)
    ids[disk((160, 160), 12)] = 7
    alone = alike_area(ids, SIZE)
    assert alone == (ids == 7).sum()
    ids[place] = 3
    assert alike_area(ids, SIZE) == alone + counts * (ids == 3).sum()


def test_touching_objects_are_looked_at_one_by_one() -> None:
    ids = np.zeros((60, 100), np.int32)
    ids[disk((30, 30), 14)] = 1
    ids[disk((30, 57), 14)] = 2
    assert alike_area(ids, SIZE) == (ids > 0).sum()
    assert alike_area(np.zeros((9, 9), np.int32), SIZE) == 0
