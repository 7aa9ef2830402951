"""Exceptions and the exit codes they become.

0 done · 1 a defect of unettile · 2 usage · 3 input refused · 75 incomplete, run it again · 128 + n stopped by signal n.
A message has one line: what was wrong, what was got, what is needed, what to do.
"""


class UnettileError(Exception):
    """Base of every error that unettile raises on purpose."""

    exit_code = 1


class UsageError(UnettileError):
    """An option, or a combination of options, that cannot be meant."""

    exit_code = 2


class InputError(UnettileError):
    """An input, or a destination, that is refused. Nothing was written under a final name."""

    exit_code = 3


class Incomplete(UnettileError):
    """Work that is not finished, but safe: the same command goes on with it (75 is EX_TEMPFAIL of sysexits.h)."""

    exit_code = 75


class Interrupted(UnettileError):
    """A signal asked the run to stop; what was finished is kept.

    Args:
        signum: number of the signal, 2 for SIGINT and 15 for SIGTERM; the exit code is 128 + signum.
        advice: how to go on.
    """

    def __init__(self, signum: int, advice: str = "give the same command again to go on") -> None:
        super().__init__(f"stopped by signal {signum}; {advice}")
        self.signum = signum
        self.exit_code = 128 + signum


class Advice(UserWarning):
    """What a user should know of a call that succeeds: a size that was estimated, ids that look like classes."""
