"""Average the probabilities of several runs, if their parameters together are within the limit."""

from __future__ import annotations

import argparse

from featherweight.cli.arguments import add_runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `ensemble`."""
    add_runs(parser)
    parser.add_argument("--fit", action="store_true", help="weight the members by their likelihood on the holdout")
    parser.add_argument("--name", help="name of the new run (default: ensemble-competition-seed)")


def run(arguments: argparse.Namespace) -> int:
    """Make the ensemble and print its score."""
    from featherweight.report import tables
    from featherweight.runs import ensemble as ensembles

    averaged = ensembles.ensemble(arguments.run, fit=arguments.fit, name=arguments.name, command=arguments.command_line)
    tables.summary(*averaged)
    return 0
