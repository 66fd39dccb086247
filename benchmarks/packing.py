"""Measure how long it takes to decode 50,000 small JPEGs into a pack, and to map the pack again.

    ./run.sh bench packing [--folder FOLDER]

The images are those of FOLDER (`train/<class>/*`), or else 50,000 synthetic 32x32 JPEGs of quality 75. `pack.load` is
timed as a run calls it: list the files, decode them in threads, write the pack, map it. Writes a dated JSON to
reports/bench/.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from pydantic import TypeAdapter

import _record
from featherweight.config import Competition
from featherweight.data import pack
from featherweight.data.image import Image


def make(folder: Path, count: int) -> None:
    """Write smooth random images, which compress like photographs."""
    random = np.random.default_rng(0)
    for place in range(count):
        small = Pillow.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        path = folder / "train" / str(place % 10) / f"{place:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize((32, 32), Pillow.Resampling.BICUBIC).save(path, quality=75)


def timed(folder: Path) -> tuple[int, float, float]:
    """Return the number of images, the wall seconds and the processor seconds of one `pack.load`."""
    classes = sorted(path.name for path in (folder / "train").iterdir())
    source = TypeAdapter(Competition.model_fields["source"].rebuild_annotation()).validate_python(
        {"name": "folders", "path": str(folder)}
    )
    wall, cpu = time.perf_counter(), time.process_time()
    data = pack.load(source, Image(size=32, channels=3, mirror=True), classes)
    count = len(data.train) + (len(data.predict) if data.predict else 0)
    return count, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, help="use the images of this folder instead of synthetic ones")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "images"
        if arguments.folder is None:
            make(folder, arguments.images)
        for number in range(arguments.rounds):
            os.environ["FEATHERWEIGHT_CACHE"] = f"{scratch}/cache{number}"
            load = os.getloadavg()[0]
            count, wall, cpu = timed(folder.resolve())
            _, again, _ = timed(folder.resolve())
            rounds.append(
                {
                    "images": count,
                    "images_per_second": count / wall,
                    "images_per_processor_second": count / cpu,
                    "second_start_seconds": again,
                    "load_before": load,
                }
            )
            print(
                f"round {number + 1}: {count:,} images, {count / wall:,.0f} images/s, {count / cpu:,.0f} per processor "
                f"second; mapped again in {again:.2f} s (load average before: {load:.1f})",
                flush=True,
            )
    path = _record.write(
        "packing",
        "JPEGs decoded into a pack: images per second of wall and of processor time, and seconds to map it again",
        {"peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "rounds": rounds},
    )
    print(f"best {max(r['images_per_second'] for r in rounds):,.0f} images/s; wrote {path}")


if __name__ == "__main__":
    main()
