"""Train with fastai as its documentation shows, for `finetune.py` and `auto.py`, in a separate process.

    _fastai.py FOLDER SEED SIZE SECONDS ANSWERS.json NETWORK

FOLDER contains `train/<class>/*`, `test/*` and, optionally, `valid/<class>/*` (if it is missing, a tenth of `train` is
used). NETWORK is `lite0`, which is fine-tuned from the pretrained weights of the package, or the name of a timm
network, which is trained from scratch. The number of epochs is chosen so that training takes about SECONDS of processor
time. The predicted class of each image in `test` is written to ANSWERS.json.
"""

from __future__ import annotations

import json
import resource
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fastai.vision.all import (
    CrossEntropyLossFlat,
    ImageDataLoaders,
    Normalize,
    Resize,
    ShortEpochCallback,
    accuracy,
    aug_transforms,
    get_image_files,
    set_seed,
    vision_learner,
)

from featherweight.config import load_recipe
from featherweight.models import build, start_pretrained
from featherweight.models.shape import Shape

PIECE = 640  # number of images used to time an epoch
UNFROZEN = 2.5  # time of an epoch that trains all layers, relative to an epoch with a frozen body


def spent() -> float:
    """Return the processor time of this process and its workers so far, in seconds."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def loaders_of(folder: Path, seed: int, size: int, pretrained: bool) -> Any:
    """Return fastai's data loaders for the folder, with fastai's default augmentation."""
    apart = (folder / "valid").is_dir()
    division = {"train": "train", "valid": "valid"} if apart else {"valid_pct": 0.1, "seed": seed}
    scale = [Normalize.from_stats([0.5] * 3, [0.5] * 3)] if pretrained else []
    return ImageDataLoaders.from_folder(
        folder if apart else folder / "train",
        item_tfms=Resize(round(size * 8 / 7)),
        batch_tfms=[*aug_transforms(size=size, min_scale=0.75), *scale],
        bs=32 if pretrained else 64,
        num_workers=0,
        **division,
    )


def learner_of(loaders: Any, network: str, size: int) -> Any:
    """Return fastai's `vision_learner` for the network; `lite0` gets the package's pretrained weights."""
    make = partial(vision_learner, loaders, pretrained=False, loss_func=CrossEntropyLossFlat(), metrics=accuracy)
    if network != "lite0":
        return make(network)
    learner = make("tf_efficientnet_lite0", normalize=False)
    recipe = load_recipe("finetune_lite0").model
    shape = Shape(len(loaders.vocab), 3, size)
    model = build(recipe, shape)
    start_pretrained(model, recipe, shape)
    body = learner.model[0].model
    published = model.net.state_dict()
    body.load_state_dict({name: published[name] for name in body.state_dict()})
    return learner


def main(folder: Path, seed: int, size: int, seconds: float, out: Path, network: str) -> None:
    """Train, then predict the images of `test/`."""
    torch.set_num_threads(1)
    set_seed(seed, reproducible=True)
    loaders = loaders_of(folder, seed, size, network == "lite0")
    learner = learner_of(loaders, network, size)
    part = min(1.0, PIECE / len(loaders.train_ds))
    began = spent()
    with learner.no_bar(), learner.no_logging():
        if network == "lite0":
            learner.freeze()
        learner.fit_one_cycle(1, 2e-3, cbs=ShortEpochCallback(pct=part, short_valid=True))
    epoch = (spent() - began) / part
    began = spent()
    learner = learner_of(loaders, network, size)
    with learner.no_bar(), learner.no_logging():
        if network == "lite0":
            epochs = max(1, round((seconds - epoch) / (epoch * UNFROZEN)))
            learner.fine_tune(epochs)
        else:
            epochs = max(1, round(seconds / epoch))
            learner.fit_one_cycle(epochs)
        files = get_image_files(folder / "test", recurse=False)
        probs, _ = learner.tta(dl=loaders.test_dl(files))
    predicted = [loaders.vocab[index] for index in probs.argmax(1).tolist()]
    answers = {file.name: name for file, name in zip(files, predicted, strict=True)}
    out.write_text(json.dumps({"epochs": epochs, "size": size, "seconds": spent() - began, "answers": answers}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]), sys.argv[6])
