"""Runs that the ledger does not have: those that train now, those that were stopped and can be continued, and finished
ones whose folders came from elsewhere.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from featherweight import paths
from featherweight.runs import ledger


@dataclass(frozen=True)
class Unfinished:
    """A run without a row: its name, its competition, the epochs that are done, if it trains now or is finished."""

    name: str
    competition: str
    epoch: int
    running: bool
    finished: bool = False

    def __str__(self) -> str:
        if self.finished:
            return f"{self.name}: finished, and not in the ledger; add it with: ./run.sh resume {self.name}"
        after = f"{self.name}: {'running' if self.running else 'stopped'} after {self.epoch} epochs"
        return after if self.running else f"{after}; continue with: ./run.sh resume {self.name}"


def unfinished(competition: str | None = None) -> Iterator[Unfinished]:
    """Every run in the workspace that the ledger does not have, or those of one competition, by name."""
    rows = ledger.read()
    recorded = set(zip(rows["run"], rows["date"], strict=True))
    for path in sorted(paths.runs().glob("*/run.json")):
        folder = path.parent
        finished = (folder / "result.json").exists()
        try:
            facts = json.loads(path.read_text())
            of = str(facts["competition"])
            if finished and (folder.name, facts.get("started", "")) in recorded:
                continue
        except (OSError, ValueError, KeyError, TypeError):
            continue  # `resume` says what is wrong with the folder; a list of runs goes on
        if competition in (None, of):
            yield Unfinished(folder.name, of, _epoch(folder / "history.csv"), _claimed(folder / "run.lock"), finished)


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
