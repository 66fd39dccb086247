"""Measure the seconds from the command to the first training step, stage by stage, with a packed data set.

    ./run.sh bench start [--recipe wrn16_4] [--competition cifar10]

Each round is a separate process, `./run.sh RECIPE --competition NAME`, in an empty workspace that shares the packs. It
is stopped after its first step and prints the time of each stage. Writes a dated JSON to reports/bench/.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _record

CHECKOUT = Path(__file__).resolve().parents[1]
GOAL = 5.0  # seconds


def child(words: list[str]) -> None:
    """Run the command with its stages timed; print when each ended, in seconds since 1970 (Unix time)."""
    over = {"python": time.time()}
    import torch  # noqa: F401

    over["torch"] = time.time()
    from featherweight import config  # noqa: F401
    from featherweight.cli.main import main
    from featherweight.runs import pipeline, request

    over["imports"] = time.time()
    from featherweight import budget
    from featherweight.data import pack
    from featherweight.training import trainer

    def timed(place: Any, name: str, stage: str) -> None:
        inner: Callable[..., Any] = getattr(place, name)

        def outer(*arguments: Any, **options: Any) -> Any:
            result = inner(*arguments, **options)
            over[stage] = time.time()
            return result

        setattr(place, name, outer)

    def first_step(*arguments: Any) -> None:
        step(*arguments)
        over["first step"] = time.time()
        print("STAGES " + json.dumps(over), flush=True)
        os._exit(0)

    timed(request.RunRequest, "start", "weigh-in and run folder")
    timed(budget, "weigh", "weigh-in again")
    timed(pack, "load", "list the files, map the pack")
    timed(pipeline, "split", "split")
    timed(trainer, "standardize", "model; mean and deviation of the images")
    step = trainer.Trainer.step_on
    trainer.Trainer.step_on = first_step  # type: ignore[assignment,method-assign]
    main(words)


def one(words: list[str], home: str) -> dict[str, float]:
    """Return the seconds that each stage of one start took."""
    environment = {
        **os.environ,
        "FEATHERWEIGHT_PYTHON": sys.executable,
        "FEATHERWEIGHT_HOME": home,
        "FEATHERWEIGHT_DATA": os.environ.get("FEATHERWEIGHT_DATA", str(CHECKOUT / "data")),
        "FEATHERWEIGHT_CACHE": os.environ.get("FEATHERWEIGHT_CACHE", str(CHECKOUT / "data" / ".packs")),
    }
    began = time.time()
    command = ["bash", str(CHECKOUT / "run.sh"), "bench", "start", "--child", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    stamped = [line for line in done.stdout.splitlines() if line.startswith("STAGES ")]
    if not stamped:
        sys.exit(f"the command did not come to its first step:\n{done.stdout}{done.stderr}")
    stages, before = {}, began
    for name, moment in sorted(json.loads(stamped[0].removeprefix("STAGES ")).items(), key=lambda pair: pair[1]):
        stages[name], before = moment - before, moment
    return {**stages, "all": before - began}


def main() -> None:
    """Measure, print, write the record."""
    if "--child" in sys.argv:
        child(sys.argv[sys.argv.index("--child") + 1 :])
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="wrn16_4")
    parser.add_argument("--competition", default="cifar10")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    words = [arguments.recipe, "--competition", arguments.competition]
    with tempfile.TemporaryDirectory() as home:
        one([*words, "--name", "warm"], home)  # packs the data if needed, and fills the disk cache
        rounds = [one([*words, "--name", f"r{number}"], home) for number in range(arguments.rounds)]
    medians = {stage: statistics.median(each[stage] for each in rounds) for stage in rounds[0]}
    for stage, seconds in medians.items():
        print(f"  {stage:<42} {seconds:6.2f} s")
    every = [each["all"] for each in rounds]
    path = _record.write(
        "start",
        f"{' '.join(words)}: seconds from the command to the end of the first training step, data packed",
        {"goal_seconds": GOAL, "median": medians, "spread": [min(every), max(every)], "rounds": rounds},
    )
    print(f"{medians['all']:.2f} s (from {min(every):.2f} to {max(every):.2f}; goal {GOAL:g}); wrote {path}")


if __name__ == "__main__":
    main()
