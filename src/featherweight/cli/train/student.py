"""Distil finished runs into one model, which learns from their probabilities. The runs are the folds of one series,
where each teaches the images that it held out, or runs with the same split.

Only the student must be within the limit. It has the first run's recipe, or that of --recipe.
"""

from __future__ import annotations

import argparse

from featherweight.cli.arguments import RECIPES, add_report, add_runs, completed, overrides
from featherweight.cli.train.finish import finish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `student`."""
    add_runs(parser, more=": the teachers")
    text = "the student's recipe (default: the first run's)"
    completed(parser.add_argument("--recipe", metavar="RECIPE", help=text), RECIPES)
    text = "change a key: train.epochs=60, distill.weight=0.9"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)
    parser.add_argument("--seed", type=int, help="the student's seed (default: the recipe's)")
    parser.add_argument("--views", help="test-time views: none, flip, flip+shift, train:8 (default: the recipe's)")
    parser.add_argument("--name", help="the run's name (default: student-competition-seed)")
    add_report(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make the student and train it like any run."""
    from featherweight.runs.student import student

    taught = student(arguments.run, arguments.recipe, overrides(arguments), arguments.name, arguments.command_line)
    return finish(taught, arguments.report)
