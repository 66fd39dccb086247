"""Train with the parts and the published settings of timm's `train.py`, for `auto.py`, in a separate process.

The arguments are those of `_peer.py`. timm's package does not contain `train.py`, so its loop is rebuilt here from the
same functions. The settings are from the section "Training examples" of timm's documentation: for networks from random
weights those of SE-ResNeXt-26, which "work well for a wide range of ResNet architecture", and for EfficientNet-Lite0
those of EfficientNet-B0, with a tenth of the learning rate, as timm's author advises for fine-tuning (issue 25). Rates
are in proportion to the batch size, and everything that is given in epochs is in proportion to the number of epochs.

Options of `train.py` that the published settings lack, and that a short training on a CPU needs: `--sched-on-updates`,
`--model-ema-warmup`, `--channels-last`, and for ResNets `--amp --amp-dtype bfloat16` where the processor has
instructions for it. All of `train` is trained on, and the last weights are used (the averaged ones, if there are any);
`train.py` would choose among epochs by a validation set. The number of epochs is the one whose processor time is
nearest to the seconds.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from timm import create_model
from timm.data import add_img_extensions, create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, random_seed
from torch import nn

from _peer import TIMM_LITE0, Asked, answer, asked, epoch_seconds, published_weights, spent
from featherweight.runtime.device import Runtime, make_runtime

WARM_UP = 5  # epochs, as in train.py


@dataclass(frozen=True)
class Settings:
    """The options of `train.py`: `rate` is the learning rate per image of a batch, `epochs` the published length."""

    epochs: int
    rate: float
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    augmentation: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    decay_epochs: float = 90.0  # of a step schedule
    average: float | None = None  # decay of the moving average of the weights
    precision: str = "fp32"


RESNET = Settings(
    epochs=160,
    rate=0.1 / 224,
    optimizer={"opt": "sgd", "weight_decay": 1e-4},
    schedule={"sched": "cosine", "warmup_lr": 1e-5},
    augmentation={"color_jitter": 0.4, "re_prob": 0.4, "re_mode": "pixel"},
    precision="native",
)
EFFICIENTNET = Settings(
    epochs=450,
    rate=0.048 / 768 / 10,
    optimizer={"opt": "rmsproptf", "eps": 1e-3, "weight_decay": 1e-5},
    schedule={"sched": "step", "decay_rate": 0.97, "warmup_lr": 1e-6},
    augmentation={"auto_augment": "rand-m9-mstd0.5", "re_prob": 0.2, "re_mode": "pixel"},
    model={"drop_rate": 0.2, "drop_path_rate": 0.2},
    decay_epochs=2.4,
    average=0.9999,
)


def network(task: Asked, settings: Settings, classes: int, device: Runtime) -> nn.Module:
    """Return the network; `lite0` has the package's pretrained weights."""
    name = TIMM_LITE0 if task.pretrained else task.network
    net: nn.Module = create_model(name, num_classes=classes, **settings.model)
    if task.pretrained:
        net.load_state_dict(published_weights(classes, task.size))
    return device.place(net)


def loader(task: Asked, part: str, data: dict[str, Any], **augmentation: Any) -> Any:
    """Return timm's loader of a folder; with `augmentation` it is one for training."""
    files = create_dataset("", str(task.folder), part)
    return create_loader(
        files,
        data["input_size"],
        task.batch,
        is_training=bool(augmentation),
        interpolation="random" if augmentation else data["interpolation"],
        mean=data["mean"],
        std=data["std"],
        crop_pct=data["crop_pct"],
        num_workers=0,
        persistent_workers=False,
        device=torch.device("cpu"),
        **augmentation,
    )


def trained(net: nn.Module, batches: Any, settings: Settings, device: Runtime, length: tuple[int, float]) -> nn.Module:
    """Train for a part of a number of epochs (`length`: epochs, part), and return the network that `train.py` keeps."""
    epochs, part = length
    scale = epochs / settings.epochs
    optimizer = create_optimizer_v2(net, lr=settings.rate * batches.loader.batch_size, **settings.optimizer)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        num_epochs=epochs,
        warmup_epochs=WARM_UP * scale,
        decay_epochs=settings.decay_epochs * scale,
        step_on_epochs=False,
        updates_per_epoch=len(batches),
        **settings.schedule,
    )
    loss_of = LabelSmoothingCrossEntropy(0.1)
    average = ModelEmaV3(net, decay=settings.average, use_warmup=True) if settings.average else None
    net.train()
    steps = itertools.chain.from_iterable(batches for _ in range(epochs))
    for step, (images, labels) in enumerate(itertools.islice(steps, max(1, round(part * epochs * len(batches)))), 1):
        with device.autocast():
            loss = loss_of(net(images.contiguous(memory_format=torch.channels_last)), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if average:
            average.update(net, step=step)
        scheduler.step_update(step)
    return average.module if average else net


def predicted(net: nn.Module, batches: Any) -> list[int]:
    """Return the predicted class of each image."""
    net.eval()
    with torch.inference_mode():
        return [index for images, _ in batches for index in net(images).argmax(1).tolist()]


def main(task: Asked) -> None:
    """Train, then predict the images of `test/`."""
    settings = EFFICIENTNET if task.pretrained else RESNET
    device = make_runtime("cpu", settings.precision, threads=1)
    torch.use_deterministic_algorithms(False)
    random_seed(task.seed)
    add_img_extensions(".bmp")
    index_of = create_dataset("", str(task.folder), "train").reader.class_to_idx
    names = sorted(index_of, key=index_of.__getitem__)
    net = network(task, settings, len(names), device)
    data = resolve_data_config({"input_size": (3, task.size, task.size)}, model=net)
    batches = loader(task, "train", data, **settings.augmentation, hflip=0.5 if task.mirror else 0.0)

    def train(net: nn.Module, epochs: int, part: float = 1.0) -> nn.Module:
        return trained(net, batches, settings, device, (epochs, part))

    train(net, 1, 0.0)  # the first step selects kernels
    epoch = epoch_seconds(len(batches.dataset), lambda part: train(net, 1, part))
    began = spent()
    epochs = max(1, round(task.seconds / epoch))
    net = train(network(task, settings, len(names), device), epochs)
    tests = loader(task, "test", data)
    files = tests.dataset.filenames(basename=True)
    answers = {file: names[index] for file, index in zip(files, predicted(net, tests), strict=True)}
    answer(task, answers, epochs, began)


if __name__ == "__main__":
    main(asked())
