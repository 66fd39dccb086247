"""Training rates of whole pipelines, ours and others', on the same files, network and batch, taking turns.

    ./run.sh bench peers                           everything, about 12 minutes on two cores
    ./run.sh bench peers --only wrn16_4            one network; more may be named
    ./run.sh bench peers --device cuda --precision bf16

Images a second of an epoch over folders of JPEG files (--data, default CIFAR-10 in data/cifar10). Each is set up
as its users do, in a process of its own, all with the same number of threads:

- ours: `training.loop.fit`, from a pack that was decoded once before (`./run.sh bench packing` times that)
- ours native: the same with train.precision native, in bf16 where the processor has instructions for it
- ours compiled: the same with train.compile, where --peers names it; on a GPU the compiler's time is not counted
- bare: our network, forward, backward and step on one batch that is already there, in channels_last
- timm: its training script's loop from its public parts: loader with prefetcher and four workers, random resized crop
  and flip (the colour jitter, on in the script, is off: in its favour), label smoothing, SGD, cosine; the layout is the
  script's default, and with the script's option --channels-last
- plain: a PyTorch loop with torchvision's transforms an image at a time (padded crop, flip) and two workers, in the
  default layout, and in channels_last
- fastai: its Learner with its DataLoaders, padded crop and flip, in its layout
- efficientnet_pytorch: the plain loop around that package's network
- published: the fast recipe of airbench94 rebuilt (`published.py`), its images decoded and on the device beforehand

timm, plain and fastai decode every JPEG in every epoch, which is what they do unless a user builds a cache. Workers
are kept from epoch to epoch. The EfficientNets have the published strides. Writes a dated JSON to benchmarks/results/.
fastai comes with `pip install '.[bench]'`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision import transforms

import _published as published
import _record
from _published import MEAN, STD, wait
from featherweight import workspace
from featherweight.config import Recipe, Train, load_recipe
from featherweight.data import pack
from featherweight.data.image import Image
from featherweight.data.sources import SOURCES
from featherweight.models import build
from featherweight.schema import OneOf
from featherweight.training.loop import fit
from featherweight.training.runtime import DTYPES, Runtime, start

Epoch = Callable[[int | None], float]  # trains one epoch, or so many steps, and returns the seconds they took


@dataclass(frozen=True)
class Case:
    """A network to measure, our recipe of it, and the pipelines it is measured in."""

    recipe: str
    overrides: tuple[str, ...]
    size: int
    batch: int
    steps: int  # of an epoch on the CPU
    peers: tuple[str, ...]
    timm_model: str | None = None  # timm's own network, where it has it; else ours


ASKED = ("ours compiled",)  # of every network, but only where it is named
USUAL = ("ours", "ours native", "bare", "timm", "timm channels_last", "plain", "plain channels_last", "fastai")
LIBRARY = ("efficientnet_pytorch", "efficientnet_pytorch channels_last")
SMALL = ("ours", "bare", "timm", "timm channels_last", *LIBRARY, "fastai")
B0 = ("model.stem=4", "optimizer={name: sgd, lr: 0.05}")
CASES = {
    "wrn16_4": Case("wrn16_4", (), 32, 128, 8, USUAL),
    "efficientnet_b0_32": Case("efficientnet_b0", B0, 32, 128, 6, SMALL, "efficientnet_b0"),
    "efficientnet_b0_64": Case("efficientnet_b0", B0, 64, 128, 2, SMALL, "efficientnet_b0"),
    "fastnet94": Case("fastnet94", (), 32, 1024, 1, ("ours", "bare", "published")),
}
SMOKE = Case("tiny", (), 32, 16, 2, (*USUAL, *LIBRARY, "published"))


@dataclass(frozen=True)
class Bench:
    """A case, where its files lie, and on what it is measured."""

    case: Case
    keys: tuple[str, ...]  # what is set besides the case's overrides
    folder: Path
    runtime: Runtime
    epochs: int
    threads: int

    @property
    def device(self) -> torch.device:
        """Where it is measured."""
        return self.runtime.device

    @functools.cached_property
    def recipe(self) -> Recipe:
        """Our recipe, loaded by each process for itself."""
        return load_recipe(self.case.recipe, [*self.case.overrides, *self.keys])

    def network(self) -> nn.Module:
        """Our network of the case without its normalisation, which the peers do in their loaders."""
        torch.manual_seed(0)
        return build(self.recipe.model, 10, 3, self.case.size).net


def subset(source: Path, folder: Path, count: int) -> None:
    """Links to `count` training images, evenly of each class, and one of each class to look at, as `valid`."""
    classes = sorted(path for path in source.iterdir() if path.is_dir())
    files = [sorted(path.iterdir()) for path in classes]
    mixed = [file for row in itertools.zip_longest(*files) for file in row if file]
    chosen = list(itertools.islice(itertools.cycle(mixed), count))
    for number, file in enumerate(chosen):
        path = folder / "train" / file.parent.name / f"{number:06d}{file.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(file.resolve())
    for group in files:
        path = folder / "valid" / group[-1].parent.name / group[-1].name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(group[-1].resolve())


def packed(bench: Bench) -> tuple[pack.Pack, pack.Pack]:
    """The images decoded, and one of them as a holdout."""
    os.environ["FEATHERWEIGHT_CACHE"] = str(bench.folder / "packs")
    source = OneOf(SOURCES).validate({"name": "folders", "path": str(bench.folder)})
    classes = sorted(path.name for path in (bench.folder / "train").iterdir())
    data = pack.load(source, Image(size=bench.case.size, channels=3, mirror=True), classes)
    return data.train, data.train.take(np.zeros(1, dtype=np.int64))


def ours(bench: Bench, **changes: Any) -> Epoch:
    """Our own training, with changes to `train`.

    Of several epochs the first is not counted, so that what a GPU still has to do is.
    """
    images, holdout = packed(bench)

    def epoch(steps: int | None) -> float:
        told = {**bench.recipe.train.model_dump(), "steps": steps, "epochs": 1 if steps else bench.epochs, **changes}
        recipe = bench.recipe.model_copy(update={"train": Train(**told)})
        device = start(str(bench.device), recipe.train.precision)
        torch.manual_seed(0)
        model = build(bench.recipe.model, 10, 3, bench.case.size)
        with tempfile.TemporaryDirectory() as folder:
            history = fit(recipe, model, images, holdout, 10, list(recipe.augment), device, Path(folder))
        seconds = history["seconds"].tolist()
        return seconds[0] if len(seconds) == 1 else (seconds[-1] - seconds[0]) / (len(seconds) - 1)

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
    """The loop that everybody writes: load, send, forward, backward, step."""

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
    """The network where it is to be trained."""
    net = net.train().to(device)
    return net.to(memory_format=torch.channels_last) if channels_last else net


def bare(bench: Bench) -> Epoch:
    """Nothing around the steps."""
    net = placed(bench.network(), bench.device, True)
    shape = (bench.case.batch, 3, bench.case.size, bench.case.size)
    images = torch.rand(shape).to(bench.device, memory_format=torch.channels_last)
    targets = torch.randint(10, (bench.case.batch,)).to(bench.device)
    batches = [(images, targets)] * (len(list((bench.folder / "train").glob("*/*"))) // bench.case.batch)
    return loop(bench, net, batches, sgd(net), F.cross_entropy, False)


def timm_script(bench: Bench, channels_last: bool = False) -> Epoch:
    """timm's `train.py` by its public parts and defaults."""
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
    """torchvision's transforms, an image at a time, in a DataLoader."""
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
    """The plain loop around the package's B0."""
    from efficientnet_pytorch import EfficientNet

    torch.manual_seed(0)
    net = EfficientNet.from_name("efficientnet-b0", num_classes=10, image_size=bench.case.size)
    return plain(bench, channels_last, net)


def fastai(bench: Bench) -> Epoch:
    """A Learner as its book makes one."""
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

    class Clock(fast.Callback):
        order = -100

        def before_train(self) -> None:
            self.began = time.perf_counter()

        def after_batch(self) -> None:
            if self.training and self.iter + 1 == self.limit:
                raise fast.CancelTrainException

        def after_train(self) -> None:
            wait(bench.device)
            seconds[0] = time.perf_counter() - self.began

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
    """The published fast recipe, its images on the device before the epoch."""
    images, _ = packed(bench)
    assert images.labels is not None
    pixels = published.prepared(np.array(images.images), bench.device)
    loader = published.Loader(pixels, torch.from_numpy(images.labels).to(bench.device), bench.case.batch)
    trainer = published.Trainer(loader, pixels[:5000], epochs=1000)

    def epoch(steps: int | None) -> float:
        began = time.perf_counter()
        trainer.epoch(steps)
        wait(bench.device)
        return time.perf_counter() - began

    return epoch


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


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    """As most loops have it."""
    return torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.05, 0.9, weight_decay=5e-4)


def cpus() -> int:
    """Cores to load images with."""
    return os.cpu_count() or 1


class Rates(dict[str, list[float]]):
    """Images a second by pipeline, one number a round."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__({name: [] for name in names})


def measured(bench: Bench, rounds: int, limit: float, only: list[str]) -> tuple[Rates, Rates]:
    """Each pipeline's images by second and by second of processor time, after a step to warm up.

    No round begins after `limit` seconds but the first three. The processor time is that of the process which trains;
    on a machine that has other work it wavers less, and it leaves out what the peers' loading processes take.
    """
    images = len(list((bench.folder / "train").glob("*/*"))) // bench.case.batch * bench.case.batch
    began, spawn = time.monotonic(), multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name in only:
        ours_end, pipes[name] = spawn.Pipe()
        spawn.Process(target=serve, args=(ours_end, name, bench)).start()
        ours_end.close()
        fault = pipes[name].recv()
        if fault is not None:
            print(f"  {name} is left out ({fault}): uv pip install --python .venv/bin/python '.[bench]'")
            del pipes[name]
    rates, processor = Rates(pipes), Rates(pipes)
    for number in range(rounds):
        if number >= 3 and time.monotonic() - began > limit:
            break
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds, used = pipe.recv()
            rates[name].append(images / seconds)
            processor[name].append(images / used)
        told = "  ".join(f"{name} {values[-1]:,.1f}" for name, values in rates.items())
        print(f"  round {number + 1}: {told}", flush=True)
    for pipe in pipes.values():
        pipe.send(False)
    return rates, processor


def serve(pipe: Connection, name: str, bench: Bench) -> None:
    """A pipeline in a process of its own, so that no other's settings reach it: an epoch whenever it is asked for one.

    First tells what package it lacks, or None after a step to warm up.
    """
    torch.set_num_threads(bench.threads)
    if name == "bare":  # under all that ours does for its rate, but for repeatable arithmetic
        start(str(bench.device), bench.recipe.train.precision, bench.threads)
    try:
        epoch = PEERS[name](bench)
    except ImportError as error:
        pipe.send(str(error))
        return
    alone(name, bench.device, epoch, 1)
    pipe.send(None)
    while pipe.recv():
        pipe.send(alone(name, bench.device, epoch, None))


def alone(name: str, device: torch.device, epoch: Epoch, steps: int | None) -> tuple[float, float]:
    """An epoch under the settings its users have: only ours asks torch for repeatable arithmetic.

    Returns its seconds, and the processor's, of which what an epoch leaves out by the clock is taken off in proportion.
    """
    torch.use_deterministic_algorithms(False)
    cuda = device.type == "cuda"
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = cuda and name.startswith(
        ("timm", "published", "bare")
    )
    with contextlib.redirect_stdout(io.StringIO()):  # what a pipeline has to tell
        began, used = time.perf_counter(), time.process_time()
        seconds = epoch(steps)
        return seconds, (time.process_time() - used) * seconds / (time.perf_counter() - began)


def summary(rates: Rates, processor: Rates) -> dict[str, dict[str, float]]:
    """The median, the spread, and ours over each, round by round."""
    rows = {}
    for name, values in rates.items():
        ratios = [a / b for a, b in zip(rates.get("ours", values), values, strict=True)]
        rows[name] = {
            "median": statistics.median(values),
            "low": min(values),
            "high": max(values),
            "ours_over_it": statistics.median(ratios),
            "ours_over_it_low": min(ratios),
            "ours_over_it_high": max(ratios),
            "ours_over_it_by_processor_time": statistics.median(
                a / b for a, b in zip(processor.get("ours", processor[name]), processor[name], strict=True)
            ),
        }
    return rows


def table(name: str, rows: dict[str, dict[str, float]]) -> str:
    """In Markdown, for the README."""
    lines = [f"| {name} | images/s | lowest to highest | ours is, times | by processor time |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for peer, row in rows.items():
        ratio = f"{row['ours_over_it']:.2f} ({row['ours_over_it_low']:.2f} to {row['ours_over_it_high']:.2f})"
        spread = f"{row['low']:,.1f} to {row['high']:,.1f}"
        by_processor = f"{row['ours_over_it_by_processor_time']:.2f}"
        told = " |  |  |" if peer == "ours" else f" | {ratio} | {by_processor} |"
        lines.append(f"| {peer} | {row['median']:,.1f} | {spread}{told}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="the networks to measure")
    parser.add_argument(
        "--peers", nargs="+", choices=PEERS, help="the pipelines to measure (default: all but ours compiled)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=170, help="seconds for a network, warming up included")
    parser.add_argument("--steps", type=int, help="of an epoch (default: few on the CPU, a whole epoch on a GPU)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=list(DTYPES))
    parser.add_argument("--data", type=Path, help="a folder train/<class>/* (default: CIFAR-10's)")
    parser.add_argument("--out", type=Path, default=_record.RESULTS, help="the folder of the JSON")
    parser.add_argument("--smoke", action="store_true", help="every pipeline on a tiny network, to see that all run")
    given = parser.parse_args()
    source = (given.data or workspace.data() / "cifar10") / "train"
    if not source.is_dir():
        parser.error(f"there is no folder {source}; CIFAR-10 comes with ./run.sh wrn16_4 --competition cifar10")
    results: dict[str, Any] = {}
    cases = {"smoke": SMOKE} if given.smoke else {name: CASES[name] for name in given.only}
    for name, case in cases.items():
        device = start(given.device, given.precision)
        epochs = 3 if device.device.type == "cuda" and not given.smoke else 1
        keys = (f"train.batch_size={case.batch}", f"train.precision={given.precision}", "train.evaluate_every=100")
        steps = given.steps or (50_000 // case.batch if device.device.type == "cuda" else case.steps)
        print(f"{name}: {case.size} px, batches of {case.batch}, {steps} a round", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            subset(source, Path(scratch), steps * case.batch)
            bench = Bench(case, keys, Path(scratch), device, epochs, torch.get_num_threads())
            wanted = [peer for peer in (*case.peers, *ASKED) if peer in (given.peers or case.peers)]
            rates, processor = measured(bench, given.rounds, given.limit, wanted)
        rows = summary(rates, processor)
        told = {"size": case.size, "batch": case.batch, "steps": steps}
        results[name] = {**told, "summary": rows, "rates": rates, "by_processor_second": processor}
        print(f"\n{table(name, rows)}\n", flush=True)
    device = start(given.device, given.precision)
    about = "" if given.only == list(CASES) else "-" + "+".join(given.only)
    about = "-smoke" if given.smoke else about + ("" if given.precision == "fp32" else f"-{given.precision}")
    about += f"-{device.device.type}" if device.device.type != "cpu" else ""
    about += "-compiled" if "ours compiled" in (given.peers or ()) else ""
    what = "training rates of whole pipelines, images/s; ours_over_it: the median of the rounds' quotients"
    told = {"precision": given.precision, "cases": results}
    path = _record.write(f"peers{about}", what, told, out=given.out, device=str(device.device))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
