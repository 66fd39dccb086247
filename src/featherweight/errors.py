"""The errors a person may meet, each with the exit code the command line ends in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend. The message says what was wrong, where (file, row or key), and what to do."""

    exit_code = 2


class OverBudget(UserError):  # noqa: N818 - it is a verdict
    """The model has more parameters than the competition allows."""

    exit_code = 3


class DivergedError(UserError):
    """The loss of a run is no longer a number: its settings do not train."""


class Unavailable(UserError):  # noqa: N818 - the service is
    """A service or the network failed, not the user: the same command may work later."""

    exit_code = 4


class ProcessLostError(UserError):
    """One of a run's processes was killed, or its machine went away: the run can be continued."""

    exit_code = 4


class ReportedError(Exception):
    """Another process has reported the fault to the user; this one only ends, with the same exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def printable(text: str) -> str:
    """A text with names in it that others chose, for a terminal: what would move its cursor or cannot be shown at all
    is spelled out.
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(
        letter
        if letter in "\n\t" or letter.isprintable()
        else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'adam'?"` for the known name closest to `name`, or an empty string when none is close."""
    spellings: dict[str, str] = {}
    for one in known:
        spellings.setdefault(one.lower(), one)
    close = difflib.get_close_matches(name.lower(), spellings, n=1, cutoff=0.6)
    return f"; did you mean '{spellings[close[0]]}'?" if close else ""
