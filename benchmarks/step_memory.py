"""Compare the memory that a training step is expected to take with what it takes, for several networks and sizes.

    ./run.sh bench step_memory [--cells 'wrn16_4 224 8' ...]

A cell is a recipe, the image size in pixels, the images in a batch and, possibly, a variant of the recipe's network.
Each trains two steps on images of noise in float32, in one part, in a process of its own, then predicts a batch of the
recipe's size. Peaks are resident set sizes, everything imported included. Writes a dated JSON to reports/bench/.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import _record
from featherweight.config import Competition, Recipe, load_competition, load_recipe

CELLS = (  # most of 1.3 to 1.7 GB of activations
    *("finetune_lite0 96 24", "finetune_lite0 224 16", "finetune_lite0 384 6"),
    *("finetune 128 48", "finetune 224 16", "finetune 384 6"),
    *("finetune 128 96 hgnetv2_b1", "finetune 224 32 hgnetv2_b1", "finetune 384 12 hgnetv2_b1"),
    *("finetune 128 64 convnextv2_femto", "finetune 224 20 convnextv2_femto", "finetune 384 8 convnextv2_femto"),
    *("fastnet94 64 192", "fastnet94 128 48", "fastnet94 256 12"),
    *("wrn16_4 64 96", "wrn16_4 224 8", "wrn16_4 512 2"),
)


def configured(cell: str) -> tuple[Recipe, Competition]:
    """Return a cell's recipe and competition."""
    name, size, batch, *variant = cell.split()
    keys = [f"image.size={size}", f"train.batch_size={batch}", "train.accumulate=1"]
    keys += [f"model.variant={one}" for one in variant]
    if name.startswith("finetune"):
        keys.append(f"image.store={int(size) * 8 // 7}")
    recipe = load_recipe(name, keys)
    return recipe, load_competition("cifar10").seen_by(recipe)


def stepped(cell: str) -> dict[str, float]:
    """Return the forecast of a step, the peak of two, and that of all, in GB; in a process that is started for this."""
    from featherweight.budget import memory
    from featherweight.config.short_recipe import short_recipe
    from featherweight.console import hushed
    from featherweight.data.mapped_rows import take_rows
    from featherweight.data.pack import LabelledPack
    from featherweight.evaluation.inference import batch_within_memory, predict_probs
    from featherweight.models import build
    from featherweight.planning.costs import pictures_of_noise
    from featherweight.runs import pipeline  # noqa: F401 - as in a run
    from featherweight.runtime.device import make_runtime
    from featherweight.training.examples import Examples
    from featherweight.training.forecast import peak_memory
    from featherweight.training.trainer import Trainer

    recipe, competition = configured(cell)
    shape, batch, device = competition.shape, recipe.train.batch_size, make_runtime("cpu", "fp32", 1)
    model = build(recipe.model, shape)
    each = memory.activation_bytes(lambda: build(recipe.model, shape), shape) or 0
    parameters = sum(tensor.numel() for tensor in model.parameters())
    expected = memory.step_bytes(each, parameters, batch, batch * shape.channels * shape.size**2)
    pixels = pictures_of_noise(batch, competition.image)
    images = LabelledPack([str(index) for index in range(batch)], pixels, np.arange(batch) % shape.num_classes)
    with tempfile.TemporaryDirectory() as folder, hushed():
        examples = Examples(images, images.take(np.arange(1)), shape.num_classes, recipe.augment)
        Trainer(short_recipe(recipe, 2), model, examples, device, Path(folder)).fit()
    peak = peak_memory()
    size = batch_within_memory(recipe.predict.batch_size, shape.size, shape.size, device)
    predict_probs([model], take_rows(pixels, np.arange(size) % batch), runtime=device, batch_size=size)
    return {"expected": expected / 1e9, "step": peak / 1e9, "with prediction": peak_memory() / 1e9}


def main() -> None:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", nargs="+", default=CELLS, metavar="'RECIPE SIZE BATCH [VARIANT]'")
    rows: dict[str, Any] = {}
    # Not forked: a forked process holds less, since pages of libraries that it does not touch are not counted.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for cell in parser.parse_args().cells:
            rows[cell] = found = pool.apply(stepped, (cell,))
            high = found["expected"] / found["with prediction"] - 1
            sizes = ", ".join(f"{name} {size:.2f} GB" for name, size in found.items())
            print(f"{cell}: {sizes}: {abs(high):.0%} too {'high' if high > 0 else 'low'}", flush=True)
    path = _record.write("step-memory", "GB of a training step, expected and at most", {"rows": rows})
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
