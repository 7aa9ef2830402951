"""Clock: a run planned into a given time, whatever the number of steps that this turns out to be."""

from __future__ import annotations

RESERVE = 0.05
"""Share of the time that is kept for the end as long as no validation was timed, and at least."""

LAST_SCORES = 3.0
"""Validations that the end takes: that of the calibration, which tries many shifts, and that of the result."""


class Clock:
    """Which share of a run's time is used, and which of its epochs that ends.

    An epoch is the same share of the time each; the time that the end will need after the last one is kept free.

    Args:
        seconds: for everything.
        epochs: validations, the last at the end.
    """

    def __init__(self, seconds: float, epochs: int) -> None:
        self._seconds, self._epochs = seconds, epochs
        self._read = self._longest = 0.0

    def read(self, seconds: float) -> None:
        """Take note of the time used so far, that of earlier parts of a resumed run included."""
        self._read = seconds

    def took(self, seconds: float) -> None:
        """Take note of how long a validation took."""
        self._longest = max(self._longest, seconds)

    @property
    def used(self) -> float:
        """Share of the time, 0 … 1, that is over; 1 when training must end."""
        return min(1.0, self._read / self._training_seconds)

    def epoch_is_over(self, done: int) -> bool:
        """Whether the epoch after the first `done` ones is over; the last ends so early that its validation fits."""
        end = (done + 1) / self._epochs * self._training_seconds
        return self._read >= end - (self._longest if done + 1 == self._epochs else 0.0)

    def expected_steps(self, step: int) -> int:
        """Return about how many steps the run will have had."""
        return max(step, round(step / max(self.used, 1e-9)))

    @property
    def _training_seconds(self) -> float:
        kept = max(RESERVE * self._seconds, LAST_SCORES * self._longest)
        return max(1e-3, self._seconds - kept)
