"""What a search leaves behind: its table, the importance of its keys, and the best candidate as a recipe."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from featherweight import atomic, plotting, yaml
from featherweight.config import Recipe, load_recipe
from featherweight.errors import UserError
from featherweight.evaluation.metrics import Metric
from featherweight.schema import Choice, Section
from featherweight.search.space import SearchSpace, spelled
from featherweight.search.study import candidate

MARK = "found by ./run.sh search"  # in the head of a recipe that a search wrote, and may write anew


def table(study: Study, space: SearchSpace) -> pd.DataFrame:
    """One row per candidate, the trained ones first, best first: number, score, low, high, outcome, epochs, parameters,
    seconds, and the value of every key.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        if trial.state == TrialState.FAIL or set(trial.params) != set(space.file.search):
            continue
        low, high = attributes.get("interval", (None, None))
        row = {
            "candidate": candidate(study, trial),
            "score": trial.value if trial.state == TrialState.COMPLETE else None,
            "low": low,
            "high": high,
            "outcome": _outcome(trial),
            "epochs": trial.last_step,
            "parameters": attributes.get("parameters"),
            "seconds": attributes.get("seconds"),
        }
        rows.append(row | {key: spelled(value) for key, value in space.draw(trial).items()})
    columns = ["candidate", "score", "low", "high", "outcome", "epochs", "parameters", "seconds", *space.file.search]
    ascending = study.direction == StudyDirection.MINIMIZE
    frame = pd.DataFrame(rows, columns=columns)
    for column in columns[1:4] + columns[5:8]:
        frame[column] = frame[column].astype("float64")
    ranks = frame.assign(refused=frame["outcome"].str.startswith("refused"))
    by = {"refused": True, "score": ascending, "epochs": False, "candidate": True}
    order = ranks.sort_values(list(by), ascending=list(by.values()), na_position="last").index
    return frame.loc[order].reset_index(drop=True)


def _outcome(trial: FrozenTrial) -> str:
    if trial.state == TrialState.COMPLETE:
        return ""
    if "refused" in trial.user_attrs:
        return f"refused: {trial.user_attrs['refused']}"
    if "diverged" in trial.user_attrs:
        return str(trial.user_attrs["diverged"])
    return "given up" if trial.state == TrialState.PRUNED else "not done"


def draw_importances(study: Study, path: Path) -> bool:
    """Draw which keys the scores depend on, by PED-ANOVA (Watanabe et al. 2023); False where too little is known."""
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if len({trial.value for trial in done}) < 2:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few trials say little, which the label says
        importances = optuna.importance.get_param_importances(study)
    names = list(reversed(importances))
    picture, axes = plotting.figure(1, 1, height=1.2 + 0.35 * len(names))
    axes[0, 0].barh(names, [importances[name] for name in names])
    axes[0, 0].set_xlabel(f"share in what sets the best of {len(done)} finished trials apart")
    axes[0, 0].grid(axis="x", alpha=0.3)
    plotting.save(picture, path)
    return True


def refuse_if_not_ours(path: Path, name: str) -> None:
    """Raise UserError where a recipe that no search of this name wrote stands in the way."""
    if path.exists() and f"{MARK} {name}" not in path.read_text():
        raise UserError(f"--name {name}: there is a recipe {path} already; take another --name")


def write_best(study: Study, space: SearchSpace, name: str, competition: str, path: Path, metric: Metric) -> str:
    """Write the best candidate as a recipe: what it has otherwise than the base; returns its score in figures.

    What the space says to make trials short is the base's again.
    """
    best = study.best_trial
    assert best.value is not None
    recipe = space.recipe(space.draw(best), short=False)
    value = metric.shown(best.value)
    trials = sum(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False))
    head = (
        f"# {best.user_attrs['parameters']:,} parameters. Holdout {value} on {competition} after {best.last_step} "
        f"epochs, the best of\n# {trials} finished trials and so rather too good: {MARK} {name}.\n"
        f"#   ./run.sh {name} --competition {competition}\n"
    )
    changes = differences(load_recipe(space.file.base), recipe)
    atomic.write_text(path, head + yaml.dump({"extends": space.file.base, **changes}, compact=True))
    return value


def differences(base: Recipe, changed: Recipe) -> dict[str, Any]:
    """What a child of `base` has to say to be `changed`; the seed is left out."""
    return {key: value for key, value in _differing(base, changed).items() if key != "seed"}


def _differing(before: Section, after: Section) -> dict[str, Any]:
    differing = {}
    for key in type(after).model_fields:
        old, new = getattr(before, key), getattr(after, key)
        if old == new:
            continue
        alike = isinstance(new, Section) and type(old) is type(new)
        differing[key] = _differing(old, new) if alike else _plain(new)
    return differing


def _plain(value: Any) -> Any:
    """As a file would give it: of a choice, its name and what differs from the defaults."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Choice):
        settings: Mapping[str, Any] = value.model_dump(mode="json", exclude_defaults=True)
        return {"name": value.name, **settings} if settings else value.name
    return value.model_dump(mode="json") if isinstance(value, Section) else value
