"""Check a submission and, if the answers are known, score it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from featherweight import paths
from featherweight.cli.arguments import FILES, add_competition, completed
from featherweight.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `score`."""
    completed(
        parser.add_argument("csv", type=Path, metavar="RUN|CSV", help="a run's name, or any submission file"), FILES
    )
    add_competition(parser, default=None, text="a competition's name, or its file (default: its run's)")
    parser.add_argument(
        "--solution", type=Path, help="the answers: a CSV like a submission, with a Usage column or without"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the result."""
    if arguments.competition:
        paths.find_config("competitions", arguments.competition)

    from featherweight import config
    from featherweight.runs import expected_score, ledger
    from featherweight.runs.run import Run
    from featherweight.submission import grading

    submission, solution = arguments.csv, arguments.solution
    if not submission.exists() and Run.exists(str(submission)):
        submission = Run.find(str(submission)).csv()
    if not submission.is_file():
        raise UserError(f"cannot read {submission}: No such file or directory")
    name = arguments.competition or ledger.maker(submission).get("competition")
    if not name:
        raise UserError(f"{submission} is of no run in the ledger: name its competition with --competition")
    overrides = [] if solution is None else [f"submission.solution={json.dumps(str(solution.absolute()))}"]
    competition = config.load_competition(name, overrides)
    print(f"{submission} as a submission of {name} ({competition.title})")
    print(grading.score_csv(submission, competition))
    run = ledger.maker(submission).get("run", "")
    expected = expected_score.updated(Run.find(run)) if Run.exists(run) else None
    if expected is not None:
        print("\n  ".join([f"expected, with all runs and scores known today: {expected}", *expected.details]))
    submits = f"submit {submission} --competition {name}"
    print(f"next: ./run.sh {submits if competition.kaggle else 'runs'}")
    return 0
