"""The cost of an epoch against the number of images, and training on more images than the memory may hold.

    ./run.sh bench linear

Synthetic images, a small perceptron, crop and flip: what grows is what the pipeline does for each image. Every point is
a process of its own, in which `training.loop.fit` runs as in a run. 5,000, 50,000 and 500,000 images of 8x8 for an
epoch's time and the peak memory, beside a picture of both.

Then a set of 32x32 images is trained on from the memory, and mapped from the disk by a process that may not have as
much private memory (RLIMIT_DATA) as the set is large. What is mapped from a file is not private: the system keeps of it
in its cache what it has room for. Writes a dated JSON to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import _record
from featherweight import pictures
from featherweight.config import load_recipe
from featherweight.data import pack
from featherweight.data.pack import Pack
from featherweight.models import build
from featherweight.training.loop import fit
from featherweight.training.runtime import start

COUNTS = (5_000, 50_000, 500_000)
BATCH, GOAL = 256, 0.9
LARGE = 600_000  # 32x32 RGB: 1.84 GB
LIMIT = 1200 * 2**20  # of private memory, torch's own and all threads' stacks included


def write(path: Path, count: int, size: int) -> None:
    """A file of images of noise, as a pack has it."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
    for first in range(0, count, 50_000):
        array[first : first + 50_000] = rng.integers(0, 256, array[first : first + 50_000].shape, dtype=np.uint8)
    array.flush()


def child(path: Path, given: argparse.Namespace) -> None:
    """Train on the images of a file, and print the seconds of the last epoch, its images, and the peak memory."""
    if given.limit:
        resource.setrlimit(resource.RLIMIT_DATA, (given.limit, given.limit))
    if given.in_memory:
        pack.IN_MEMORY = 2**62
    mapped = np.load(path, mmap_mode="r")
    rng, count = np.random.default_rng(1), len(mapped)
    everything = Pack([str(place) for place in range(count)], mapped, rng.integers(0, 10, count))
    train, holdout = everything.take(np.arange(100, count)), everything.take(np.arange(100))
    words = [f"train.batch_size={BATCH}", f"train.epochs={given.epochs}", "model.hidden=[64]", "train.precision=fp32"]
    recipe = load_recipe("mlp", [*words, *([f"train.steps={given.steps}"] if given.steps else [])])
    torch.manual_seed(0)
    model = build(recipe.model, 10, 3, mapped.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        history = fit(recipe, model, train, holdout, 10, list(recipe.augment), start("cpu"), Path(folder))
    seconds = history["seconds"].diff().fillna(history["seconds"]).iloc[-1]
    images = int(history["step"].diff().fillna(history["step"]).iloc[-1]) * BATCH
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("TOLD " + json.dumps({"seconds": seconds, "images": images, "peak": peak}))


def one(path: Path, *options: str) -> dict[str, float]:
    """What a child tells."""
    command = [sys.executable, __file__, "--child", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(options)}: {done.stderr[-2000:]}")
    told: dict[str, float] = json.loads(done.stdout.rsplit("TOLD ", 1)[1])
    return told


def growth(folder: Path, rounds: int) -> list[dict[str, float]]:
    """A row a number of images: the median time of a second epoch, and the peak memory."""
    rows = []
    for count in COUNTS:
        write(folder / "images.npy", count, 8)
        told = [one(folder / "images.npy", "--epochs", "2") for _ in range(rounds)]
        seconds = [each["seconds"] for each in told]
        row = {
            "images": count,
            "seconds": statistics.median(seconds),
            "from": min(seconds),
            "to": max(seconds),
            "images_per_second": told[0]["images"] / statistics.median(seconds),
            "peak": max(each["peak"] for each in told),
            "data": count * 8 * 8 * 3,
        }
        rows.append(row)
        print(f"{count:>9,} images: {row['seconds']:.2f} s an epoch, peak {row['peak'] / 2**20:,.0f} MiB", flush=True)
    return rows


def beyond_memory(folder: Path, rounds: int, steps: int) -> dict[str, list[float]]:
    """Images a second, taking turns: from the memory, and mapped from the disk under the limit."""
    path = folder / "large.npy"
    write(path, LARGE, 32)
    kinds = {"in_memory": ["--in-memory"], "mapped": ["--limit", str(LIMIT)]}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, options in kinds.items():
            told = one(path, "--epochs", "1", "--steps", str(steps), *options)
            rates[kind].append(told["images"] / told["seconds"])
        print("  ".join(f"{kind} {values[-1]:,.0f}" for kind, values in rates.items()), "images/s", flush=True)
    refused = subprocess.run(
        [sys.executable, __file__, "--child", str(path), "--steps", "1", "--in-memory", "--limit", str(LIMIT)],
        capture_output=True,
        check=False,
    )
    if not refused.returncode:
        sys.exit("the limit does not hold: the whole set went into the memory")
    return rates


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """An epoch's seconds and the peak memory against the number of images."""
    picture, axes = pictures.figure(1, 2, width=5)
    counts = [row["images"] for row in rows]
    for place, key, unit, label in (
        (axes[0, 0], "seconds", 1.0, "seconds an epoch"),
        (axes[0, 1], "peak", 2**20, "MiB"),
    ):
        place.plot(counts, [row[key] / unit for row in rows], "o-")
        place.set_xscale("log")
        place.set_xlabel("images")
        place.set_ylabel(label)
        place.grid(alpha=0.3)
    axes[0, 0].set_yscale("log")
    axes[0, 0].plot(counts, [rows[-1]["seconds"] * count / counts[-1] for count in counts], "--", linewidth=1)
    axes[0, 0].set_title("dashed: in proportion")
    axes[0, 1].set_title("peak memory")
    pictures.save(picture, path)


def main() -> None:
    """Measure, print, draw, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--in-memory", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given)
        return
    with tempfile.TemporaryDirectory() as scratch:
        rows = growth(Path(scratch), given.rounds)
        rates = beyond_memory(Path(scratch), given.rounds, steps=150)
    ratio = _record.quotients(rates["mapped"], rates["in_memory"])
    path = _record.write(
        "linear",
        "8x8 images, perceptron: seconds an epoch and peak bytes by images; 32x32: images/s beyond the memory",
        {
            "goal": GOAL,
            "growth": rows,
            "large_bytes": LARGE * 32 * 32 * 3,
            "limit_bytes": LIMIT,
            "rates": rates,
            "ratio": ratio,
        },
    )
    draw(rows, path.with_suffix(".png"))
    print(f"more than the memory may hold / all in it: {_record.within(ratio)}, goal {GOAL:g}; wrote {path}")


if __name__ == "__main__":
    main()
