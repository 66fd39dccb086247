"""Rerun a section of the logbook: one run per row and seed, then the table, the figures, and the tests of the claims.

The name of a row's recipe begins with the section's letter, as in a15 or c_focal. Its head comment describes the row.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from featherweight import atomic, paths, plotting
from featherweight.config import Competition, Recipe, load_recipe
from featherweight.config.purpose import head
from featherweight.console import say
from featherweight.errors import DivergedError, OverBudget, UserError, nearest
from featherweight.evaluation.metrics import Score, metric_by_name, spoken
from featherweight.logbook.claims import CLAIMS, Verdict, judge
from featherweight.runs import comparison, series
from featherweight.runs.paired_tests import ALPHA
from featherweight.runs.request import RunRequest, commit
from featherweight.runs.series import Done
from featherweight.training import schedules

SECTIONS = ("A", "B", "C", "D")
# Rows that the write-ups draw together, in addition to the figure of the whole section.
TOGETHER = {
    f"curves-{optimizer}": [f"b_{kind}{depth}_{optimizer}" for depth in (34, 50) for kind in ("resnet", "plain")]
    for optimizer in ("sgd", "adam")
}


def rows(section: str) -> list[str]:
    """Return the recipes of a section in the order of its rows. Raises UserError for an unknown section."""
    if section.upper() not in SECTIONS:
        raise UserError(f"there is no section '{section}' of the logbook; choose one of {', '.join(SECTIONS)}")
    names = [n for n in paths.config_names("recipes") if re.match(rf"{section.lower()}(\d|_)", n)]
    return sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def shortened(recipe: Recipe, scale: float) -> Recipe:
    """Return the recipe with length, schedule and patience multiplied by `scale`, each at least 1. The update interval
    of averages stays.
    """

    def some(count: int) -> int:
        return max(1, round(count * scale))

    data = recipe.model_dump(mode="json")
    data["train"]["epochs"] = math.ceil(round(recipe.train.epochs * scale, 9))  # enough for all of train.steps
    if recipe.train.steps is not None:
        data["train"]["steps"] = some(recipe.train.steps)
    if recipe.warmup is not None and recipe.warmup.epochs is not None:
        data["warmup"]["epochs"] = recipe.warmup.epochs * scale
    if recipe.early_stopping is not None:
        data["early_stopping"]["patience"] = some(recipe.early_stopping.patience)
    data["schedule"] = schedules.scaled(recipe.schedule, scale).model_dump(mode="json")
    return Recipe.model_validate(data)


def rerun(
    section: str,
    competition_name: str,
    competition: Competition,
    *,
    scale: float,
    seeds: Sequence[int],
    only: Sequence[str] = (),
    overrides: Sequence[str],
    device: str,
    threads: int | None,
    command: list[str],
) -> Path:
    """Run every row, or `only` some, with every seed that is not done yet; return the folder with table and figures.

    All rows of one seed are run before the next seed, so that a rerun that is stopped has results. A row that diverges
    with some seed, or is over the competition's limit, is named in the table but left out of claims and figures, since
    the remaining seeds are a biased sample. Overrides are part of the names of the runs.
    """
    if not 0 < scale <= 1:
        raise UserError(f"--scale {scale:g}: expected a fraction of each run, above 0 and at most 1")
    suffix = f"{competition_name}{'' if scale == 1 else f'-x{scale:g}'}{_digest(overrides)}"
    chosen = _chosen(section, only)
    done: dict[str, Done] = {row: [] for row in chosen}
    faults: dict[str, dict[int, UserError]] = {}
    folder = paths.runs() / f"logbook-{section.lower()}-{suffix}"
    for old in folder.glob("*.png"):  # of other rows, or of fewer seeds
        old.unlink()
    for number, seed in enumerate(seeds, 1):
        for row in chosen:
            recipe = shortened(load_recipe(row, [*overrides, f"seed={seed}"]), scale)
            task = RunRequest(row, recipe, competition_name, competition, command, device, threads)
            try:
                done[row] += series.run_all({f"{row}-{suffix}-s{seed}": task})
            except (DivergedError, OverBudget) as fault:
                faults.setdefault(row, {})[seed] = fault
                say(f"  {row}: {_in_short(fault)}; continuing with the next row")
        sound = {row: done[row] for row in chosen if row not in faults}
        judged = verdicts(section, sound)
        outcomes = {row: _fault(faults[row]) if row in faults else done[row] for row in chosen}
        atomic.write_text(folder / "table.md", table(outcomes, judged, scale, competition.metric.name, number))
        _draw_curves(chosen, sound, folder, competition.metric.name)
        if judged and number > 1:
            _draw_verdicts(judged, folder / "claims.png")
    return folder


def _digest(overrides: Sequence[str]) -> str:
    """Return a suffix for run names that depends on the overrides but the seed, which is in the names already."""
    settings = [override for override in overrides if not override.startswith("seed=")]
    return f"-set{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:6]}" if settings else ""


def _in_short(fault: UserError) -> str:
    return str(fault).split(". ")[0]


def _fault(faults: Mapping[int, UserError]) -> str:
    """Return why a row has no results. The limit is the same for every seed."""
    first = next(iter(faults.values()))
    if isinstance(first, OverBudget):
        return f"over the limit: {_in_short(first)}"
    return f"diverged with seed {', '.join(map(str, faults))}: {_in_short(first)}"


def _chosen(section: str, only: Sequence[str]) -> list[str]:
    """Return the rows to run: all, those named, or, for the word `claims`, those that the claims are about."""
    every = rows(section)
    if list(only) == ["claims"]:
        named = {row for claim in CLAIMS[section.upper()] for row in (claim.better, claim.worse)}
        return [row for row in every if row in named]
    for row in only:
        if row not in every:
            raise UserError(f"--rows: section {section.upper()} has no row '{row}'{nearest(row, every)}")
    return [row for row in every if row in only or not only]


def verdicts(section: str, done: Mapping[str, Done]) -> list[Verdict]:
    """Test the section's claims for which both rows were run, by the scores on unseen images, or
    else on the holdout.
    """
    scores = {row: [result.unbiased or result.holdout for _, result in several] for row, several in done.items()}
    tested = [claim for claim in CLAIMS[section.upper()] if {claim.better, claim.worse} <= set(done)]
    return judge({claim: (scores[claim.better], scores[claim.worse]) for claim in tested})


def table(outcomes: Mapping[str, Done | str], judged: Sequence[Verdict], scale: float, metric: str, seeds: int) -> str:
    """Return the rows, each with its runs or the reason why it has none, and the claims, as Markdown tables."""
    length = "in full" if scale == 1 else f"at {scale:g} of their length"
    what = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "with 95 % intervals"
    lines = [
        f"Runs {length}; {metric} {what}.",
        "",
        "| row | parameters | epochs | train | holdout | unseen | what the logbook says |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    shown = f"train_{plotting.panels(spoken(metric))[spoken(metric)]}"
    for row, several in outcomes.items():
        if isinstance(several, str):
            lines.append(f"| {row} | | | | | | **{several}** {head(row)} |")
            continue
        histories = [run.history for run, _ in several]
        epochs = _of([len(history) for history in histories], ".3g")
        trained = _of([value for history in histories for value in history.get(shown, pd.Series())[-1:].dropna()])
        held = _scores([result.holdout for _, result in several])
        unseen = _scores([result.unbiased for _, result in several])
        parameters = f"{several[0][1].parameters:,}"
        lines.append(f"| {row} | {parameters} | {epochs} | {trained} | {held} | {unseen} | {head(row)} |")
    if judged:
        part = (
            "unseen images"
            if any(of[0][1].unbiased for of in outcomes.values() if not isinstance(of, str))
            else "holdout"
        )
        lines += [
            "",
            f"What it claims, by {metric} on the {part}: the mean gain over seeds, its 95 % interval, and the p-value "
            f"of a paired t-test, corrected for {len(judged)} at once (Holm), significant below {ALPHA:g}.",
            "",
            "| claim | there | rows | gain | |",
            "|---|---|---|---|---|",
            *(
                f"| {one.claim.text} | {one.claim.figures} | {one.claim.better}, {one.claim.worse} | {one.gain} | "
                f"{one.word} |"
                for one in judged
            ),
        ]
    return "\n".join(lines) + "\n"


def _scores(scores: Sequence[Score | None]) -> str:
    known = [score for score in scores if score is not None]
    if len(known) == 1:
        return f"{known[0].value:.4f} [{known[0].low:.4f}, {known[0].high:.4f}]"
    return _of([score.value for score in known])


def _of(values: Sequence[float], form: str = ".4f") -> str:
    """Return the mean and, for several different values, their standard deviation; an empty string for none."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):{form}}"
    return f"{mean} ± {statistics.stdev(values):{form}}" if len(set(values)) > 1 else mean


def _mean_history(several: Done) -> pd.DataFrame:
    """Return the mean over seeds by epoch; after an early stop, over the seeds that continued."""
    histories = pd.concat([run.history for run, _ in several])
    return histories.groupby("epoch", as_index=False).mean()


def _draw_curves(chosen: Sequence[str], sound: Mapping[str, Done], folder: Path, metric: str) -> None:
    """Draw the finished rows: one figure of all, and those of the write-ups."""
    for picture, together in {"curves": chosen, **TOGETHER}.items():
        drawn = {row: _mean_history(sound[row]) for row in together if row in sound}
        if drawn and set(together) <= set(chosen):
            comparison.draw(drawn, folder / f"{picture}.png", metric)


def _draw_verdicts(judged: Sequence[Verdict], path: Path) -> None:
    """Draw each claim's mean gain with its interval, and the gain of each seed."""
    metric = metric_by_name(judged[0].metric)
    scale = metric.scale
    picture, axes = plotting.figure(1, 1, width=9, height=0.5 * len(judged) + 1)
    for place, one in enumerate(judged):
        mean = statistics.mean(one.gains) * scale
        axes[0, 0].plot([one.low * scale, one.high * scale], [place, place], color="C0")
        axes[0, 0].plot([gain * scale for gain in one.gains], [place] * len(one.gains), "|", color="C7")
        axes[0, 0].plot([mean], [place], "o", color="C0")
    axes[0, 0].axvline(0, color="black", linewidth=0.8)
    axes[0, 0].set_yticks(range(len(judged)), [f"{one.claim.text}: {one.word}" for one in judged])
    axes[0, 0].invert_yaxis()
    axes[0, 0].set_xlabel(f"gain in {metric.unit}: mean, 95 % interval, seeds")
    axes[0, 0].grid(axis="x", alpha=0.3)
    plotting.save(picture, path)


def log(folder: Path, section: str, command: str) -> Path:
    """Append the results of a section's rerun to submissions/LOG.md under today's date, and copy
    its figures beside it.
    """
    path = paths.submissions() / "LOG.md"
    text = (folder / "table.md").read_text()
    before = path.read_text() if path.exists() else "# What was tried, and the results\n"
    if text in before:
        return path
    links = []
    for picture in sorted(folder.glob("*.png")):
        copy = path.parent / "logbook" / f"{folder.name}-{picture.name}"
        atomic.write_bytes(copy, picture.read_bytes())
        links.append(f"![{picture.stem}](logbook/{copy.name})")
    title = f"## {datetime.now(UTC):%Y-%m-%d}: section {section.upper()} of the logbook"
    pieces = [before.rstrip(), title, f"`{command}`, commit {commit() or 'unknown'}.", text.rstrip(), *links]
    atomic.write_text(path, "\n\n".join(pieces) + "\n")
    return path
