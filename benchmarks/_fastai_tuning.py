"""fastai's fine-tuning as its documentation has it, for `finetune.py`: FOLDER SEED SIZE SECONDS ANSWERS.json."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch
from fastai.vision.all import (
    CrossEntropyLossFlat,
    ImageDataLoaders,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    set_seed,
    vision_learner,
)

from featherweight.config import load_recipe
from featherweight.models import build, start_pretrained
from featherweight.models.shape import Shape


def spent() -> float:
    """The processor time of this process and its workers so far, in seconds."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def main(folder: Path, seed: int, size: int, seconds: float, out: Path) -> None:
    """Fine-tune, then answer the images of `judge/`."""
    torch.set_num_threads(1)
    set_seed(seed, reproducible=True)
    loaders = ImageDataLoaders.from_folder(
        folder,
        train="train",
        valid="valid",
        item_tfms=Resize(round(size * 8 / 7)),
        batch_tfms=[*aug_transforms(size=size, min_scale=0.75), Normalize.from_stats([0.5] * 3, [0.5] * 3)],
        bs=32,
        num_workers=0,
    )
    classes = len(loaders.vocab)
    learner = vision_learner(
        loaders,
        "tf_efficientnet_lite0",
        pretrained=False,
        normalize=False,
        loss_func=CrossEntropyLossFlat(),
        metrics=accuracy,
    )
    model = build(load_recipe("finetune_lite0").model, Shape(classes, 3, size))
    start_pretrained(model, load_recipe("finetune_lite0").model, Shape(classes, 3, size))
    body = learner.model[0].model
    published = model.net.state_dict()
    body.load_state_dict({name: published[name] for name in body.state_dict()})
    began = spent()
    with learner.no_bar(), learner.no_logging():
        learner.freeze()
        learner.fit_one_cycle(1, 2e-3)  # how long an epoch takes; frozen ones take about a third
        frozen = spent() - began
    epochs = max(1, round((seconds - frozen) / (frozen * 2.5)))
    began = spent()
    learner = vision_learner(
        loaders, "tf_efficientnet_lite0", pretrained=False, normalize=False, loss_func=CrossEntropyLossFlat()
    )
    learner.model[0].model.load_state_dict({name: published[name] for name in body.state_dict()})
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
        names = json.loads((folder / "judge.json").read_text())
        files = [folder / "judge" / f"{number}.png" for number in range(len(names))]
        probs, _ = learner.tta(dl=loaders.test_dl(files))
    given = [int(loaders.vocab[index]) for index in probs.argmax(1).tolist()]
    told = {"epochs": epochs, "seconds": spent() - began, "answers": dict(zip(names, given, strict=True))}
    out.write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
