"""A section of the logbook rerun: every row a run, then the table and the picture that the write-up had.

A row's recipe begins with the section's letter, as in a15 or c_focal; its head comment says what the row is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from featherweight import atomic, comparison, series, workspace
from featherweight.config import Competition, Recipe, load_recipe
from featherweight.errors import UserError
from featherweight.series import Done

SECTIONS = ("A", "B", "C", "D")


def rows(section: str) -> list[str]:
    """The recipes of a section in the order of its rows. Raises UserError for a section that there is not."""
    if section.upper() not in SECTIONS:
        raise UserError(f"there is no section '{section}' of the logbook; there are {', '.join(SECTIONS)}")
    names = [n for n in workspace.config_names("recipes") if re.match(rf"{section.lower()}(\d|_)", n)]
    return sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def shortened(recipe: Recipe, scale: float) -> Recipe:
    """The recipe with everything that is counted in epochs or steps multiplied by `scale`, but at least one of each."""

    def some(count: int) -> int:
        return max(1, round(count * scale))

    data = recipe.model_dump(mode="json")
    data["train"]["epochs"] = math.ceil(round(recipe.train.epochs * scale, 9))  # room for all of train.steps
    if recipe.train.steps is not None:
        data["train"]["steps"] = some(recipe.train.steps)
    if recipe.warmup is not None and recipe.warmup.epochs is not None:
        data["warmup"]["epochs"] = recipe.warmup.epochs * scale
    counted: dict[str, Callable[[Any], Any]] = {
        "at": lambda places: [some(place) for place in places],
        "epochs": lambda said: [some(epoch) for epoch in said] if isinstance(said, list) else some(said),
        "stages": lambda stages: [[some(epochs), factor] for epochs, factor in stages],
        "up": some,
        "down": lambda steps: None if steps is None else some(steps),
        "patience": some,
    }
    keys = {
        "stepped": ["epochs"],
        "milestones": ["at"],
        "every": ["epochs"],
        "staged": ["stages"],
        "cyclic": ["up", "down"],
        "plateau": ["patience"],
    }
    for key in keys.get(recipe.schedule.name, []):
        data["schedule"][key] = counted[key](data["schedule"][key])
    return Recipe.model_validate(data)


def rerun(
    section: str,
    competition_name: str,
    competition: Competition,
    *,
    scale: float,
    overrides: Sequence[str],
    device: str,
    threads: int | None,
    command: list[str],
) -> Path:
    """Run every row that is not done yet, and write its table and picture into the folder returned."""
    if not 0 < scale <= 1:
        raise UserError(f"--scale {scale:g}: expected a part of each run, over 0 and up to 1")
    suffix = f"{competition_name}{'' if scale == 1 else f'-x{scale:g}'}"
    done: Done = []
    for row in rows(section):
        recipe = shortened(load_recipe(row, overrides), scale)
        done += series.run_all(
            {f"{row}-{suffix}": recipe},
            row,
            competition_name,
            competition,
            device=device,
            threads=threads,
            command=command,
        )
    folder = workspace.runs() / f"logbook-{section.lower()}-{suffix}"
    atomic.write_text(folder / "table.md", table(done, scale))
    comparison.draw([run for run, _ in done], folder / "curves.png")
    return folder


def table(done: Done, scale: float) -> str:
    """The rows as a Markdown table; every run shortened by the scale that it states."""
    metric = done[0][0].competition.metric.name
    length = "in full" if scale == 1 else f"at {scale:g} of their length"
    lines = [
        f"Runs {length}; {metric} with 95 % intervals.",
        "",
        "| row | parameters | train | holdout | test | what the logbook says |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for run, result in done:
        last = pd.read_csv(run.folder / "history.csv").iloc[-1]
        held, tested = (
            f"{score.value:.4f} [{score.low:.4f}, {score.high:.4f}]" if score else ""
            for score in (result.holdout, result.test)
        )
        row = f"{run.recipe_name} | {result.parameters:,} | {last['train_accuracy']:.4f} | {held} | {tested}"
        lines.append(f"| {row} | {said(run.recipe_name)} |")
    return "\n".join(lines) + "\n"


def said(recipe: str) -> str:
    """A recipe's head comment on one line, without the command."""
    words = []
    for line in workspace.find_config("recipes", recipe).read_text().splitlines():
        if not line.startswith("#") or line.startswith("#   ./run.sh"):
            break
        words.append(line.removeprefix("#").strip())
    return " ".join(words)
