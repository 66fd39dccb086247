"""Train with fastai as its documentation shows, for `finetune.py` and `auto.py`, in a separate process.

The arguments are those of `_peer.py`. Without a folder `valid`, a tenth of `train` is used. The number of epochs is the
one whose processor time is nearest to the seconds.
"""

from __future__ import annotations

from functools import partial
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

from _peer import TIMM_LITE0, Asked, answer, asked, epoch_seconds, published_weights, spent

UNFROZEN = 2.5  # time of an epoch that trains all layers, relative to an epoch with a frozen body


def loaders_of(task: Asked) -> Any:
    """Return fastai's data loaders for the folder, with fastai's default augmentation."""
    apart = (task.folder / "valid").is_dir()
    division = {"train": "train", "valid": "valid"} if apart else {"valid_pct": 0.1, "seed": task.seed}
    scale = [Normalize.from_stats([0.5] * 3, [0.5] * 3)] if task.pretrained else []
    return ImageDataLoaders.from_folder(
        task.folder if apart else task.folder / "train",
        item_tfms=Resize(round(task.size * 8 / 7)),
        batch_tfms=[*aug_transforms(size=task.size, min_scale=0.75, do_flip=task.mirror), *scale],
        bs=task.batch,
        num_workers=0,
        **division,
    )


def learner_of(loaders: Any, task: Asked) -> Any:
    """Return fastai's `vision_learner` for the network; `lite0` gets the package's pretrained weights."""
    make = partial(vision_learner, loaders, pretrained=False, loss_func=CrossEntropyLossFlat(), metrics=accuracy)
    if not task.pretrained:
        return make(task.network)
    learner = make(TIMM_LITE0, normalize=False)
    body = learner.model[0].model
    published = published_weights(len(loaders.vocab), task.size)
    body.load_state_dict({name: published[name] for name in body.state_dict()})
    return learner


def main(task: Asked) -> None:
    """Train, then predict the images of `test/`."""
    torch.set_num_threads(1)
    set_seed(task.seed, reproducible=True)
    loaders = loaders_of(task)
    learner = learner_of(loaders, task)

    def short(part: float) -> None:
        with learner.no_bar(), learner.no_logging():
            if task.pretrained:
                learner.freeze()
            learner.fit_one_cycle(1, 2e-3, cbs=ShortEpochCallback(pct=part, short_valid=True))

    epoch = epoch_seconds(len(loaders.train_ds), short)
    began = spent()
    learner = learner_of(loaders, task)
    with learner.no_bar(), learner.no_logging():
        if task.pretrained:
            epochs = max(1, round((task.seconds - epoch) / (epoch * UNFROZEN)))
            learner.fine_tune(epochs)
        else:
            epochs = max(1, round(task.seconds / epoch))
            learner.fit_one_cycle(epochs)
        files = get_image_files(task.folder / "test", recurse=False)
        probs, _ = learner.tta(dl=loaders.test_dl(files))
    predicted = [loaders.vocab[index] for index in probs.argmax(1).tolist()]
    answer(task, {file.name: name for file, name in zip(files, predicted, strict=True)}, epochs, began)


if __name__ == "__main__":
    main(asked())
