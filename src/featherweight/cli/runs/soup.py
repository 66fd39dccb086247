"""Average the weights of several runs of one model; the result is scored and recorded like a run."""

from __future__ import annotations

import argparse

from featherweight.cli.arguments import add_runs
from featherweight.cli.train.finish import finish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `soup`."""
    add_runs(parser)
    parser.add_argument("--greedy", action="store_true", help="add a run only if the holdout score does not decrease")
    parser.add_argument("--name", help="name of the new run (default: soup-competition-seed)")


def run(arguments: argparse.Namespace) -> int:
    """Make the soup and finish it like any run."""
    from featherweight.runs import soup as soups

    averaged = soups.soup(arguments.run, greedy=arguments.greedy, name=arguments.name, command=arguments.command_line)
    return finish(averaged, report=True, warn=soups.far_below)
