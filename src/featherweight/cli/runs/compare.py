"""Compare finished runs on their held-out images: curves, scores, paired tests."""

from __future__ import annotations

import argparse

from featherweight import paths
from featherweight.cli.arguments import add_choice, add_runs, output_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `compare`."""
    add_runs(parser, "*", "; or select them with the options below")
    add_choice(parser)
    parser.add_argument("--out", type=output_file, help="output file of the curves (default: reports/compare.png)")


def run(arguments: argparse.Namespace) -> int:
    """Print the table and the verdicts, and draw the curves."""
    from featherweight.report import tables
    from featherweight.runs import comparison

    picture = arguments.out or paths.reports() / "compare.png"
    names = comparison.chosen(arguments.run, arguments.competition, arguments.where)
    rows, verdicts = comparison.compare(names, picture)
    tables.comparison(rows)
    print("\n".join(verdicts))
    print(f"next: ./run.sh report {rows['reported'].iloc[0]}")
    return 0
