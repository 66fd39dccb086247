"""Measure the cost of an epoch against the number of images, and train on more images than fit into memory.

    ./run.sh bench linear

The images are synthetic and the network is a small perceptron with crop and flip, so what grows is the pipeline's work
per image. Every point is a separate process that trains as a run does; the epochs after the first are timed. First,
5,000, 50,000 and 500,000 images of 8x8 px give the time of an epoch and the peak memory (including the touched pages of
the mapped file), and a figure of both. The processes use all cores. The machine should be idle: if another program uses
all cores too, two threads that wait for each other at every operation take five times the processor time.

Then a set of 32x32 images is trained on from memory, and also mapped from disk by a process whose private memory is
limited (RLIMIT_DATA, Linux only) to less than the size of the set; before that the benchmark checks that the set cannot
be loaded under this limit. Mapped file pages are not private memory: the system keeps as many as it has room for in its
page cache. So the file's pages are dropped from that cache before each timed epoch, and the bytes that the epoch read
from disk are recorded with its speed: each page is read from disk once per epoch, and from the cache after that. Two
cases are not measured: a cache that is too small for the set, which would read pages more often, and the cache of a
virtual disk's host, which cannot be dropped. On systems without posix_fadvise, or with temporary files in memory,
nothing is dropped; then the recorded number of bytes is small.

Writes a dated JSON to reports/bench/.
"""

from __future__ import annotations

import argparse
import errno
import json
import mmap
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import _record
from featherweight import plotting
from featherweight.config import load_recipe
from featherweight.data import mapped_rows
from featherweight.data.pack import LabelledPack
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runtime.device import make_runtime
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

COUNTS = (5_000, 50_000, 500_000)
BATCH, GOAL = 256, 0.9
LARGE = 400_000  # 32x32 RGB: 1.23 GB
LIMIT = 2**30  # bytes of private memory; torch alone takes 0.9 GB for its libraries' data and its threads' stacks
BLOCK = 512  # bytes per block of getrusage


def write(path: Path, count: int, size: int) -> None:
    """Write a file of noise images in the format of a pack."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
    for first in range(0, count, 50_000):
        array[first : first + 50_000] = rng.integers(0, 256, array[first : first + 50_000].shape, dtype=np.uint8)
    array.flush()


def drop(path: Path, mapped: np.memmap[Any, Any]) -> None:
    """Drop a file from the system's page cache, so that its pages are read from disk again.

    The system does not drop pages that are mapped or not yet written, so the process first releases its mapped pages
    and flushes the file.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def lacks_memory(error: BaseException) -> bool:
    """True if the error is an out-of-memory error of Python, numpy, torch or the system."""
    words = ("DefaultCPUAllocator", os.strerror(errno.ENOMEM))
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def child(path: Path, arguments: argparse.Namespace) -> None:
    """Train on the images of a file; print the time of an epoch after the first, or that memory was refused."""
    if arguments.limit:
        resource.setrlimit(resource.RLIMIT_DATA, (arguments.limit, arguments.limit))
    if arguments.keep:
        mapped_rows.IN_MEMORY = {"memory": 2**62, "disk": 0}[arguments.keep]
    try:
        result: dict[str, Any] = dict(trained(path, arguments.epochs))
    except (MemoryError, RuntimeError, OSError) as error:
        if not lacks_memory(error):
            raise
        result = {"refused": str(error)}
    print("TOLD " + json.dumps(result))


def trained(path: Path, epochs: int) -> dict[str, float]:
    """Return, for the epochs after the first, the median seconds, images and bytes read; and the peak memory."""
    mapped = np.load(path, mmap_mode="r")
    rng, count = np.random.default_rng(1), len(mapped)
    everything = LabelledPack([str(place) for place in range(count)], mapped, rng.integers(0, 10, count))
    train, holdout = everything.take(np.arange(100, count)), everything.take(np.arange(100))
    words = [f"train.batch_size={BATCH}", f"train.epochs={epochs}", "model.hidden=[64]", "train.precision=fp32"]
    recipe = load_recipe("mlp", words)
    torch.manual_seed(0)
    model = build(recipe.model, Shape(10, 3, mapped.shape[1]))
    fetched: list[int] = []

    def between(_: object) -> None:
        fetched.append(resource.getrusage(resource.RUSAGE_SELF).ru_inblock * BLOCK)
        drop(path, mapped)

    with tempfile.TemporaryDirectory() as folder:
        examples = Examples(train, holdout, 10, recipe.augment)
        history = Trainer(recipe, model, examples, make_runtime("cpu"), Path(folder)).fit(on_epoch=between)
    return {
        "seconds": float(history["seconds"].diff().iloc[1:].median()),
        "images": int(history["step"].iloc[0]) * BATCH,
        "fetched": float(np.median(np.diff(fetched))),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def one(path: Path, *options: str) -> dict[str, Any]:
    """Return a child's result; any failure other than refused memory ends the benchmark."""
    command = [sys.executable, __file__, "--child", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"a child with {' '.join(options)} ended with {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.rsplit("TOLD ", 1)[1])
    return result


def growth(folder: Path, counts: Sequence[int], rounds: int) -> list[dict[str, float]]:
    """Return one row per number of images: the median time of an epoch after the first, and the peak memory."""
    rows = []
    for count in counts:
        write(folder / "images.npy", count, 8)
        epochs = 1 + max(1, min(10, 200_000 // count))  # several for few images, since one is too short to time
        results = [one(folder / "images.npy", "--epochs", str(epochs)) for _ in range(rounds)]
        seconds = [each["seconds"] for each in results]
        row = {
            "images": results[0]["images"],
            "seconds": statistics.median(seconds),
            "from": min(seconds),
            "to": max(seconds),
            "images_per_second": results[0]["images"] / statistics.median(seconds),
            "peak": max(each["peak"] for each in results),
            "data": count * 8 * 8 * 3,
        }
        rows.append(row)
        print(f"{count:>9,} images: {row['seconds']:.2f} s/epoch, peak {row['peak'] / 2**20:,.0f} MiB", flush=True)
    return rows


def beyond_memory(folder: Path, count: int, limit: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return images per second and bytes read per epoch, from memory and mapped under the limit, taking turns."""
    path = folder / "large.npy"
    write(path, count, 32)
    refused = one(path, "--keep", "memory", "--limit", str(limit)).get("refused")
    if refused is None:
        sys.exit("the limit does not hold: the whole set went into the memory")
    print(f"loading the whole set into memory under the limit: {refused}", flush=True)
    kinds = {"in_memory": ["--keep", "memory"], "mapped": ["--keep", "disk", "--limit", str(limit)]}
    results: dict[str, dict[str, list[float]]] = {kind: {"rates": [], "fetched": []} for kind in kinds}
    for _ in range(rounds):
        for kind, options in kinds.items():
            result = one(path, "--epochs", "2", *options)
            if "refused" in result:  # even for the mapped set: the limit shows nothing then
                sys.exit(f"{kind}: there is too little memory to train at all: {result['refused']}")
            results[kind]["rates"].append(result["images"] / result["seconds"])
            results[kind]["fetched"].append(result["fetched"])
        each = (f"{kind} {kept['rates'][-1]:,.0f}" for kind, kept in results.items())
        print(*each, f"images/s, {results['mapped']['fetched'][-1] / 2**20:,.0f} MiB from the disk", flush=True)
    return results


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Draw the seconds of an epoch and the peak memory against the number of images."""
    picture, axes = plotting.figure(1, 2, width=5)
    counts = [row["images"] for row in rows]
    for place, key, unit, label in (
        (axes[0, 0], "seconds", 1.0, "seconds per epoch"),
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
    plotting.save(picture, path)


def main() -> None:
    """Measure, print, draw, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="numbers of 8x8 images")
    parser.add_argument("--large", type=int, default=LARGE, help="number of 32x32 images")
    parser.add_argument("--limit", type=int, default=0, help=f"bytes of private memory (default: {LIMIT})")
    parser.add_argument("--out", type=Path, default=_record.RESULTS, help="the folder for the JSON and the figure")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=2, help=argparse.SUPPRESS)
    parser.add_argument("--keep", choices=("memory", "disk"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments)
        return
    limit = arguments.limit or LIMIT
    with tempfile.TemporaryDirectory() as scratch:
        rows = growth(Path(scratch), arguments.counts, arguments.rounds)
        results = beyond_memory(Path(scratch), arguments.large, limit, arguments.rounds)
    ratio = _record.quotients(results["mapped"]["rates"], results["in_memory"]["rates"])
    path = _record.write(
        "linear",
        "8x8 images, perceptron: seconds per epoch and peak bytes by images; 32x32: images/s beyond the memory",
        {
            "goal": GOAL,
            "growth": rows,
            "large_bytes": arguments.large * 32 * 32 * 3,
            "limit_bytes": limit,
            "large": results,
            "ratio": ratio,
        },
        out=arguments.out,
    )
    draw(rows, path.with_suffix(".png"))
    print(f"speed mapped under the limit / from memory: {_record.within(ratio)}, goal {GOAL:g}; wrote {path}")


if __name__ == "__main__":
    main()
