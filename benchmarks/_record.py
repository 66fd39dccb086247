"""What every benchmark keeps of itself: a dated JSON with its command, the machine and the versions."""

from __future__ import annotations

import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from featherweight import paths

# A result is the user's, and untracked, unless `./run.sh bench NAME --record` puts it among those of this repository.
RECORD = "FEATHERWEIGHT_BENCH_RECORD"
RESULTS = Path(__file__).parent / "results" if os.environ.get(RECORD) else paths.reports() / "bench"
PACKAGES = ("torch", "torchvision", "timm", "fastai", "efficientnet-pytorch", "pillow")


def write(name: str, what: str, fields: dict[str, Any], *, out: Path = RESULTS, device: str = "cpu") -> Path:
    """Write `fields` to `out/NAME-DATE.json`, beside what was measured and how; returns the path."""
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
    """What was written under this name today; empty where nothing was."""
    path = out / _named(name)
    kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return kept


def _named(name: str) -> str:
    return f"{name}-{datetime.now(UTC):%Y-%m-%d}.json"


def command() -> str:
    """The command as anybody would type it: absolute paths are those of one machine."""
    words = ["PATH" if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["./run.sh", "bench", Path(sys.argv[0]).stem, *words])


def machine(device: str = "cpu") -> dict[str, Any]:
    """What it was measured on, and how many others it had to share that with."""
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
    """Of what takes part."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median of several values, and the ends."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def quotients(ones: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """The spread of one over the other, round by round."""
    return spread([one / other for one, other in zip(ones, others, strict=True)])


def paired(differences: Sequence[float]) -> dict[str, Any]:
    """The mean of paired differences, Student's 95 % interval of it, and the p-value of there being none."""
    import scipy.stats

    mean = statistics.mean(differences)
    if len(differences) < 2:
        return {"mean": mean, "interval95": None, "p": None}
    error = statistics.stdev(differences) / len(differences) ** 0.5
    half = float(scipy.stats.t.ppf(0.975, len(differences) - 1)) * error
    p = float(scipy.stats.ttest_1samp(differences, 0.0).pvalue)
    return {"mean": mean, "interval95": [mean - half, mean + half], "p": p}


def in_words(difference: dict[str, Any]) -> str:
    """Such a difference in words."""
    if difference["interval95"] is None:
        return f"{difference['mean']:+.4f}, of one pair, which tells nothing of the next"
    low, high = difference["interval95"]
    return f"{difference['mean']:+.4f} [{low:+.4f}, {high:+.4f}], p = {difference['p']:.2g}"


def within(rates: dict[str, float]) -> str:
    """A spread in words."""
    return f"{rates['median']:.3f} (from {rates['min']:.3f} to {rates['max']:.3f})"
