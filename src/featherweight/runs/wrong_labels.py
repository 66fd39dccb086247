"""Wrong labels in a run's holdout, as its network sees them, stored with the run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic, paths
from featherweight.errors import UserError
from featherweight.evaluation.label_noise import label_noise
from featherweight.runs.metadata import DELETE_TO_CONTINUE, read_record
from featherweight.runs.run import Run

KEPT = 100  # suspects that are stored


@dataclass(frozen=True)
class WrongLabels:
    """The share of labels that look wrong, and the ends of its 95 % interval.

    `suspects` are the most probable ones: id, the class it has, and the class it looks like.
    """

    share: float
    low: float
    high: float
    suspects: list[tuple[str, str, str]]

    def __str__(self) -> str:
        return f"about {self.share:.0%} look wrong ({self.low:.0%} to {self.high:.0%})"

    @classmethod
    def look(
        cls, run: Run, ids: Sequence[str], probs: NDArray[np.floating], labels: NDArray[np.int64]
    ) -> WrongLabels | None:
        """Return what the holdout's probabilities [N, K] show; None if nothing."""
        noise = label_noise(probs, labels)
        if not noise.is_seen:
            return None
        names, predicted = run.competition.classes, probs.argmax(1)
        suspects = [(ids[k], names[labels[k]], names[predicted[k]]) for k in noise.suspects[:KEPT].tolist()]
        return cls(noise.share, noise.low, noise.high, suspects)

    def store(self, run: Run) -> None:
        """Write it into a run's folder."""
        atomic.write_text(run.folder / "labels.json", json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, run: Run) -> WrongLabels | None:
        """Read it from a run's folder; None if nothing was found, or the run is older."""
        path = run.folder / "labels.json"
        return read_record(path, cls, DELETE_TO_CONTINUE) if path.is_file() else None


def latest(competition: str) -> tuple[Run, WrongLabels] | None:
    """Return the latest finished run of a competition that has found wrong labels, and what it has found; damaged runs
    are skipped.
    """
    files = sorted(paths.runs().glob("*/labels.json"), key=lambda path: -path.stat().st_mtime)
    for path in files:
        with contextlib.suppress(UserError):
            run = Run.find(path.parent.name)
            labels = WrongLabels.read(run) if run.competition_name == competition and run.is_finished else None
            if labels is not None:
                return run, labels
    return None
