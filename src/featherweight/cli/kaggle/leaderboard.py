"""Show the top teams of a competition's public leaderboard."""

from __future__ import annotations

import argparse

from featherweight.cli.arguments import COMPETITIONS, completed, how_many


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `leaderboard`."""
    text = "a competition here, or its name on Kaggle"
    completed(parser.add_argument("name", metavar="NAME", help=text), COMPETITIONS)
    parser.add_argument("--top", type=how_many, default=20, help="how many teams (default: 20)")


def run(arguments: argparse.Namespace) -> int:
    """Print the teams."""
    from featherweight.kaggle import submit_and_score
    from featherweight.report import tables

    tables.leaderboard(submit_and_score.leaderboard(arguments.name, arguments.top))
    print("next: ./run.sh submit RUN")
    return 0
