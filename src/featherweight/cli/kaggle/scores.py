"""Download the scores of all submissions from Kaggle, and add new ones to the ledger."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`scores` has no arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Print the submissions with their scores."""
    from featherweight.kaggle import submit_and_score
    from featherweight.report import tables

    rows = submit_and_score.scores()
    tables.submissions(rows)
    print("next: ./run.sh runs --plot" if len(rows) else "no submissions yet\nnext: ./run.sh submit RUN")
    return 0
