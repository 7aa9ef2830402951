"""Working ahead: a function applied by several threads, its results in order, few of them in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from unettile.limits import count_threads

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Yield function(item) for each item in order, on the job's threads, at most `ahead` items before they are taken.

    What the function or the items raise comes out here, once the work in hand has ended.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(count_threads(), "unettile-write")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
