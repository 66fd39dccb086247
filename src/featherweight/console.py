"""Progress of long work: a live line with rate, time left and the current score in a terminal, nothing elsewhere.

What matters beyond the moment is told by `say`, which prints a plain line above the live one.
"""

from __future__ import annotations

import os
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
from rich.table import Column
from rich.text import Text

from featherweight.runtime import launcher

console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=240)  # in a pipe or a log, the width of a terminal means nothing


def is_live() -> bool:
    """Is there somebody before a terminal that can redraw a line? Logs of CI and cells of notebooks can't."""
    plain = {"CI", "JPY_PARENT_PID", "KAGGLE_KERNEL_RUN_TYPE"} & os.environ.keys()
    return console.is_terminal and not console.is_dumb_terminal and not plain and launcher.rank() == 0


def say(line: str) -> None:
    """Print a line for the user; of a run's processes the first one speaks."""
    if launcher.rank() == 0 and not _hushed:
        console.print(line, markup=False, soft_wrap=True)


_hushed = False


@contextmanager
def hushed() -> Iterator[None]:
    """Nothing is said within, where somebody else tells what came out; the live line stays."""
    global _hushed
    before, _hushed = _hushed, True
    try:
        yield
    finally:
        _hushed = before


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else f"- {unit}/s")


class Progress:
    """A live line for `total` units of work; silent where the output is not a terminal."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        columns = (
            TextColumn("  {task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            _Rate(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
        )
        self._bar = Bar(*columns, console=console, transient=True, disable=not is_live())
        self._task = self._bar.add_task(what, total=total, unit=unit, note="")

    def advance(self, done: int, note: str | None = None) -> None:
        """Report `done` more units, and what to show beside them."""
        if note is not None:
            self._bar.update(self._task, note=note)
        self._bar.update(self._task, advance=done)

    def update(self, done: int) -> None:
        """Report how much is done in all."""
        self._bar.update(self._task, completed=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
