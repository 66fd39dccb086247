"""Measure the peak memory of a whole run on CIFAR-10, beyond what `import torch` takes.

    ./run.sh bench memory [--recipe wrn16_4] [--competition cifar10]
    ./run.sh bench memory --recipe finetune_lite0 --competition COMPETITION --epochs 8   # memory per epoch

The run is started as a user would, with a few steps: training, holdout, test set, CSV and report; all images are packed
before. The result is the peak resident set size of its process, which includes the touched pages of the mapped pack.
With `--epochs` (Linux only), the resident set size and its peak are read from the system at the end of each epoch.
Writes a dated JSON to reports/bench/.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _record
from featherweight import paths

CHECKOUT = Path(__file__).resolve().parents[1]
GOAL = 1.5 * 2**30
PEAK = "import resource; print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
RUN = f"""
import sys
from featherweight.cli.main import main
code = main(sys.argv[1:])
{PEAK}
sys.exit(code)
"""


def peak(code: str, words: list[str], home: str) -> int:
    """Return the peak resident set size of a Python process, in bytes."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT / "src"),
        "FEATHERWEIGHT_HOME": home,
        "FEATHERWEIGHT_DATA": os.environ.get("FEATHERWEIGHT_DATA", str(CHECKOUT / "data")),
        "FEATHERWEIGHT_CACHE": os.environ.get("FEATHERWEIGHT_CACHE", str(CHECKOUT / "data" / ".packs")),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"the run failed:\n{done.stdout}{done.stderr}")
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout.rsplit("PEAK ", 1)[1]) * unit


def by_epoch(words: list[str]) -> list[dict[str, float]]:
    """Return the resident set size of a run's process and its peak, in bytes, at the end of each epoch."""
    name = f"bench-memory-{os.getpid()}"
    command = [sys.executable, "-m", "featherweight", *words, "--name", name, "--no-report"]
    rows: list[dict[str, float]] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        history = paths.runs() / name / "history.csv"
        while process.poll() is None:
            done = len(history.read_text().splitlines()) - 1 if history.exists() else 0
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}
            if done > len(rows) and "VmRSS" in sizes:
                rows.append({"epoch": done, "resident": sizes["VmRSS"], "peak": sizes["VmHWM"]})
                print(f"  epoch {done}: {sizes['VmRSS'] / 1e9:.2f} GB, at most {sizes['VmHWM'] / 1e9:.2f}", flush=True)
            time.sleep(0.1)
    if process.returncode:
        sys.exit("the run failed")
    shutil.rmtree(paths.runs() / name)
    return rows


def main() -> None:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="wrn16_4")
    parser.add_argument("--competition", default="cifar10")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--epochs", type=int, help="run this many whole epochs and measure at the end of each")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe (with --epochs)"
    )
    parser.add_argument(
        "--views", default="none", help="test-time views (computed one by one, so more views need no more memory)"
    )
    arguments = parser.parse_args()
    words = [arguments.recipe, "--competition", arguments.competition]
    if arguments.epochs:
        keys = [f"train.epochs={arguments.epochs}", *arguments.set]
        words += [word for key in keys for word in ("--set", key)]
        path = _record.write(
            "memory-by-epoch", f"{' '.join(words)}: resident bytes by epoch", {"epochs": by_epoch(words)}
        )
        print(f"wrote {path}")
        return
    options = ["--set", f"train.steps={arguments.steps}", "--views", arguments.views]
    with tempfile.TemporaryDirectory() as home:
        torch_alone = peak(f"import torch\n{PEAK}", [], home)
        began = time.perf_counter()
        whole = peak(RUN, [*words, *options], home)
        seconds = time.perf_counter() - began
    beyond = whole - torch_alone
    path = _record.write(
        "memory",
        f"{' '.join([*words, *options])}: peak resident bytes of the run and of `import torch` alone",
        {
            "goal_bytes": GOAL,
            "run": whole,
            "import_torch": torch_alone,
            "beyond": beyond,
            "seconds": seconds,
            "page_bytes": resource.getpagesize(),
        },
    )
    sizes = " - ".join(f"{size / 2**30:.2f}" for size in (whole, torch_alone))
    print(f"{sizes} = {beyond / 2**30:.2f} GiB beyond torch (goal {GOAL / 2**30:g}); wrote {path}")


if __name__ == "__main__":
    main()
