"""Runs that were started and have no result: those that train now, and those that were stopped and can be continued."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from featherweight import paths


@dataclass(frozen=True)
class Unfinished:
    """A run without a result: its name, its competition, the epochs that are done, and whether it trains now."""

    name: str
    competition: str
    epoch: int
    running: bool

    def __str__(self) -> str:
        after = f"{self.name}: {'running' if self.running else 'stopped'} after {self.epoch} epochs"
        return after if self.running else f"{after}; continue with: ./run.sh resume {self.name}"


def unfinished(competition: str | None = None) -> Iterator[Unfinished]:
    """Every run in the workspace that has no result yet, or those of one competition, by name."""
    for path in sorted(paths.runs().glob("*/run.json")):
        folder = path.parent
        if (folder / "result.json").exists():
            continue
        try:
            facts = json.loads(path.read_text())
            of = str(facts["competition"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # `resume` says what is wrong with the folder; a list of runs goes on
        if competition in (None, of):
            yield Unfinished(folder.name, of, _epoch(folder / "history.csv"), _claimed(folder / "run.lock"))


def _epoch(history: Path) -> int:
    try:
        with history.open(newline="") as lines:
            return max((int(row["epoch"]) for row in csv.DictReader(lines)), default=0)
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _claimed(lock: Path) -> bool:
    """Whether another process holds the run; nothing is created to find out."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False
