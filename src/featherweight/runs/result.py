"""The scores of a finished run: `result.json` in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from featherweight import atomic
from featherweight.errors import UserError
from featherweight.evaluation.metrics import Score
from featherweight.runs.metadata import DAMAGED, PARTS, read_json
from featherweight.untrusted_files import explained

if TYPE_CHECKING:
    from featherweight.runs.run import Run


@dataclass(frozen=True)
class Result:
    """The scores of a finished run on its holdout, on the test part if it has one, and on the images to predict if
    their labels are known; `minutes` is the training time.
    """

    parameters: int
    limit: int
    holdout: Score
    test: Score | None
    predict: Score | None
    minutes: float

    @property
    def unbiased(self) -> Score | None:
        """The score on images by which nothing was chosen, if there is one."""
        return self.predict or self.test

    @classmethod
    def read(cls, run: Run) -> Result:
        """Read it from a run's folder. Raises UserError for a run that is not finished."""
        if not run.is_finished:
            raise UserError(f"{run.name} is not finished: ./run.sh resume {run.name}")
        path = run.folder / "result.json"
        again = f"delete it, and ./run.sh resume {run.name} scores it again"
        with explained(path, f"{DAMAGED}; {again}"):
            stored = read_json(path, again)
            scores = {part: Score.read(stored[part]) for part in PARTS if stored.get(part)}
            return cls(
                stored["parameters"],
                stored["limit"],
                scores["holdout"],
                scores.get("test"),
                scores.get("predict"),
                stored["minutes"],
            )

    def store(self, run: Run) -> None:
        """Write it into a run's folder, after which the run is finished."""
        atomic.write_text(run.folder / "result.json", json.dumps(asdict(self), indent=2) + "\n")
