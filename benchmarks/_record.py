"""Write the result of a benchmark as a dated JSON, with its command, the machine and the package versions."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from featherweight import paths
from featherweight.console import Progress

# Results go to the user's reports folder, which git ignores; with `./run.sh bench NAME --record` they go to
# benchmarks/results/, which is part of this repository.
RECORD = "FEATHERWEIGHT_BENCH_RECORD"
RESULTS = Path(__file__).parent / "results" if os.environ.get(RECORD) else paths.reports() / "bench"
PACKAGES = ("torch", "torchvision", "timm", "fastai", "efficientnet-pytorch", "pillow")


def write(name: str, what: str, fields: dict[str, Any], *, out: Path = RESULTS, device: str = "cpu") -> Path:
    """Write `fields`, what was measured, the command, the machine and the versions to `out/NAME-DATE.json`.

    Returns the path.
    """
    result = {
        "what": what,
        "command": command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(device),
        "versions": versions(),
        **fields,
    }
    out.mkdir(exist_ok=True, parents=True)
    path = out / _named(name)
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def earlier(name: str, out: Path = RESULTS) -> dict[str, Any]:
    """Return what was written under this name today; an empty dict if nothing was."""
    path = out / _named(name)
    kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return kept


def measured(
    name: str,
    what: str,
    asked: Sequence[dict[str, Any]],
    one: Callable[..., list[dict[str, Any]]],
    out: Path = RESULTS,
) -> list[dict[str, Any]]:
    """Measure those of the cells `asked` that today's record lacks, and return the rows of all.

    `one` is called with a cell's keys and returns its rows. The record is written after every cell.
    """
    rows: list[dict[str, Any]] = earlier(name, out).get("cells", [])
    with Progress(name, len(asked), "cells") as bar:
        for cell in asked:
            if not any(all(row[key] == value for key, value in cell.items()) for row in rows):
                rows += [cell | row for row in one(**cell)]
                write(name, what, {"cells": rows}, out=out)
            bar.advance(1)
    return rows


def _named(name: str) -> str:
    return f"{name}-{datetime.now(UTC):%Y-%m-%d}.json"


def command() -> str:
    """Return the command line, with absolute paths replaced by PATH, since they differ between machines."""
    words = ["PATH" if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["./run.sh", "bench", Path(sys.argv[0]).stem, *words])


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return the processor, its cores, the load average (other programs that were running) and the device."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "processor": model,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that are measured."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the minimum and the maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def quotients(ones: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Return the spread of the quotients one / other, taken round by round."""
    return spread([one / other for one, other in zip(ones, others, strict=True)])


def paired(differences: Sequence[float]) -> dict[str, Any]:
    """Return the mean of paired differences, its 95 % t interval, and the p-value of the paired t-test: 1 if all
    differences are 0.
    """
    import scipy.stats

    mean = statistics.mean(differences)
    if len(differences) < 2:
        return {"mean": mean, "interval95": None, "p": None}
    error = statistics.stdev(differences) / len(differences) ** 0.5
    half = float(scipy.stats.t.ppf(0.975, len(differences) - 1)) * error
    p = float(scipy.stats.ttest_1samp(differences, 0.0).pvalue) if any(differences) else 1.0
    return {"mean": mean, "interval95": [mean - half, mean + half], "p": p}


def in_words(difference: dict[str, Any]) -> str:
    """Format a result of `paired` as text."""
    if difference["interval95"] is None:
        return f"{difference['mean']:+.4f} (one pair only, so there is no interval)"
    low, high = difference["interval95"]
    return f"{difference['mean']:+.4f} [{low:+.4f}, {high:+.4f}], p = {difference['p']:.2g}"


def within(rates: dict[str, float]) -> str:
    """Format a result of `spread` as text."""
    return f"{rates['median']:.3f} (from {rates['min']:.3f} to {rates['max']:.3f})"
