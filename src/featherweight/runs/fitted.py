"""What a run fits to its holdout: the temperature of its probabilities, if it calibrates, and its decision rule.

Both are cross-fitted where the holdout itself is scored, in 5 folds, and related images share a fold.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic
from featherweight.evaluation import calibration, decisions
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.decisions import DecisionRule
from featherweight.runs import stored_probs
from featherweight.runs.metadata import DAMAGED, read_record
from featherweight.untrusted_files import explained

if TYPE_CHECKING:
    from featherweight.runs.run import Run


def fit_temperature(run: Run, labels: Answers) -> None:
    """Fit the temperature to the holdout's true classes, int64 [N] or sets [N, K], and store it."""
    probs = run.probs("holdout")  # the model's own: there is no temperature yet
    atomic.write_text(run.temperature, f"{calibration.fit_temperature(probs, labels)}\n")


def temperature(run: Run) -> float:
    """Return the fitted temperature; 1 if there is none."""
    if not run.temperature.exists():
        return 1.0
    with explained(run.temperature, f"{DAMAGED}; delete it, and ./run.sh resume {run.name} fits it again"):
        fitted = float(run.temperature.read_text())
        if not 0 < fitted < math.inf:
            raise ValueError(f"expected a number above 0, got {fitted:g}")
        return fitted


def calibrated(run: Run, probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities [N, K] at the fitted temperature, if there is one."""
    if not run.temperature.exists():
        return probs
    return calibration.temper(probs, temperature(run), several=run.competition.target == "several")


def fit_decision(run: Run, labels: Answers) -> None:
    """Fit the decision rule to the holdout's true classes, int64 [N] or sets [N, K], and store it, if the competition
    takes one that is fitted.
    """
    target, metric = run.competition.target, run.competition.metric
    if decisions.is_fitted(target, metric):
        related = run.groups(run.split.holdout)
        rule = decisions.fit(target, metric, run.probs("holdout"), labels, groups=related)
        rule.store(run.folder / "decision.json")


def decision(run: Run) -> DecisionRule:
    """Return the decision rule that is fitted to the holdout or, if the competition takes none, the unfitted one."""
    path, competition = run.folder / "decision.json", run.competition
    if path.exists():
        return read_record(path, DecisionRule, f"delete it, and ./run.sh resume {run.name} fits it again")
    return decisions.unfitted(competition.target, len(competition.classes))


def cross_fitted(run: Run, labels: Answers) -> tuple[NDArray[np.float32], Answers]:
    """Return the holdout's probabilities [N, K] and answers as they are scored: cross-fitted. `labels` are its true
    classes, int64 [N] or sets [N, K].

    Raises UserError as `Run.probs`.
    """
    ids = run.split.holdout
    probs, raw, related = run.probs("holdout", ids), stored_probs.read(run, "holdout"), run.groups(ids)
    if run.temperature.exists() and raw is not None:
        probs = calibration.temper_cross_fitted(raw, labels, groups=related)
    target, metric = run.competition.target, run.competition.metric
    return probs, decisions.cross_fitted(target, metric, probs, labels, groups=related)
