"""Short trainings for `test_processes.py`, run in one process and in two; each uses something that needs whole batches.

`torchrun --nproc-per-node 2 tests/fit_in_processes.py FOLDER DEVICE` writes FOLDER/<name>.json (losses, weights'
checksum) and FOLDER/<name>.npy (what a model of known weights predicts).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from featherweight.config import Recipe
from featherweight.data.pack import Pack
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.metrics import METRICS
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runtime import processes
from featherweight.runtime.device import make_runtime
from featherweight.schema import OneOf
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

BASE = {
    "model": {"name": "wrn", "depth": 10, "width": 0.25},
    "optimizer": {"name": "sgd", "lr": 0.02},
    "augment": ["crop", "flip"],
    "predict": {"batch_size": 7},
    "train": {"epochs": 2, "batch_size": 13, "checkpoint_seconds": 999},  # two processes get 7 and 6 of the 13 images
}
CASES = {
    "plain": {},
    "everything": {
        "model": {"name": "wrn", "depth": 10, "width": 0.25, "dropout": 0.3, "drop_connect": 0.2},
        "mix": ["mixup", "cutmix"],
        "sampling": {"name": "weighted", "power": 0.5},
        "loss": {"name": "focal", "weights": "effective"},
        "sam": {"rho": 0.02},
        "averages": ["ema", "swa", "lookahead"],
        "ship": "swa",
        "train": {**BASE["train"], "accumulate": 3, "clip": 1.0, "normalize": "pixel"},
    },
    "whitening": {
        "model": {"name": "fastnet", "widths": [4, 8, 8]},
        "sampling": {"name": "oversample", "cap": 3, "majority": 0.8},
    },
    "bf16": {"train": {**BASE["train"], "precision": "bf16"}},
}


def pack(n: int, seed: int) -> Pack:
    """Make images of three classes with different frequencies; the position of the bright part tells the class."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    images = rng.integers(0, 150, (n, 8, 8, 3))
    for label in range(3):
        images[labels == label, 2 * label : 2 * label + 3] += 100
    return Pack([str(i) for i in range(n)], images.astype(np.uint8), labels.astype(np.int64))


def run(name: str, folder: Path, device: str) -> None:
    """Train one case; the first process writes the results."""
    recipe = Recipe.model_validate({**BASE, **CASES[name]})
    everyone = processes.join()
    runtime = make_runtime(device, recipe.train.precision, everyone.count, everyone)
    torch.manual_seed(0)
    model = build(recipe.model, Shape(3, 3, 8))
    view = recipe.predict.model_validate({"views": [{"name": "train", "count": 2}]}).views
    known = predict_probs(
        [model], pack(33, 1).images, runtime=runtime, views=view, augment=recipe.augment, batch_size=7
    )
    work = folder / name
    if everyone.first:
        work.mkdir()
    metric = OneOf(METRICS).validate("balanced_accuracy")
    examples = Examples(pack(60, 0), pack(33, 1), 3, recipe.augment)
    history = Trainer(recipe, model, examples, runtime, work, metric).fit()
    sums = [float(tensor.double().abs().sum()) for tensor in model.state_dict().values()]
    assert len(set(map(tuple, everyone.gather(sums)))) == 1, "the processes ended with unlike weights"
    if everyone.first:
        np.save(folder / f"{name}.npy", known)
        told = history.drop(columns="seconds").to_dict("list")
        (folder / f"{name}.json").write_text(json.dumps({"history": told, "sums": sums}))


if __name__ == "__main__":
    for case in CASES:
        run(case, Path(sys.argv[1]), sys.argv[2])
    processes.leave()
    os._exit(0)  # as the command line does
