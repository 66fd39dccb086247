"""What a soup and an ensemble have in common: the finished runs that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featherweight import atomic
from featherweight.errors import UserError
from featherweight.runs.run import Run
from featherweight.runs.task import Task


def finished(names: Sequence[str]) -> list[Run]:
    """The finished runs of those names. Raises UserError for fewer than two, and for ensembles."""
    if len(set(names)) < len(names) or len(names) < 2:
        raise UserError("name at least two runs, each once: ./run.sh runs shows them")
    runs = [Run.find(name) for name in names]
    for run in runs:
        if not run.is_finished:
            raise UserError(f"{run.name} is not finished: ./run.sh resume {run.name}")
        if run.is_ensemble:
            raise UserError(f"{run.name} is an ensemble already; name its members: {', '.join(run.members)}")
    return runs


def task(kind: str, first: Run, command: list[str]) -> Task:
    """The task of a soup or an ensemble (its `kind`), which has its first member's settings."""
    facts = first.facts
    return Task(kind, first.recipe, facts.competition, first.competition, command, facts.device, facts.threads)


def write_history(folder: Path, runs: Sequence[Run]) -> None:
    """No epochs, since nothing was trained here; the time that the runs took together."""
    atomic.write_text(folder / "history.csv", f"seconds\n{60 * sum(run.minutes for run in runs)}\n")
