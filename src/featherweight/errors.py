"""The errors that a user may meet, each with the exit code of the command line, and the text of messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can fix. The message says what is wrong, where (file, row or key), and what to do."""

    exit_code = 2


class OverBudget(UserError):  # noqa: N818 - it is a verdict
    """The model has more parameters than the competition allows."""

    exit_code = 3


class DivergedError(UserError):
    """The loss of a run is no longer finite: it cannot be trained with these settings."""


class Unavailable(UserError):  # noqa: N818 - the service is
    """A service or the network failed, not the user: the same command may work later."""

    exit_code = 4


class ProcessLostError(UserError):
    """One of a run's processes was killed, or its machine is gone: the run can be continued."""

    exit_code = 4


class ReportedError(Exception):
    """Another process has reported the error to the user; this one only ends, with the same exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def printable(text: str) -> str:
    """Return a text for a terminal, with control characters and what cannot be displayed spelled out."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(
        letter
        if letter in "\n\t" or letter.isprintable()
        else letter.encode("unicode_escape", "backslashreplace").decode()
        for letter in text
    )


def count_of(count: int, noun: str) -> str:
    """Return a count with its noun: 1 image, 2,000 images, 3 classes."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'adam'?"` with the known name closest to `name`, or an empty string if none is close."""
    spellings: dict[str, str] = {}
    for one in known:
        spellings.setdefault(one.lower(), one)
    close = difflib.get_close_matches(name.lower(), spellings, n=1, cutoff=0.6)
    return f"; did you mean '{spellings[close[0]]}'?" if close else ""
