"""What the scripts that train with other libraries have in common: what they are asked, and what they answer.

    SCRIPT FOLDER SEED SIZE SECONDS ANSWERS.json NETWORK

FOLDER contains `train/<class>/*`, `test/*` and, optionally, `valid/<class>/*`. NETWORK is `lite0`, which is fine-tuned
from the pretrained weights of its package, or the name of a timm network, which is trained from scratch. The training
takes about SECONDS of processor time with one thread. The predicted class of each image in `test` is written to
ANSWERS.json.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LITE0, TIMM_LITE0 = "lite0", "tf_efficientnet_lite0"
PIECE = 640  # number of images used to time an epoch


@dataclass(frozen=True)
class Asked:
    """The arguments of a script: the folder, the seed, the image size in pixels, the seconds, the file, the network."""

    folder: Path
    seed: int
    size: int
    seconds: float
    out: Path
    network: str

    @property
    def pretrained(self) -> bool:
        """True if the network starts from pretrained weights."""
        return self.network == LITE0

    @property
    def batch(self) -> int:
        """The batch size."""
        return 32 if self.pretrained else 64


def asked() -> Asked:
    """Return the arguments of this script."""
    folder, seed, size, seconds, out, network = sys.argv[1:]
    return Asked(Path(folder), int(seed), int(size), float(seconds), Path(out), network)


def spent() -> float:
    """Return the processor time of this process and its workers so far, in seconds."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def epoch_seconds(images: int, train: Callable[[float], object]) -> float:
    """Return the processor time of an epoch of that many images, given `train`, which trains for a part of one."""
    part = min(1.0, PIECE / images)
    began = spent()
    train(part)
    return (spent() - began) / part


def published_weights(classes: int, size: int) -> dict[str, Any]:
    """Return the pretrained weights of EfficientNet-Lite0, by timm's names, with a new head for the classes."""
    from featherweight.config import load_recipe
    from featherweight.models import build, start_pretrained
    from featherweight.models.shape import Shape

    recipe, shape = load_recipe("finetune_lite0").model, Shape(classes, 3, size)
    model = build(recipe, shape)
    start_pretrained(model, recipe, shape)
    weights: dict[str, Any] = model.net.state_dict()
    return weights


def answer(task: Asked, answers: Mapping[str, str], epochs: int, began: float) -> None:
    """Write the predicted class of each test image, by file name, and the processor time since `began`."""
    record = {"epochs": epochs, "size": task.size, "seconds": spent() - began, "answers": dict(answers)}
    task.out.write_text(json.dumps(record))
