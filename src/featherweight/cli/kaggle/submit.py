"""Count the parameters of a run's weights again, check its CSV, upload it to Kaggle and record it in the ledger."""

from __future__ import annotations

import argparse

from featherweight.cli.arguments import RUNS, add_competition, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `submit`."""
    completed(parser.add_argument("what", metavar="RUN|CSV", help="a run's name, or any submission file"), RUNS)
    parser.add_argument("-m", "--message", help="description (default: the run, its holdout score, its commit)")
    add_competition(parser, default=None, text="the competition of a CSV that no run wrote")
    parser.add_argument("--kernel", action="store_true", help="enter the notebook sent by ./run.sh kernel --push")
    parser.add_argument("--again", action="store_true", help="submit even if the same file was submitted before")
    parser.add_argument("--wait", action="store_true", help="wait for the score, up to half an hour")


def run(arguments: argparse.Namespace) -> int:
    """Upload the CSV, or enter the notebook."""
    from featherweight.kaggle import submit_and_score

    result = submit_and_score.submit(
        arguments.what,
        competition=arguments.competition,
        message=arguments.message,
        again=arguments.again,
        wait_minutes=30 if arguments.wait else 0,
        by_kernel=arguments.kernel,
    )
    print(result)
    return 0
