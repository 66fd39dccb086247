"""Progress of long work: in a terminal a live line with rate, remaining time and score; elsewhere a line per minute.

What is to stay visible is printed by `say`, as a plain line above the live one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Column, Table
from rich.text import Text

from featherweight.errors import count_of, printable
from featherweight.runtime import launcher

FOLDED = 24  # letters of a column of words, in a terminal that has no room for all of it
PLAIN_SECONDS = 60.0  # between lines of progress where there is no terminal

_hushed = False
_said: set[str] | None = None  # lines that are not to be repeated
console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=240)  # in a pipe or a log, the width of a terminal means nothing


def is_live() -> bool:
    """True if the output is a terminal that can redraw a line, unlike CI logs and notebook cells."""
    plain = {"CI", "JPY_PARENT_PID", "KAGGLE_KERNEL_RUN_TYPE"} & os.environ.keys()
    return console.is_terminal and not console.is_dumb_terminal and not plain and launcher.rank() == 0


def say(line: str) -> None:
    """Print a line for the user; among a run's processes only the first one prints."""
    if not _hushed:
        _print(line)


def say_once(line: str) -> None:
    """Print a line, unless this command has printed it before: it may list its data several times."""
    if not _hushed and (_said is None or line not in _said):
        _print(line)
        if _said is not None:
            _said.add(line)


@contextmanager
def one_command() -> Iterator[None]:
    """Within it, `say_once` repeats no line."""
    global _said
    before, _said = _said, set()
    try:
        yield
    finally:
        _said = before


def _print(line: str) -> None:
    if launcher.rank() == 0:
        console.print(printable(line), markup=False, soft_wrap=True)


def show_table(table: Table) -> None:
    """Print a table. In a narrow terminal its lines are broken by the terminal, and no column is lost."""
    wide = Console(highlight=False, width=10_000, file=console.file, force_terminal=console.is_terminal)
    for column in table.columns:
        longest = max((wide.measure(cell).maximum for cell in (column.header, *column.cells)), default=0)
        column.min_width = longest if column.no_wrap else min(longest, FOLDED)
    wide.width = max(console.width, sum((column.min_width or 0) + 3 for column in table.columns) + 1)
    wide.print(table, crop=False)


@contextmanager
def hushed() -> Iterator[None]:
    """Context in which `say` prints nothing, since the caller reports the result; progress is still shown."""
    global _hushed
    before, _hushed = _hushed, True
    try:
        yield
    finally:
        _hushed = before


def duration(seconds: float) -> str:
    """Return a duration as text: 42 seconds, 1.6 minutes, 12 minutes, 3.4 hours, 2.1 days."""
    if seconds < 90:
        whole = round(max(seconds, 0))
        return count_of(whole, "second")
    if seconds < 90 * 60:
        return f"{seconds / 60:.2g} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def rate(per_second: float, unit: str) -> str:
    """Return a rate as text: 120 steps/s, 1.2 steps/s or, if it is below one, 4.2 s/step."""
    if per_second >= 1:
        return f"{per_second:,.{0 if per_second >= 10 else 1}f} {unit}/s"
    return f"{1 / per_second:,.1f} s/{unit.removesuffix('s')}" if per_second > 0 else f"- {unit}/s"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(rate(task.speed or 0.0, task.fields["unit"]))


class Progress:
    """Progress over `total` units of work: a live line in a terminal; elsewhere a plain line per minute.

    Work that ends before the first minute prints none.
    """

    def __init__(self, what: str, total: int, unit: str) -> None:
        columns = (
            TextColumn("  {task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            _Rate(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
        )
        self._live = is_live()
        self._bar = Bar(*columns, console=console, transient=True, disable=not self._live)
        self._task = self._bar.add_task(what, total=total, unit=unit, note="")
        self._what, self._total, self._unit = what, total, unit
        self._done = self._start = 0  # units; `_start` were done before, by a run that was stopped
        self._began = self._printed = time.monotonic()

    def advance(self, done: int, note: str | None = None) -> None:
        """Report `done` more units, and a text to show beside them."""
        if note is not None:
            self._bar.update(self._task, note=note)
        self._bar.update(self._task, advance=done)
        self._report(self._done + done)

    def update(self, done: int) -> None:
        """Report the units done in all."""
        self._bar.update(self._task, completed=done)
        self._report(done)

    def shorten(self, total: int) -> None:
        """Reduce the total number of units."""
        self._total = total
        self._bar.update(self._task, total=total)

    def resume(self, done: int, note: str = "") -> None:
        """Report units done by an earlier process, which do not count for the rate."""
        self._bar.update(self._task, completed=done, note=note)
        self._done = self._start = done

    def _report(self, done: int) -> None:
        self._done, now = done, time.monotonic()
        if self._live or now - self._printed < PLAIN_SECONDS:
            return
        self._printed = now
        speed = (done - self._start) / (now - self._began)
        left = f", {duration((self._total - done) / speed)} left" if speed > 0 else ""
        _print(f"  {self._what}: {done:,} of {self._total:,} {self._unit}, {rate(speed, self._unit)}{left}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
