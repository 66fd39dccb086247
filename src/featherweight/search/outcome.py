"""The results of a search: its table, the importance of its keys, and the best candidate as a recipe."""

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
from featherweight.evaluation.metrics import metric_of
from featherweight.schema import Choice, Section
from featherweight.search import trial_answers
from featherweight.search.space import SearchSpace, spelled
from featherweight.search.study import candidate

MARK = "found by ./run.sh search"  # in the head comment of recipes that a search wrote and may overwrite


def table(study: Study, space: SearchSpace) -> pd.DataFrame:
    """Return one row per candidate: the trained ones first, the best first.

    Columns: candidate (its number), score, low, high, outcome, epochs, parameters, seconds, and the value of every key.
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
    return "stopped early" if trial.state == TrialState.PRUNED else "not done"


def draw_importances(study: Study, path: Path) -> bool:
    """Draw how much the score depends on each key, by PED-ANOVA (Watanabe et al. 2023); return False if there are too
    few trials.
    """
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if len({trial.value for trial in done}) < 2:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few trials; the label of the axis says how many
        importances = optuna.importance.get_param_importances(study)
    names = list(reversed(importances))
    picture, axes = plotting.figure(1, 1, height=1.2 + 0.35 * len(names))
    axes[0, 0].barh(names, [importances[name] for name in names])
    axes[0, 0].set_xlabel(f"importance, from {len(done)} finished trials")
    axes[0, 0].grid(axis="x", alpha=0.3)
    plotting.save(picture, path)
    return True


def refuse_if_not_ours(path: Path, name: str) -> None:
    """Raise UserError if there is a recipe at the path that a search of this name did not write."""
    if path.exists() and f"{MARK} {name}" not in path.read_text():
        raise UserError(f"--name {name}: there is already a recipe {path}; choose another --name")


def write_best(study: Study, space: SearchSpace, competition: str, path: Path, choice: Choice, folder: Path) -> str:
    """Write the best candidate as a recipe with the keys that differ from the base; return its score in words, with the
    bias of the selection, which is stored for the runs of the recipe.

    Keys that the space sets to make trials short have the base's values. `folder` is the study's.
    """
    best, metric, name = study.best_trial, metric_of(choice), path.stem
    assert best.value is not None
    recipe = space.recipe(space.draw(best), short=False)
    value = metric.shown(best.value)
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    trials.sort(key=lambda trial: -metric.sign * (trial.value or 0.0))
    folders = [folder / "trials" / str(candidate(study, trial)) for trial in trials]
    chosen = trial_answers.chosen(folders, choice, competition)
    if chosen is None:
        biased = "is biased"
        (folder / "chosen.json").unlink(missing_ok=True)  # of an earlier best trial
    else:
        biased = f"is too good by about {metric.number(chosen.optimism)} {metric.unit}"
        chosen.store(folder)
    selected = f"the best of {len(trials)} finished trials on one holdout, so it {biased}"
    head = (
        f"# {best.user_attrs['parameters']:,} parameters. Holdout {value} on {competition} after {best.last_step} "
        f"epochs,\n"
        f"# {selected}:\n# {MARK} {name}.\n#   ./run.sh {name} --competition {competition}\n"
    )
    changes = differences(load_recipe(space.file.base), recipe)
    atomic.write_text(path, head + yaml.dump({"extends": space.file.base, **changes}, compact=True))
    return value if len(trials) < 2 else f"{value}: {selected}"


def differences(base: Recipe, changed: Recipe) -> dict[str, Any]:
    """Return the keys that a child of `base` needs to equal `changed`, without the seed."""
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
    """Return a value as a file would give it: a choice as its name and the keys that differ from the defaults."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Choice):
        settings: Mapping[str, Any] = value.model_dump(mode="json", exclude_defaults=True)
        return {"name": value.name, **settings} if settings else value.name
    return value.model_dump(mode="json") if isinstance(value, Section) else value
