"""Choose a network and a number of epochs for the time you have, train it, and write a checked submission.

The candidates are first timed on this machine. The plan is stored as a recipe, which gives the same bytes again on the
same machine with the same number of threads.
"""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path

from featherweight import paths
from featherweight.cli.arguments import add_competition, add_machine, add_report, note_default
from featherweight.errors import UserError

MANY = 100_000  # hours


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `auto`."""
    add_competition(parser)
    parser.add_argument("--minutes", type=float, help="minutes from this command to the CSV")
    parser.add_argument("--hours", type=float, help="the same in hours")
    parser.add_argument("--plan", action="store_true", help="print the plan and write its recipe; train nothing")
    parser.add_argument("--name", help="the run's name (default: autoMINUTESm-competition-s0)")
    add_machine(parser)
    add_report(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make the plan and train it."""
    began = time.monotonic()
    paths.find_config("competitions", arguments.competition)
    if (arguments.minutes is None) == (arguments.hours is None):
        raise UserError("give --minutes 20 or --hours 8, the time that you have")
    minutes = arguments.minutes if arguments.hours is None else arguments.hours * 60
    if not 0 < minutes < MANY * 60:
        raise UserError(f"expected a time above 0 and below {MANY:,} hours, got {minutes:g} minutes")
    note_default(arguments)

    from featherweight import config
    from featherweight.cli.train.finish import finish
    from featherweight.planning import auto
    from featherweight.planning.costs import Machine
    from featherweight.planning.plan_file import write
    from featherweight.runs.request import RunRequest, refuse_name

    # What a run would refuse at its start is refused before planning, which takes a while.
    for place in (paths.plans(), *(() if arguments.plan else (paths.runs(), paths.submissions()))):
        paths.refuse_unwritable(place)
    if arguments.name is not None and not arguments.plan:
        refuse_name(arguments.name)
    competition = config.load_competition(arguments.competition)
    plan = auto.plan(competition, minutes, began, Machine(arguments.device, arguments.threads))
    print("\n".join(plan.lines()))
    short = Path(arguments.competition).stem
    path = write(plan, f"auto{minutes:.10g}m", short)
    print(f"the plan is stored in {path}")
    if arguments.plan:
        print(f"next: ./run.sh {shlex.quote(str(path))} --competition {shlex.quote(arguments.competition)}")
        return 0
    recipe = config.load_recipe(str(path))
    task = RunRequest(
        path.stem, recipe, short, competition, arguments.command_line, arguments.device, arguments.threads
    )
    deadline = plan.deadline(began, minutes)
    return finish(task.start(arguments.name), arguments.report, deadline=deadline)
