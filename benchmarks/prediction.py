"""Compare prediction with six views to six bare forward passes, in one process, taking turns.

    ./run.sh bench prediction

WRN-16-4 on 32x32 images in batches of 256, float32, channels_last; the views flip and shift multiply to six. A bare
pass is the model alone on a batch that is already in memory. Writes a dated JSON to reports/bench/.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

import _record
from featherweight.config import load_recipe
from featherweight.evaluation.inference import predict_probs
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runtime.device import make_runtime

VIEWS, BATCH, GOAL = 6, 256, 0.9


def main() -> None:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="wrn16_4")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=1)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, ["predict.views=[flip, shift]"])
    device = make_runtime("cpu", "fp32")
    torch.manual_seed(0)
    model = device.place(build(recipe.model, Shape(10, 3, 32))).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (arguments.batches * BATCH, 32, 32, 3), dtype=np.uint8)
    batch = device.images(torch.from_numpy(pixels[:BATCH]))

    @torch.no_grad()
    def bare() -> float:
        began = time.perf_counter()
        for _ in range(VIEWS * arguments.batches):
            model(batch)
        return len(pixels) / (time.perf_counter() - began)

    def predicted() -> float:
        began = time.perf_counter()
        predict_probs([model], pixels, runtime=device, views=recipe.predict.views, batch_size=BATCH)
        return len(pixels) / (time.perf_counter() - began)

    bare(), predicted()
    rates: dict[str, list[float]] = {"predicted": [], "bare": []}
    for number in range(arguments.rounds):
        both = [("predicted", predicted), ("bare", bare)]
        for name, measure in both if number % 2 else reversed(both):
            rates[name].append(measure())
        print(f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:.1f}" for name, values in rates.items()))
    ratio = _record.quotients(rates["predicted"], rates["bare"])
    medians = {name: statistics.median(values) for name, values in rates.items()}
    path = _record.write(
        "prediction",
        f"{arguments.recipe}, 32x32, batch {BATCH}: images/s with six views, and of six bare forward passes",
        {"goal": GOAL, "rates": rates, "median": medians, "ratio": ratio},
    )
    print(f"six views / six bare passes: {_record.within(ratio)}, goal {GOAL:g}; wrote {path}")


if __name__ == "__main__":
    main()
