"""Runs compared on the same held-out images: scores, paired tests, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featherweight import paths, plotting
from featherweight.console import say
from featherweight.data.csv_file import examples
from featherweight.errors import UserError, count_of
from featherweight.evaluation.metrics import METRICS, metric_of, spoken
from featherweight.evaluation.stratification import score_of_part
from featherweight.runs import division, fitted, ledger, query, stored_probs
from featherweight.runs.paired_tests import HoldoutPredictions, against_each, over_seeds
from featherweight.runs.run import Run
from featherweight.schema import Choice, OneOf

SHOWN = ("accuracy", "macro_f1", "log_loss")  # in every comparison, beside the competition's own metric


def holdout_predictions(runs: Sequence[Run]) -> list[HoldoutPredictions]:
    """Return what finished runs of one competition predict for their holdout, which must be the same images.

    The probabilities are those that were scored: tempered, if the recipe calibrates.
    """
    first, shown = runs[0], distinct_names(runs)
    for run, name in zip(runs, shown, strict=True):
        if not stored_probs.path(run, "holdout").exists():
            raise UserError(f"{name} has not predicted its holdout yet: ./run.sh resume {name}")
        if not run.competition.same_task(first.competition):
            raise UserError(f"{name} and {shown[0]} are of different competitions; pass runs of a single one")
        if run.split.holdout != first.split.holdout:
            raise UserError(f"{name} and {shown[0]} hold out different images; give both the same split section")
    labels = true_classes(first, first.split.holdout)
    return [_answered(run, name, labels) for run, name in zip(runs, shown, strict=True)]


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """Return the runs' names, or their folders if several have one name."""
    names = [run.name for run in runs]
    return [run.name if names.count(run.name) == 1 else paths.shown(run.folder) for run in runs]


def _answered(run: Run, name: str, labels: NDArray[Any]) -> HoldoutPredictions:
    """Return it as the holdout is scored: cross-fitted."""
    probs, decided = fitted.cross_fitted(run, labels)
    return HoldoutPredictions(name, probs, labels, decided, run.groups(run.split.holdout))


def true_classes(run: Run, ids: Sequence[str]) -> NDArray[Any]:
    """Return the classes int64 [N], or sets [N, K], of labelled images of a run's competition.

    Raises UserError if some are gone.
    """
    classes: dict[str, int | list[int]] = {}
    for part in run.competition.load().labelled:
        classes.update(zip(part.ids, part.labels.tolist(), strict=True))
    gone = [id for id in ids if id not in classes]
    if gone:
        raise UserError(f"{run.name} held out {count_of(len(gone), 'image')} no longer there: {examples(gone)}")
    return np.array([classes[id] for id in ids], dtype=np.int64 if run.competition.target != "several" else np.uint8)


def chosen(names: Sequence[str], competition: str | None, conditions: Sequence[str]) -> list[str]:
    """Return the names of runs: those given, or those in the ledger of a competition and under conditions that are
    here.

    Raises UserError for both ways at once, and for fewer than two runs.
    """
    runs, why = list(dict.fromkeys(names)), "compare needs at least two runs"
    if competition is not None or conditions:
        if names:
            raise UserError("compare takes the names of runs, or --competition and --where to choose them; not both")
        in_ledger = query.chosen(competition, conditions)["run"].drop_duplicates().tolist()
        runs = [name for name in in_ledger if Run.exists(name)]
        gone = [name for name in in_ledger if name not in runs]
        if gone:
            say(f"left out, since their folders are not in {paths.runs()}: {examples(gone)}")
        why += f", and {len(runs)} of the ledger {'is' if len(runs) == 1 else 'are'} selected"
    if len(runs) < 2:
        raise UserError(f"{why}: ./run.sh compare RUN RUN, or ./run.sh compare --where recipe=NAME")
    return runs


def compare(names: Sequence[str], path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return one row per run, the best first by the metric, and in words how the best compares with each other one;
    draw the curves of those that were trained into `path`. The column `reported` names the run whose report says more.

    The best was selected among all, so the tests are corrected for the number of all pairs (Bonferroni).
    """
    runs = list({run.folder.resolve(): run for run in map(Run.find, names)}.values())
    if len(runs) < 2:
        raise UserError(f"these are all the same run, {runs[0].name}; compare needs at least two different runs")
    answered = holdout_predictions(runs)
    metric, labelled = runs[0].competition.metric, division.labelled(runs[0])
    rows = pd.DataFrame(
        [
            {
                "run": each.name,
                "recipe": label,
                "seed": run.recipe.seed,
                "started": run.metadata.started,
                "reported": run.members[0] if run.is_ensemble else each.name,
                **_scores(metric, each, labelled),
            }
            for run, label, each in zip(runs, _labels(runs), answered, strict=True)
        ]
    )
    worth = -metric_of(metric).sign * rows[metric.name]
    order = worth.argsort(kind="stable")
    best, *rest = [answered[place] for place in order]
    pairs = len(runs) * (len(runs) - 1) // 2
    words = [str(each) for each in against_each(best, rest, metric, pairs)]
    trained = {each.name: run.history for run, each in zip(runs, answered, strict=True) if not run.members}
    if trained:
        draw(trained, path, metric.name)
    drawn = f"wrote {paths.shown(path)}" if trained else "no curves: these are made of runs, none of them was trained"
    return rows.iloc[order].reset_index(drop=True), [*words, *_recipes(rows, metric.name), drawn]


def _scores(metric: Choice, answered: HoldoutPredictions, labelled: int | None) -> dict[str, float]:
    """Return the score by each metric's name, and the ends of its 95 % interval as `_low` and `_high`; see
    `stratification.score_of_part` for `labelled`.
    """
    named = {name: OneOf(METRICS).validate(name) for name in SHOWN} | {metric.name: metric}
    scores = {
        name: score_of_part(
            choice, answered.metric_input(choice), answered.labels, groups=answered.groups, labelled=labelled
        )
        for name, choice in named.items()
    }
    ends = {f"{name}_{end}": getattr(score, end) for name, score in scores.items() for end in ("low", "high")}
    return {name: score.value for name, score in scores.items()} | ends


def _labels(runs: Sequence[Run]) -> list[str]:
    """Return the recipe of each run, with the name of a run added if one name stands for several settings; seeds do not
    count.
    """
    settings = [(run.recipe_name, ledger.settings(run.recipe.model_dump(mode="json"))) for run in runs]
    variants = {name: list(dict.fromkeys(of for other, of in settings if other == name)) for name, _ in settings}
    first = dict(reversed(list(zip(settings, distinct_names(runs), strict=True))))
    return [key[0] if len(variants[key[0]]) == 1 else f"{key[0]} as in {first[key]}" for key in settings]


def _recipes(rows: pd.DataFrame, metric: str) -> list[str]:
    """Return in words what several seeds of each recipe show; of runs of one seed the latest counts."""
    latest = rows.assign(place=range(len(rows))).sort_values("started", kind="stable")
    latest = latest.drop_duplicates(["recipe", "seed"], keep="last").sort_values("place")
    seeds = {str(name): part[metric].tolist() for name, part in latest.groupby("recipe", sort=False)}
    several = {name: scores for name, scores in seeds.items() if len(scores) > 1}
    if len(several) > 1:
        return over_seeds(metric, several)
    return ["to compare recipes, train several seeds of each: ./run.sh RECIPE --seed 1"] if len(seeds) > 1 else []


def draw(histories: Mapping[str, pd.DataFrame], path: Path, metric: str) -> None:
    """Draw loss, accuracy, F1 and the competition's metric by epoch, for training images (dashed) and holdout."""
    figures = plotting.panels(spoken(metric))
    picture, axes = plotting.figure(1, len(figures), width=5)
    for number, (name, history) in enumerate(histories.items()):
        colour = f"C{number % 10}"
        for place, column in zip(axes[0], figures.values(), strict=True):
            label = name if column == "loss" else None
            styles: dict[str, Any] = {"holdout": {"label": label}, "train": {"ls": "--", "lw": 1, "alpha": 0.7}}
            for part, style in styles.items():
                if f"{part}_{column}" in history:  # versions before kept less of the training images
                    known = history.dropna(subset=[f"{part}_{column}"])
                    place.plot(known["epoch"], known[f"{part}_{column}"], color=colour, **style)
    for place, title in zip(axes[0], figures, strict=True):
        place.set_title(title)
        place.set_xlabel("epoch")
        place.grid(alpha=0.3)
    axes[0, 0].legend(fontsize="small", title="holdout; dashed: train")
    plotting.save(picture, path, dpi=90)
