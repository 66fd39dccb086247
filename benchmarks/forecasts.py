"""Compare what runs say of their time and memory, after their first steps, with what they take.

    ./run.sh bench forecasts 'RECIPE COMPETITION [KEY=VALUE ...]' ... [--threads 1]

Each cell is trained by `./run.sh RECIPE --competition COMPETITION --set KEY=VALUE ... --no-report`. The forecast is the
line "training takes about ..."; a training of less than a minute prints none, so it is left out. The time is that
from this line to the line of the last epoch, evaluations included. The memory is the peak resident set size of the
process, to its end. Resumable within a day. Writes a dated JSON to reports/bench/.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from typing import Any

import _record

FORECAST = re.compile(r"training takes about ([\d.]+) (seconds|minutes|hours) \(.*\), ([\d.]+) GB of memory")
SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}
LAST_EPOCH = re.compile(r" *epoch +(\d+)/\1 ")
CLOSE_IN_TIME, CLOSE_IN_MEMORY = 0.15, 0.25


def measure(run: str, threads: int) -> list[dict[str, Any]]:
    """Train a cell in a process of its own; return its row: seconds and gigabytes, as forecast and as taken."""
    recipe, competition, *keys = run.split()
    words = [recipe, "--competition", competition, "--threads", str(threads), "--no-report"]
    words += [
        "--name",
        f"bench-forecasts-{os.getpid()}-{time.time_ns()}",
        *(word for key in keys for word in ("--set", key)),
    ]
    said: list[str] | None = None
    began = ended = 0.0
    process = subprocess.Popen([sys.executable, "-u", "-m", "featherweight", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if found := FORECAST.search(line):
            said, began = list(found.groups()), time.monotonic()
        if LAST_EPOCH.match(line):
            ended = time.monotonic()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{run}: the run failed")
    if said is None:
        print(f"{run}: left out; it is too short, no forecast was printed", file=sys.stderr)
        return []
    if ended < began:
        sys.exit(f"{run}: it stopped before its last epoch")
    return [
        {
            "forecast_seconds": round(float(said[0]) * SECONDS[said[1]], 1),
            "seconds": round(ended - began, 1),
            "forecast_gb": float(said[2]),
            "gb": round(used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9, 2),
        }
    ]


def main() -> None:
    """Train the cells that today's record lacks, and print how close each forecast was."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="'RECIPE COMPETITION [KEY=VALUE ...]'")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    asked = [{"run": run, "threads": arguments.threads} for run in arguments.runs]
    rows = _record.measured("forecasts", __doc__.splitlines()[0], asked, measure)
    near = dict.fromkeys(("time", "memory"), 0)
    for row in rows:
        time_off = row["seconds"] / row["forecast_seconds"] - 1
        memory_off = row["gb"] / row["forecast_gb"] - 1
        near["time"] += abs(time_off) <= CLOSE_IN_TIME
        near["memory"] += abs(memory_off) <= CLOSE_IN_MEMORY
        print(
            f"{row['seconds']:6.0f} s, forecast {row['forecast_seconds']:6.0f} ({time_off:+.0%}); "
            f"{row['gb']:.1f} GB, forecast {row['forecast_gb']:.1f} ({memory_off:+.0%}): {row['run']}"
        )
    print(f"time within {CLOSE_IN_TIME:.0%}: {near['time']} of {len(rows)}")
    print(f"memory within {CLOSE_IN_MEMORY:.0%}: {near['memory']} of {len(rows)}")


if __name__ == "__main__":
    main()
