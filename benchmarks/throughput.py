"""Compare the whole training pipeline to a bare forward, backward and step, in one process, taking turns.

    ./run.sh bench throughput

WRN-16-4 on 32x32 images, batch 128, float32, channels_last. The pipeline is the training of a run: batches gathered
from a pack, crop and flip drawn per sample, loss, statistics, step, NaN check. The bare loop has the same model and
optimizer and takes steps on one batch that is already in memory. Writes a dated JSON to reports/bench/.

The time of a bare step, by torch's profiler on two AVX-512 cores: convolutions 83 % (57 backward, 25 forward), batch
norm 9 %, ReLU's gradient 6 %, all else 2 %. A step takes 302 GFLOP (392.6 M multiply-adds, times three for forward and
both gradients, 128 images) in 1.48 s. That is 203 GFLOP/s, while a float32 product of two 2,048 x 2,048 matrices
reaches 170, so the convolutions cannot get faster in float32. To be faster, compute in bf16 (`train.precision:
native`).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import _record
from featherweight.config import Recipe, load_recipe
from featherweight.data.pack import LabelledPack
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runtime.device import Runtime, make_runtime
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer


def random_pack(count: int) -> LabelledPack:
    """Make images of noise: the speed does not depend on their content."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return LabelledPack([str(place) for place in range(count)], images, rng.integers(0, 10, count).astype(np.int64))


def pipeline(recipe: Recipe, images: LabelledPack, holdout: LabelledPack, device: Runtime) -> float:
    """Return the images per second of one epoch's training steps, as counted in the history."""
    torch.manual_seed(0)
    model = build(recipe.model, Shape(10, 3, 32))
    with tempfile.TemporaryDirectory() as folder:
        examples = Examples(images, holdout, 10, recipe.augment)
        history = Trainer(recipe, model, examples, device, Path(folder)).fit()
    steps = len(images) // recipe.train.batch_size
    return float(steps * recipe.train.batch_size / history["seconds"].iloc[-1])


def bare(recipe: Recipe, steps: int, device: Runtime) -> float:
    """Return the images per second of the same steps without the pipeline."""
    torch.manual_seed(0)
    model = device.place(build(recipe.model, Shape(10, 3, 32))).train()
    optimizer = recipe.optimizer(model.parameters())
    size = recipe.train.batch_size
    images = torch.rand(size, 3, 32, 32).to(memory_format=torch.channels_last).to(device.device)
    targets = torch.randint(10, (size,)).to(device.device)
    began = time.perf_counter()
    for _ in range(steps):
        F.cross_entropy(model(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return steps * size / (time.perf_counter() - began)


def main() -> None:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    recipe = load_recipe("wrn16_4", ["train.batch_size=128", "train.epochs=1", "train.precision=fp32"])
    device = make_runtime("cpu")
    images, holdout = random_pack(arguments.steps * 128), random_pack(1)
    bare(recipe, 2, device)
    rates: dict[str, list[float]] = {"pipeline": [], "bare": []}
    for number in range(arguments.rounds):
        rates["pipeline"].append(pipeline(recipe, images, holdout, device))
        rates["bare"].append(bare(recipe, arguments.steps, device))
        print(
            f"round {number + 1}: pipeline {rates['pipeline'][-1]:.1f}, bare {rates['bare'][-1]:.1f} images/s",
            flush=True,
        )
    ratio = _record.quotients(rates["pipeline"], rates["bare"])
    path = _record.write(
        "throughput",
        "WRN-16-4, 32x32, batch 128, float32: images/s of the whole pipeline and of the bare step",
        {"rates": rates, "median": {name: statistics.median(values) for name, values in rates.items()}, "ratio": ratio},
    )
    print(f"pipeline / bare: {_record.within(ratio)}; wrote {path}")


if __name__ == "__main__":
    main()
