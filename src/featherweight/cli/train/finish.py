"""The common end of `train`, `resume` and `soup`: finish the run, write its report, print its summary."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from featherweight.console import say
from featherweight.errors import printable
from featherweight.runtime import launcher

if TYPE_CHECKING:
    from featherweight.runs.run import Run
    from featherweight.training.deadline import Deadline


def finish(
    run: Run, report: bool, warn: Callable[[Run], str] = lambda run: "", deadline: Deadline | None = None
) -> int:
    """Finish the run, by the `deadline` if there is one, and print the result; return the exit code.

    `warn` is called with the finished run; the text that it returns is shown in the summary.
    """
    from featherweight.report import tables
    from featherweight.runs import pipeline

    try:
        result = pipeline.execute(run, deadline)
        if launcher.rank() > 0:
            return 0
        report = report and not run.is_ensemble  # its members have reports
        if report and run.competition.target == "several":
            say("  no report is written: reports are for one class per image")
            report = False
        fault = write_report(run) if report else ""
        tables.summary(run, result, warn(run))
        if fault:
            print(fault, file=sys.stderr)
    except KeyboardInterrupt:
        if launcher.rank() == 0:
            print(f"\nstopped; continue with: ./run.sh resume {run.name}", file=sys.stderr)
        return 130
    return 0


def write_report(run: Run) -> str:
    """Write the report; return an empty string, or a message if it fails, since the result is valid without it."""
    from featherweight.report import write

    try:
        write.write(run)
    except Exception as error:  # reported together with the result, which is valid
        why = printable(str(error)).splitlines()[:1] or [""]
        message = f"the report could not be written ({type(error).__name__}: {why[0]})"
        return f"{message}; try again: ./run.sh report {run.name}"
    return ""
