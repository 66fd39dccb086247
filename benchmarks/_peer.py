"""What the scripts that train with other libraries have in common: what they are asked, and what they answer.

    SCRIPT FOLDER SEED SIZE SECONDS ANSWERS.json NETWORK [--no-mirror]

FOLDER contains `train/<class>/*`, `test/*` and, optionally, `valid/<class>/*`. NETWORK is `lite0`, which is fine-tuned
from the pretrained weights of its package, or the name of a timm network, which is trained from scratch. With
`--no-mirror` no image is mirrored, since a mirrored one would have another class. The training
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
    """The arguments of a script: the folder, the seed, the image size in pixels, the seconds, the file, the network,
    and whether images may be mirrored.
    """

    folder: Path
    seed: int
    size: int
    seconds: float
    out: Path
    network: str
    mirror: bool = True

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
    folder, seed, size, seconds, out, network, *more = sys.argv[1:]
    return Asked(Path(folder), int(seed), int(size), float(seconds), Path(out), network, "--no-mirror" not in more)


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


def checkpoint(folder: Path, network: str, size: int) -> Path:
    """Write a network's first weights, without a head, as a folder of timm's, called like the network; return it."""
    import timm
    import torch

    torch.manual_seed(0)
    name = TIMM_LITE0 if network == LITE0 else network
    net: Any = timm.create_model(name, num_classes=0)
    if network == LITE0:
        published = published_weights(2, size)
        net.load_state_dict({key: published[key] for key in net.state_dict()})
    (folder / network).mkdir(exist_ok=True)
    torch.save(net.state_dict(), folder / network / "pytorch_model.bin")
    input_of = {"input_size": [3, size, size], "mean": net.pretrained_cfg["mean"], "std": net.pretrained_cfg["std"]}
    config = {"architecture": name, "num_features": net.num_features, **input_of}
    (folder / network / "config.json").write_text(json.dumps(config))
    return folder / network


def answer(task: Asked, answers: Mapping[str, str], epochs: int | None, began: float) -> None:
    """Write the predicted class of each test image, by file name, the number of epochs if it is known, and the
    processor time since `began`.
    """
    record = {"epochs": epochs, "size": task.size, "seconds": spent() - began, "answers": dict(answers)}
    task.out.write_text(json.dumps(record))
