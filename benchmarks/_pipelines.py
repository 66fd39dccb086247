"""The training pipelines that `peers.py` measures, ours and those of other libraries, each set up as its users do."""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision import transforms

import _airbench94 as airbench94
from _airbench94 import MEAN, STD, wait
from featherweight.config import Recipe, load_recipe
from featherweight.config.recipe import Train
from featherweight.data import pack
from featherweight.data.image import Image
from featherweight.data.sources import SOURCES
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runtime.device import Runtime, make_runtime
from featherweight.schema import OneOf
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

Epoch = Callable[[int | None], float]  # train one epoch, or the given number of steps; return the seconds


@dataclass(frozen=True)
class Case:
    """A network to measure, our recipe for it, and the pipelines that train it."""

    recipe: str
    overrides: tuple[str, ...]
    size: int
    batch: int
    steps: int  # per epoch on the CPU
    peers: tuple[str, ...]
    timm_model: str | None = None  # timm's implementation, if there is one; else ours is used


@dataclass(frozen=True)
class Bench:
    """A case, the folder of its images, and the device and settings it is measured with."""

    case: Case
    keys: tuple[str, ...]  # settings in addition to the case's overrides
    folder: Path
    runtime: Runtime
    epochs: int
    threads: int

    @property
    def device(self) -> torch.device:
        """The device that the case is measured on."""
        return self.runtime.device

    @functools.cached_property
    def recipe(self) -> Recipe:
        """Our recipe; each process loads it itself."""
        return load_recipe(self.case.recipe, [*self.case.overrides, *self.keys])

    def network(self) -> nn.Module:
        """Return our network without input normalisation, since the peers normalise in their data loaders."""
        torch.manual_seed(0)
        return build(self.recipe.model, Shape(10, 3, self.case.size)).net


def packed(bench: Bench) -> tuple[pack.LabelledPack, pack.LabelledPack]:
    """Return the decoded training images, and a holdout with a single image."""
    os.environ["FEATHERWEIGHT_CACHE"] = str(bench.folder / "packs")
    source = OneOf(SOURCES).validate({"name": "folders", "path": str(bench.folder)})
    classes = sorted(path.name for path in (bench.folder / "train").iterdir())
    data = pack.load(source, Image(size=bench.case.size, channels=3, mirror=True), classes)
    return data.train, data.train.take(np.zeros(1, dtype=np.int64))


def ours(bench: Bench, **changes: Any) -> Epoch:
    """Time our own training, with `changes` to the recipe's `train` keys.

    If there are several epochs, the time from the end of the first to the end of the last is used, so that work which
    is still queued on the GPU when an epoch ends is counted.
    """
    images, holdout = packed(bench)

    def epoch(steps: int | None) -> float:
        keys = {**bench.recipe.train.model_dump(), "steps": steps, "epochs": 1 if steps else bench.epochs, **changes}
        recipe = bench.recipe.model_copy(update={"train": Train(**keys)})
        device = make_runtime(str(bench.device), recipe.train.precision)
        torch.manual_seed(0)
        model = build(bench.recipe.model, Shape(10, 3, bench.case.size))
        with tempfile.TemporaryDirectory() as folder:
            examples = Examples(images, holdout, 10, recipe.augment)
            history = Trainer(recipe, model, examples, device, Path(folder)).fit()
        seconds = history["seconds"].tolist()
        return float(seconds[0] if len(seconds) == 1 else (seconds[-1] - seconds[0]) / (len(seconds) - 1))

    return epoch


def loop(
    bench: Bench,
    net: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    channels_last: bool,
    after: Callable[[torch.Tensor], None] = lambda loss: None,
) -> Epoch:
    """Time the usual training loop: load, copy to the device, forward, backward, step."""

    def epoch(steps: int | None) -> float:
        began = time.perf_counter()
        for images, targets in itertools.islice(batches, steps):
            images, targets = images.to(bench.device), targets.to(bench.device)
            if channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with bench.runtime.autocast():
                loss = loss_of(net(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            after(loss)
        wait(bench.device)
        return time.perf_counter() - began

    return epoch


def placed(net: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """Move the network to the device, in channels_last if asked for."""
    net = net.train().to(device)
    return net.to(memory_format=torch.channels_last) if channels_last else net


def bare(bench: Bench) -> Epoch:
    """Time training steps on one batch that is already on the device, without a data pipeline."""
    net = placed(bench.network(), bench.device, True)
    shape = (bench.case.batch, 3, bench.case.size, bench.case.size)
    images = torch.rand(shape).to(bench.device, memory_format=torch.channels_last)
    targets = torch.randint(10, (bench.case.batch,)).to(bench.device)
    batches = [(images, targets)] * (len(list((bench.folder / "train").glob("*/*"))) // bench.case.batch)
    return loop(bench, net, batches, sgd(net), F.cross_entropy, False)


def timm_script(bench: Bench, channels_last: bool = False) -> Epoch:
    """Time timm's `train.py`, rebuilt from timm's public functions with their defaults."""
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import AverageMeter

    case = bench.case
    torch.manual_seed(0)
    net = (
        timm.create_model(case.timm_model, num_classes=10, drop_rate=0.2, drop_path_rate=0.2)
        if case.timm_model
        else bench.network()
    )
    net = placed(net, bench.device, channels_last)
    files = timm.data.create_dataset("", str(bench.folder), "train", is_training=True)
    loader = timm.data.create_loader(
        files,
        (3, case.size, case.size),
        case.batch,
        is_training=True,
        color_jitter=0.0,
        interpolation="random",
        mean=MEAN,
        std=STD,
        num_workers=max(4, cpus() if bench.device.type == "cuda" else 0),
        device=bench.device,
        use_prefetcher=True,
    )
    optimizer = create_optimizer_v2(net, opt="sgd", lr=0.05, weight_decay=2e-5, momentum=0.9)
    create_scheduler_v2(optimizer, sched="cosine", num_epochs=300)
    losses = AverageMeter()
    step = functools.partial(loop, bench, net, loader, optimizer, LabelSmoothingCrossEntropy(0.1), channels_last)
    return step(lambda loss: losses.update(loss.item(), case.batch))


def plain(bench: Bench, channels_last: bool = False, net: nn.Module | None = None) -> Epoch:
    """Time a DataLoader with torchvision's transforms, applied to one image at a time."""
    case = bench.case
    net = placed(bench.network() if net is None else net, bench.device, channels_last)
    resized = [] if case.size == 32 else [transforms.Resize(case.size)]
    steps = [transforms.RandomCrop(case.size, padding=case.size // 8), transforms.RandomHorizontalFlip()]
    pipeline = transforms.Compose([*resized, *steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    loader = torch.utils.data.DataLoader(
        torchvision.datasets.ImageFolder(str(bench.folder / "train"), pipeline),
        case.batch,
        shuffle=True,
        num_workers=cpus() if bench.device.type == "cuda" else 2,
        pin_memory=bench.device.type == "cuda",
        drop_last=True,
        persistent_workers=True,
    )
    running = []
    return loop(
        bench, net, loader, sgd(net), nn.CrossEntropyLoss(), channels_last, lambda loss: running.append(loss.item())
    )


def efficientnet_pytorch(bench: Bench, channels_last: bool = False) -> Epoch:
    """Time the plain loop with the EfficientNet-B0 of efficientnet-pytorch."""
    from efficientnet_pytorch import EfficientNet

    torch.manual_seed(0)
    net = EfficientNet.from_name("efficientnet-b0", num_classes=10, image_size=bench.case.size)
    return plain(bench, channels_last, net)


def fastai(bench: Bench) -> Epoch:
    """Time a fastai Learner, made as in the fastai book."""
    from fastai.vision import all as fast

    case, seconds = bench.case, [0.0]
    pad = fast.CropPad(case.size + case.size // 4, pad_mode=fast.PadMode.Reflection)
    resized = [] if case.size == 32 else [fast.Resize(case.size)]
    loaders = fast.ImageDataLoaders.from_folder(
        bench.folder,
        bs=case.batch,
        item_tfms=[*resized, pad, fast.RandomCrop(case.size)],
        batch_tfms=[fast.Flip(), fast.Normalize.from_stats(MEAN, STD, cuda=False)],
        device=bench.device,
    )

    class Clock(fast.Callback):  # type: ignore[misc]
        order = -100

        def before_train(self) -> None:
            self.began = time.perf_counter()

        def after_batch(self) -> None:  # the clock stops here: the loader's processes take seconds to end
            if self.training and self.iter + 1 == (self.limit or len(self.dls.train)):
                wait(bench.device)
                seconds[0] = time.perf_counter() - self.began
                if self.limit:
                    raise fast.CancelTrainException

    clock = Clock()
    learner = fast.Learner(
        loaders,
        bench.network(),
        loss_func=fast.CrossEntropyLossFlat(),
        opt_func=functools.partial(fast.SGD, mom=0.9),
        metrics=fast.accuracy,
        cbs=clock,
    )
    if bench.runtime.dtype is torch.bfloat16:
        learner = learner.to_bf16()

    def epoch(steps: int | None) -> float:
        clock.limit = steps
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, 0.05)
        return seconds[0]

    return epoch


def published_recipe(bench: Bench) -> Epoch:
    """Time the published fast recipe; its images are on the device before the epoch starts."""
    images, _ = packed(bench)
    pixels = airbench94.prepared(np.array(images.images), bench.device)
    loader = airbench94.Loader(pixels, torch.from_numpy(images.labels).to(bench.device), bench.case.batch)
    trainer = airbench94.Trainer(loader, pixels[:5000], epochs=1000)

    def epoch(steps: int | None) -> float:
        began = time.perf_counter()
        trainer.epoch(steps)
        wait(bench.device)
        return time.perf_counter() - began

    return epoch


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    """Return SGD with momentum and weight decay, as most training loops use it."""
    return torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.05, 0.9, weight_decay=5e-4)


def cpus() -> int:
    """Return the number of CPU cores, used as the number of loader processes."""
    return os.cpu_count() or 1


PEERS: dict[str, Callable[[Bench], Epoch]] = {
    "ours": ours,
    "ours compiled": functools.partial(ours, compile=True),
    "ours native": functools.partial(ours, precision="native"),
    "bare": bare,
    "timm": timm_script,
    "timm channels_last": functools.partial(timm_script, channels_last=True),
    "plain": plain,
    "plain channels_last": functools.partial(plain, channels_last=True),
    "fastai": fastai,
    "efficientnet_pytorch": efficientnet_pytorch,
    "efficientnet_pytorch channels_last": functools.partial(efficientnet_pytorch, channels_last=True),
    "published": published_recipe,
}
