"""Continue a run that was stopped; the result has the same bytes as without the interruption."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from featherweight.cli.arguments import add_report, add_run
from featherweight.cli.train.finish import finish
from featherweight.errors import ProcessLostError
from featherweight.runtime import launcher

if TYPE_CHECKING:
    from featherweight.runs.run import Run

LONGER = "for more epochs train a new run: ./run.sh RECIPE --set train.epochs=N --name NAME"


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
    if arguments.worker:
        return _work(found)
    if found.is_finished and found.weights.exists() and not found.is_ensemble and launcher.rank() == 0:
        print(f"{found.name} is finished already: nothing is trained, files that are missing are made again; {LONGER}")
    return finish(found, arguments.report)


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
