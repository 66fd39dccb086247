"""Runs of random recipes killed at random moments, gone on with, and compared with ones that nobody disturbed.

    ./run.sh bench soak --kills 200

Every recipe is trained once to its end. Then it is started again under another name in a workspace of its own, killed
(SIGKILL, with all its processes) after a random part of the time that the first took, resumed, killed again, until it
ends. Its weights, probabilities and CSV must have the bytes of the first, and nothing may lie beside them. The result
is written to benchmarks/results/ after every recipe; the same command goes on with the record of today.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import _record

ROOT = Path(__file__).resolve().parents[1]
BASE = ("tiny", "--no-report", "--threads", "1", "--set", "train.checkpoint_seconds=0", "--set", "split.subset=800")
PARTS: dict[str, tuple[str, ...]] = {
    "sam": ("sam={rho: 0.05}",),
    "accumulate": ("train.accumulate=2",),
    "ema": ("averages=[ema]", "ship=ema"),
    "swa": ("averages=[{name: swa, start: 0.5}]", "ship=swa"),
    "lookahead": ("averages=[lookahead]", "ship=raw"),
    "distillation": ("distill={teachers: [teacher]}",),
    "growth": ("growth={scales: [0.75], until: [0.5]}",),
    "early stopping": ("early_stopping={patience: 4}",),
    "mixup": ("mix=[mixup]",),
    "cutmix": ("mix=[cutmix]",),
    "folds": ("split.folds=4", "split.fold=1"),
    "warmup": ("warmup={fraction: 0.3}",),
    "calibration": ("predict.calibrate=true",),
    "views": ("predict.views=[shift]",),
}
APART = ({"ema", "swa", "lookahead"}, {"mixup", "cutmix"}, {"folds", "distillation"})  # that set the same key, or clash
FILES = (
    "weights.safetensors",
    "holdout_probs.npy",
    "predict_probs.npy",
    "split.json",
    "holdout.csv",
    "temperature.txt",
)
LONGEST = 40  # kills of one run: of one that gets nowhere, too


def main() -> None:
    """Kill until there are so many kills in the record."""
    parser = argparse.ArgumentParser(prog="./run.sh bench soak", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="in the record, earlier ones of today included")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=600, help="begin no recipe after this many")
    parser.add_argument("--seed", type=int, default=0, help="of the recipes and the moments")
    given = parser.parse_args()
    told = _record.earlier("soak") or {"rounds": []}
    rounds: list[dict[str, Any]] = told["rounds"]
    began = time.monotonic()
    print("a recipe takes some minutes: about a dozen starts of the program, of some seconds each")
    while sum(one["kills"] for one in rounds) < given.kills and time.monotonic() - began < 60 * given.minutes:
        rng = random.Random(f"{given.seed} {len(rounds)}")
        rounds.append(soaked(rng, given.epochs))
        summary = {
            "kills": sum(one["kills"] for one in rounds),
            "recipes": len(rounds),
            "different": sum(len(one["different"]) for one in rounds),
            "litter": sum(len(one["litter"]) for one in rounds),
        }
        path = _record.write("soak", "random kills over random recipes on digits", {**summary, "rounds": rounds})
        print(f"{summary}\n  {rounds[-1]}", flush=True)
    print(f"wrote {path}" if rounds else "nothing was done")


def soaked(rng: random.Random, epochs: int) -> dict[str, Any]:
    """One recipe: what it is of, how often it was killed, what differs and what was left."""
    names = rng.sample(sorted(PARTS), rng.randint(1, 4))
    for apart in APART:
        clash = [name for name in names if name in apart]
        names = [name for name in names if name not in clash[1:]]
    processes = rng.choice((1, 1, 1, 2))
    words = [*BASE, "--set", f"train.epochs={epochs}", "--seed", str(rng.randint(0, 999))]
    words += [word for name in names for change in PARTS[name] for word in ("--set", change)]
    words += ["--procs", "2", "--threads", "2"] if processes == 2 else []
    with tempfile.TemporaryDirectory() as folder:
        calm, wild = Path(folder) / "calm", Path(folder) / "wild"
        calm.mkdir()
        if "distillation" in names:
            _run(calm, [*BASE, "--set", "train.epochs=2", "--name", "teacher"])
            shutil.copytree(calm, wild)
        else:
            wild.mkdir()
        clock = time.monotonic()
        _run(calm, [*words, "--name", "run"])
        whole = time.monotonic() - clock
        kills = _killed(wild, [*words, "--name", "run"], whole, rng)
        return {
            "of": [*names, *(["2 processes"] if processes == 2 else [])],
            "seconds": round(whole, 1),
            "kills": kills,
            "different": [name for name, digest in _bytes(calm).items() if _bytes(wild).get(name) != digest],
            "litter": _litter(wild, calm),
        }


def _killed(home: Path, words: list[str], whole: float, rng: random.Random) -> int:
    """Start a run and kill it, again and again, until it ends before it is killed; returns the number of kills."""
    for kills in range(LONGEST):
        begun = (home / "runs" / "run" / "run.json").exists()
        process = _start(home, ["resume", "run", "--no-report"] if begun else words)
        try:
            out = process.communicate(timeout=rng.uniform(0.15, 1.0) * whole)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            continue
        if process.returncode:
            raise SystemExit(f"a run that was killed {kills} times did not go on:\n{out}")
        return kills
    _run(home, ["resume", "run", "--no-report"])
    return LONGEST


def _start(home: Path, words: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "FEATHERWEIGHT_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "run.sh"), *words]
    return subprocess.Popen(
        command, env=environment, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _run(home: Path, words: list[str]) -> None:
    process = _start(home, words)
    out = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}\n{out}")


def _bytes(home: Path) -> dict[str, str]:
    """The checksums of what a run ends in."""
    files = [home / "runs" / "run" / name for name in FILES] + [home / "submissions" / "run.csv"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.exists()}


def _litter(wild: Path, calm: Path) -> list[str]:
    """Files that the undisturbed workspace has not."""

    def tree(home: Path) -> set[str]:
        return {str(path.relative_to(home)) for path in home.rglob("*") if not path.name.endswith(".lock")}

    return sorted(tree(wild) - tree(calm))


if __name__ == "__main__":
    main()
