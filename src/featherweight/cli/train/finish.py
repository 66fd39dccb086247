"""How `train`, `resume` and `soup` end: what of a run is not yet done, its report and its summary."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from featherweight.runtime import launcher

if TYPE_CHECKING:
    from featherweight.runs.run import Run


def finish(run: Run, report: bool) -> int:
    """Do what of a run is not yet done, and tell how it ended; returns the exit code."""
    from featherweight.report import tables
    from featherweight.runs import pipeline

    try:
        result = pipeline.run(run)
        if launcher.rank() > 0:
            return 0
        if report:
            from featherweight.report import write

            write.write(run)
        tables.summary(run, result)
    except KeyboardInterrupt:
        if launcher.rank() == 0:
            print(f"\nstopped; go on with: ./run.sh resume {run.name}", file=sys.stderr)
        return 130
    return 0
