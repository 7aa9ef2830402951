"""Finished blocks of a run, written by threads behind their computation."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from unettile.segmentation.compute.strips import OpenBlock
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.watch import Watch


class Writing:
    """Finished blocks on their way to the run directory; no more of them wait than there are threads.

    Use it in a `with`.
    """

    def __init__(self, run: RunDirectory, threads: int, watch: Watch) -> None:
        self._run, self._watch, self._most = run, watch, threads
        self._threads = ThreadPoolExecutor(threads, "writer")
        self._written: deque[list[Future[None]]] = deque()  # of strips

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(wait=True)

    def hand_over(self, blocks: Sequence[OpenBlock]) -> None:
        """Let blocks be written; from now on they are the writers'."""
        with self._watch.profile.part("wait"):
            while len(self._written) >= self._most:
                _wait_for(self._written.popleft())
        for block in blocks:
            block.stored = block.done
        self._written.append([self._threads.submit(self._write, block) for block in blocks])

    def finish(self) -> None:
        """Return when all is written."""
        with self._watch.profile.part("wait"):
            while self._written:
                _wait_for(self._written.popleft())

    def _write(self, block: OpenBlock) -> None:
        with self._watch.profile.part("write"):
            self._run.write_block(block.block, block.close(self._run.plan))


def _wait_for(written: Sequence[Future[None]]) -> None:
    for future in written:
        future.result()
