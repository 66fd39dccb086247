"""The main job, and going on with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight import paths
from featherweight.cli.arguments import add_configuration, add_report, overrides, parser_of
from featherweight.cli.on_kaggle import submit
from featherweight.errors import Lost, UserError
from featherweight.runtime import launcher

if TYPE_CHECKING:
    from featherweight.config import Recipe
    from featherweight.runs.run_folder import Run, Task


def train(words: Sequence[str]) -> int:
    """The main job."""
    parser = parser_of("RECIPE", "Train a recipe, score it, predict the test set, write a checked submission.")
    parser.add_argument("recipe", help="a recipe's name, or the path of a recipe file")
    add_configuration(parser)
    parser.add_argument("--name", help="the run's name (default: recipe-competition-seed)")
    parser.add_argument("--device", default="auto", help="auto (a CUDA GPU, else cpu), cpu, cuda, cuda:1, mps")
    parser.add_argument("--threads", type=int, help="processor threads (default: one a core)")
    parser.add_argument("--procs", type=int, help="share every batch between so many processes (a GPU each)")
    parser.add_argument("--seeds", help="run it once for each of these seeds: 0-4, or 0,3,7")
    parser.add_argument("--folds", type=int, help="run it once for each of so many folds, each held out once")
    parser.add_argument("--submit", action="store_true", help="upload the submission to Kaggle when the run is done")
    add_report(parser)
    given = parser.parse_args(words)
    paths.find_config("competitions", given.competition)
    if given.seeds is not None or given.folds is not None:
        return _series(given, ["./run.sh", *words])

    from featherweight import config
    from featherweight.runs import run_folder

    if given.submit:
        from featherweight.kaggle import loop as kaggle_loop

        kaggle_loop.refuse_if_impossible(given.competition)
    command = ["./run.sh", *words, *([f"--procs={launcher.count()}"] if launcher.inside() else [])]
    run = run_folder.start(_task(given, config.load_recipe(given.recipe, overrides(given)), command), given.name)
    code = finish(run, given.report)
    return submit([run.name]) if given.submit and code == 0 else code


def _task(given: argparse.Namespace, recipe: Recipe, command: list[str]) -> Task:
    from featherweight import config
    from featherweight.runs import run_folder

    return run_folder.Task(
        Path(given.recipe).stem,
        recipe,
        Path(given.competition).stem,
        config.load_competition(given.competition),
        command,
        given.device,
        given.threads,
        given.procs,
    )


def _series(given: argparse.Namespace, command: list[str]) -> int:
    from featherweight import config
    from featherweight.runs import series

    if given.submit or (given.seeds is not None and given.folds is not None):
        raise UserError("--seeds, --folds and --submit: one of them at a time")
    if given.folds is not None and given.folds < 2:
        raise UserError(f"--folds {given.folds}: expected 2 or more")
    name = given.name or f"{Path(given.recipe).stem}-{Path(given.competition).stem}"
    changes = overrides(given)
    if given.seeds is not None:
        variants = {f"{name}-s{seed}": [f"seed={seed}"] for seed in series.seeds(given.seeds)}
    else:
        folds = range(given.folds)
        variants = {f"{name}-f{fold}": [f"split.folds={given.folds}", f"split.fold={fold}"] for fold in folds}
    recipes = {run: config.load_recipe(given.recipe, [*changes, *more]) for run, more in variants.items()}
    tasks = {run: _task(given, recipe, command) for run, recipe in recipes.items()}
    done = series.run_all(tasks, _report) if given.report else series.run_all(tasks)
    series.tell(series.over_folds(done, f"{name}-folds", command) if given.folds else series.over_seeds(done))
    return 0


def _report(run: Run) -> None:
    """The report of a run of a series, unless it was written when the run was done before."""
    if launcher.rank() > 0 or (run.folder / "report" / "report.html").exists():
        return
    from featherweight.report import write

    write.write(run)


def resume(words: Sequence[str]) -> int:
    """Go on with a run."""
    parser = parser_of("resume", "Go on with a run that was stopped; it ends in the same bytes as if it had not been.")
    parser.add_argument("run", help="the run's name, or its folder")
    add_report(parser)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # `launcher.launch` says it
    given = parser.parse_args(words)

    from featherweight.runs import run_folder

    return _work(given.run) if given.worker else finish(run_folder.find(given.run), given.report)


def finish(run: Run, report: bool) -> int:
    """Do what of a run is not yet done, and tell how it ended; returns the exit code."""
    from featherweight.report import tables
    from featherweight.runs import pipeline

    try:
        result = pipeline.run(run)
        if launcher.rank() > 0:
            return 0
        if report:
            from featherweight.report import write

            write.write(run)
        tables.summary(run, result)
    except KeyboardInterrupt:
        if launcher.rank() == 0:
            print(f"\nstopped; go on with: ./run.sh resume {run.name}", file=sys.stderr)
        return 130
    return 0


def _work(name: str) -> int:
    """The part of one of several processes in a run; whoever started them tells how it ended."""
    from featherweight.runs import pipeline, run_folder

    try:
        pipeline.run(run_folder.find(name))
    except Lost as error:
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0
