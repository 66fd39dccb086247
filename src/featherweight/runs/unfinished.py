"""Runs that the ledger lacks: running ones, stopped ones that can be continued, and finished ones that came from
elsewhere.
"""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from featherweight import paths
from featherweight.errors import count_of
from featherweight.runs import ledger


@dataclass(frozen=True)
class Unfinished:
    """A run without a row in the ledger: its name, its competition, the number of finished epochs, and its state."""

    name: str
    competition: str
    epoch: int
    running: bool
    finished: bool = False
    damaged: bool = False

    def __str__(self) -> str:
        resume = f"./run.sh resume {shlex.quote(self.name)}"  # a folder that a file manager copied has spaces
        if self.damaged:
            return f"{self.name}: damaged; see what is wrong with: {resume}"
        if self.finished:
            return f"{self.name}: finished, and not in the ledger; add it with: {resume}"
        after = f"{self.name}: {'running' if self.running else 'stopped'} after {count_of(self.epoch, 'epoch')}"
        return after if self.running else f"{after}; continue with: {resume}"


def unfinished(competition: str | None = None) -> Iterator[Unfinished]:
    """Yield every run in the workspace that the ledger does not have, or those of one competition, by name.

    A run with a damaged run.json is listed as such unless a competition is given, since its own is unknown.
    """
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
            if competition is None:
                yield Unfinished(folder.name, "", 0, _claimed(folder / "run.lock"), finished, damaged=True)
            continue
        if competition in (None, of):
            yield Unfinished(folder.name, of, _epoch(folder / "history.csv"), _claimed(folder / "run.lock"), finished)


def _epoch(history: Path) -> int:
    try:
        with history.open(newline="") as lines:
            return max((int(row["epoch"]) for row in csv.DictReader(lines)), default=0)
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _claimed(lock: Path) -> bool:
    """Return whether another process holds the run, without creating a file to find out."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False
