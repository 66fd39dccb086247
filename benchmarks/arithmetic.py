"""Compare the rate of a recipe's training steps to that of a large matrix product: how much faster could they get?

    ./run.sh bench arithmetic [RECIPE] [--set KEY=VALUE ...] [--images 47500] [--threads 1]

Forward and backward pass of one batch, at each image size that the recipe trains at, in the precision that the recipe
trains in here. The operations are counted by torch (a multiply-add is two). Prints, for each size, the part of the
training at it, the operations of an image, and the operations a second, beside those of products of two square matrices
of 2,048 and 4,096; then the operations of the whole training of so many images. All are medians of processor time, so
with more than one thread they are rates of one core.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import _record
from featherweight.config import Recipe, load_recipe
from featherweight.models import build
from featherweight.models.input_sizes import scaled
from featherweight.models.shape import Shape
from featherweight.runtime.device import Runtime, make_runtime

SIDE, CLASSES = 32, 10
SIDES_OF_MATRICES = (2048, 4096)
ROUNDS = 9


def seconds(work: Callable[[], object]) -> float:
    """Return the median processor time, in seconds, of a call, after two calls that are not counted."""
    took = []
    for _ in range(ROUNDS + 2):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return statistics.median(took[2:])


def of_a_product(side: int, runtime: Runtime) -> float:
    """Return the operations a second of a product of two square matrices."""
    matrix = torch.rand(side, side).to(runtime.dtype or torch.float32)
    return 2 * side**3 / seconds(lambda: matrix @ matrix)


def of_a_step(recipe: Recipe, side: int, runtime: Runtime) -> dict[str, float]:
    """Return the operations of one image, forward and backward, and how many are done in a second."""
    torch.manual_seed(0)
    size = recipe.train.batch_size
    model = runtime.place(build(recipe.model, Shape(CLASSES, 3, SIDE))).train()
    images = torch.rand(size, 3, side, side).to(memory_format=torch.channels_last)
    targets = torch.randint(CLASSES, (size,))

    def step() -> None:
        with runtime.autocast():
            logits = model(images)
        F.cross_entropy(logits.float(), targets).backward()
        model.zero_grad(set_to_none=True)

    with FlopCounterMode(display=False) as counter:
        step()
    operations = counter.get_total_flops()
    return {"an_image": operations / size, "a_second": operations / seconds(step)}


def parts(recipe: Recipe) -> list[tuple[int, float]]:
    """Return the image sizes that the recipe trains at, each with its part of the training."""
    growing = recipe.progressive
    ends = [0.0, *(growing.until if growing else []), 1.0]
    scales = [*(growing.scales if growing else []), 1.0]
    return [(scaled(SIDE, scale), end - start) for scale, start, end in zip(scales, ends[:-1], ends[1:], strict=True)]


def main() -> None:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", nargs="?", default="speedrun_muon")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to the recipe")
    parser.add_argument("--images", type=int, default=47_500, help="images of an epoch")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.set)
    runtime = make_runtime("cpu", recipe.train.precision, arguments.threads)
    products = {str(side): of_a_product(side, runtime) for side in SIDES_OF_MATRICES}
    print("matrix product:", ", ".join(f"{side}: {rate / 1e9:.0f}" for side, rate in products.items()), "GFLOP/s")
    rows: list[dict[str, Any]] = []
    for side, part in parts(recipe):
        row = {"side": side, "part": part, **of_a_step(recipe, side, runtime)}
        print(
            f"{side} px, {part:.0%} of the training: {row['an_image'] / 1e9:.3f} GFLOP an image, "
            f"{row['a_second'] / 1e9:.0f} GFLOP/s",
            flush=True,
        )
        rows.append(row)
    images = arguments.images * recipe.train.epochs
    whole = images * sum(row["part"] * row["an_image"] for row in rows)
    lasts = images * sum(row["part"] * row["an_image"] / row["a_second"] for row in rows)
    print(f"the whole training: {whole / 1e15:.3f} PFLOP, {lasts / 60:.1f} minutes of one core in bare steps")
    fields = {"products": products, "steps": rows, "whole": whole, "core_seconds": lasts}
    print(f"wrote {_record.write(f'arithmetic-{arguments.recipe}', 'operations a second in training steps', fields)}")


if __name__ == "__main__":
    main()
