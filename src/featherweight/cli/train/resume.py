"""Continue a run that was stopped; the result has the same bytes as without the interruption."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from featherweight.cli.arguments import add_report, add_run
from featherweight.cli.train.finish import finish
from featherweight.errors import ProcessLostError

if TYPE_CHECKING:
    from featherweight.runs.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `resume`."""
    add_run(parser)
    add_report(parser)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # given by `launcher.launch`
    parser.add_argument("--new", action="store_true", help=argparse.SUPPRESS)  # likewise; see `Run.is_new`


def run(arguments: argparse.Namespace) -> int:
    """Finish the run."""
    from featherweight.runs.run import Run

    found = replace(Run.find(arguments.run), is_new=arguments.new)
    return _work(found) if arguments.worker else finish(found, arguments.report)


def _work(found: Run) -> int:
    """Do the part of one of several processes; the process that started them reports the result."""
    from featherweight.runs import pipeline

    try:
        pipeline.execute(found)
    except ProcessLostError as error:
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0
