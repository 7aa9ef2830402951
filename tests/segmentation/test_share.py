"""Shares: together they are the run, each block once; what is not finished is dealt evenly."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unettile.errors import UsageError
from unettile.segmentation.share import Share, deal


def blocks_of(share: Share, blocks: int) -> list[tuple[int, int]]:
    return [(plane, block) for plane in share.planes for block in share.blocks(blocks)]


@given(st.data(), st.integers(1, 30), st.integers(1, 5), st.integers(1, 6))
def test_each_block_is_in_one_share(data: st.DataObject, blocks: int, planes: int, processes: int) -> None:
    marked = [data.draw(st.sets(st.integers(0, blocks - 1))) for _ in range(planes)]
    shares = deal(marked, blocks, processes)
    assert 1 <= len(shares) <= processes
    counts = Counter(one for share in shares for one in blocks_of(share, blocks))
    assert counts == Counter((plane, block) for plane in range(planes) for block in range(blocks))
    assert [Share.parse(str(share)) for share in shares] == shares


@given(st.integers(1, 40), st.sets(st.integers(0, 39)), st.integers(1, 8))
def test_what_is_left_of_an_image_is_dealt_evenly(blocks: int, marked: set[int], processes: int) -> None:
    """Whatever was done before, and by how many: no process has two blocks more to compute than another."""
    marked &= set(range(blocks))
    shares = deal([marked], blocks, processes)
    left = [len(set(share.blocks(blocks)) - marked) for share in shares]
    assert len(shares) == max(1, min(processes, blocks - len(marked)))
    assert max(left) - min(left) <= 1


def test_planes_are_dealt_where_there_are_as_many_and_else_parts_of_each() -> None:
    assert [str(share) for share in deal([set()] * 5, 4, 2)] == ["0:2/0:1/1", "2:5/0:1/1"]
    assert [str(share) for share in deal([{0}, {0}, set(), set()], 1, 2)] == ["0:3/0:1/1", "3:4/0:1/1"]
    assert [str(share) for share in deal([set()] * 2, 4, 3)] == ["0:2/0:1/3", "0:2/1:2/3", "0:2/2:3/3"]
    assert [str(share) for share in deal([set()] * 2, 1, 3)] == ["0:1/0:1/1", "1:2/0:1/1"], "a plane has one block"
    assert [str(share) for share in deal([{0}] * 3, 1, 3)] == ["0:3/0:1/1"], "all is finished"


@pytest.mark.parametrize("text", ["", "0:1", "0:1/2:2/3", "1:1/0:1/1", "0:1/0:4/3", "0:1/-1:1/3"])
def test_no_such_share(text: str) -> None:
    with pytest.raises(UsageError, match="share"):
        Share.parse(text)
