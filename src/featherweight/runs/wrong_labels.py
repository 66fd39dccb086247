"""What part of a run's held-out labels are wrong, as its network sees it, kept with the run."""

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
from featherweight.runs.metadata import WITHOUT, read_record
from featherweight.runs.run import Run

KEPT = 100  # suspects


@dataclass(frozen=True)
class WrongLabels:
    """The part of the labels that look wrong, the ends of its 95 % interval; and of the surest the id, the class that
    it has, and the one it looks like.
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
        """In the holdout's probabilities [N, K]; None where nothing is seen."""
        noise = label_noise(probs, labels)
        if not noise.is_seen:
            return None
        names, predicted = run.competition.classes, probs.argmax(1)
        suspects = [(ids[k], names[labels[k]], names[predicted[k]]) for k in noise.suspects[:KEPT].tolist()]
        return cls(noise.share, noise.low, noise.high, suspects)

    def store(self, run: Run) -> None:
        """Keep it in a run's folder."""
        atomic.write_text(run.folder / "labels.json", json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, run: Run) -> WrongLabels | None:
        """As it was kept; None where nothing was seen, or the run is older."""
        path = run.folder / "labels.json"
        return read_record(path, cls, WITHOUT) if path.is_file() else None


def latest(competition: str) -> tuple[Run, WrongLabels] | None:
    """What the latest run of a competition that has seen wrong labels says of them; runs that are damaged, of whatever
    competition, say so when they are asked for.
    """
    files = sorted(paths.runs().glob("*/labels.json"), key=lambda path: -path.stat().st_mtime)
    for path in files:
        with contextlib.suppress(UserError):
            run = Run.find(path.parent.name)
            labels = WrongLabels.read(run) if run.competition_name == competition and run.is_finished else None
            if labels is not None:
                return run, labels
    return None
