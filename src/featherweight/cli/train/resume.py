"""Continue a run that was stopped; it ends in the same bytes as if it had never been stopped."""

from __future__ import annotations

import argparse

from featherweight.cli.arguments import add_report, add_run
from featherweight.cli.train.finish import finish
from featherweight.errors import ProcessLostError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `resume` takes."""
    add_run(parser)
    add_report(parser)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # `launcher.launch` says it


def run(arguments: argparse.Namespace) -> int:
    """Do what is not yet done of the run."""
    from featherweight.runs.run import Run

    return _work(arguments.run) if arguments.worker else finish(Run.find(arguments.run), arguments.report)


def _work(name: str) -> int:
    """The part of one of several processes in a run; whoever started them tells how it ended."""
    from featherweight.runs import pipeline
    from featherweight.runs.run import Run

    try:
        pipeline.run(Run.find(name))
    except ProcessLostError as error:
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0
