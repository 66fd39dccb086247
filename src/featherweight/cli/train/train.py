"""Train a recipe, score it, predict the competition's images and write a checked submission."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight import paths
from featherweight.cli.arguments import add_configuration, add_machine, add_recipe, add_report, note_default, overrides
from featherweight.cli.train.finish import finish, write_report
from featherweight.errors import UserError
from featherweight.runtime import launcher

if TYPE_CHECKING:
    from featherweight.config import Recipe
    from featherweight.runs.request import RunRequest
    from featherweight.runs.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `train`."""
    add_recipe(parser)
    add_configuration(parser)
    parser.add_argument("--name", help="the run's name (default: recipe-competition-seed)")
    add_machine(parser)
    parser.add_argument("--procs", type=int, help="divide every batch among this many processes (one GPU each)")
    parser.add_argument("--seeds", help="train once with each of these seeds: 0-4, or 0,3,7")
    parser.add_argument(
        "--folds", type=int, help="cross-validation: train once for each of this many folds, which is held out"
    )
    parser.add_argument("--submit", action="store_true", help="upload the submission to Kaggle when the run is done")
    add_report(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train once, or once for each seed or fold."""
    paths.find_config("recipes", arguments.recipe)
    paths.find_config("competitions", arguments.competition)
    note_default(arguments)
    if arguments.seeds is not None or arguments.folds is not None:
        return _series(arguments)

    from featherweight import config
    from featherweight.config.contradictions import say_contradictions

    if arguments.submit:
        from featherweight.kaggle.submit_and_score import refuse_if_impossible

        refuse_if_impossible(arguments.competition)
    command = [*arguments.command_line, *([f"--procs={launcher.count()}"] if launcher.inside() else [])]
    recipe = config.load_recipe(arguments.recipe, overrides(arguments))
    task = _task(arguments, recipe, command)
    say_contradictions(recipe)
    started = task.start(arguments.name)
    code = finish(started, arguments.report)
    if arguments.submit and code == 0:
        from featherweight.kaggle.submit_and_score import submit

        print(submit(started.name))
    return code


def _task(arguments: argparse.Namespace, recipe: Recipe, command: list[str]) -> RunRequest:
    from featherweight import config
    from featherweight.runs.request import RunRequest

    return RunRequest(
        Path(arguments.recipe).stem,
        recipe,
        Path(arguments.competition).stem,
        config.load_competition(arguments.competition),
        command,
        arguments.device,
        arguments.threads,
        arguments.procs,
    )


def _series(arguments: argparse.Namespace) -> int:
    from featherweight import config
    from featherweight.config.contradictions import say_contradictions
    from featherweight.runs import series

    seeds, count, command = arguments.seeds, arguments.folds, arguments.command_line
    if arguments.submit or (seeds is not None and count is not None):
        raise UserError("--seeds, --folds and --submit cannot be combined")
    if count is not None and not 2 <= count <= series.MOST_RUNS:
        raise UserError(f"--folds {count}: expected 2 to {series.MOST_RUNS:,}")
    name = arguments.name or paths.plain(f"{Path(arguments.recipe).stem}-{Path(arguments.competition).stem}")
    changes = overrides(arguments)
    if seeds is not None:
        variants = {f"{name}-s{seed}": [f"seed={seed}"] for seed in series.seeds(seeds)}
    else:
        variants = {f"{name}-f{fold}": [f"split.folds={count}", f"split.fold={fold}"] for fold in range(count)}
    recipes = {run: config.load_recipe(arguments.recipe, [*changes, *more]) for run, more in variants.items()}
    say_contradictions(next(iter(recipes.values())))
    tasks = {run: _task(arguments, recipe, command) for run, recipe in recipes.items()}
    try:
        done = series.run_all(tasks, _report) if arguments.report else series.run_all(tasks)
    except KeyboardInterrupt:
        print("\nstopped; the same command continues, without repeating finished runs", file=sys.stderr)
        return 130
    series.tell(series.over_folds(done, f"{name}-folds", command) if count else series.over_seeds(done))
    return 0


def _report(run: Run) -> None:
    """Write the report of a run of a series, unless it exists."""
    if launcher.rank() > 0 or (run.folder / "report" / "report.html").exists():
        return
    if fault := write_report(run):
        print(fault, file=sys.stderr)
