"""Compare training speeds of EfficientNet-B0 on the CPU: ours, timm's and efficientnet-pytorch's, taking turns.

    ./run.sh bench efficientnet

All train the same network with strides as published, in float32, with Adam at its defaults as in the logbook: forward,
backward and step on a batch that is already in memory, at 32 and 64 px in batches of 16 and 128. Each library runs in a
separate process, as its users run it (eager mode, default memory layout), and once more in channels_last, which neither
library uses by default. Ours is placed and stepped as in `training/trainer.py`. The result is wall time. Processor
seconds are recorded as well, because they vary less on a machine that runs other programs. Writes a dated JSON to
reports/bench/.

What the optimisations saved, the largest first (single layers were timed while other programs ran, so the numbers are
orders of magnitude):

- page faults, 161,000 per step of batch 128 at 64 px, because glibc returns large blocks to the system: 1,250 to 925 ms
  of processor time with `mallopt` (`runtime/device.py`);
- the gradient of 5x5 depthwise kernels, and of all depthwise kernels on maps below 3 px, which oneDNN computes as if
  each group had 16 channels: 4.8 to 0.9 ms per layer of 672 channels on 4 px, batch 32 (`models/depthwise.py`);
- uneven padding, which was copied, and the second gradient of the squeeze-and-excitation input, which was written in
  the default layout;
- tensors that torch's deterministic mode fills with NaN before they are computed (`runtime/device.py`);
- the optimizer at batch 16: Adam 12.2 to 3.9 ms with torch's fused form (`training/optimizers.py`).

The remaining time is matrix products, and the memory passes of batch norm and swish. Tried without success: one product
per kernel tap (2.0 ms, against 0.9 for three columns at a time), an einsum over unfolded maps (54 ms), 5x5 as four 3x3
(1.4 ms), `foreach` optimizers and transparent huge pages (no gain).
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
from torch import nn

import _record

SETTINGS = [(32, 128), (64, 128), (32, 16), (64, 16)]  # pixels, batch


def ours(side: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Build our `efficientnet` as a recipe does, with its optimizer."""
    from featherweight.models import FAMILIES, build
    from featherweight.models.shape import Shape
    from featherweight.runtime.device import make_runtime
    from featherweight.training.optimizers import adam, groups

    net = make_runtime("cpu").place(build(FAMILIES.validate({"name": "efficientnet", "stem": 4}), Shape(10, 3, side)))
    return net, adam(groups(net))


def timm(side: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Build timm's network as its users do, with the same dropout and drop connect as the others."""
    import timm as library

    net = library.create_model("efficientnet_b0", num_classes=10, drop_rate=0.2, drop_path_rate=0.2)
    return net, torch.optim.Adam(net.parameters())


def efficientnet_pytorch(side: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Build efficientnet-pytorch's network as its users do; dropout and drop connect are 0.2 by default."""
    from efficientnet_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-b0", num_classes=10, image_size=side)
    return net, torch.optim.Adam(net.parameters())


CONTESTANTS: dict[str, tuple[Callable[[int], tuple[nn.Module, torch.optim.Optimizer]], bool]] = {
    "ours": (ours, True),
    "timm": (timm, False),
    "timm channels_last": (timm, True),
    "efficientnet_pytorch": (efficientnet_pytorch, False),
    "efficientnet_pytorch channels_last": (efficientnet_pytorch, True),
}


def contest(name: str, side: int, batch: int, steps: int, turns: Connection) -> None:
    """Take `steps` steps on each request through the pipe, and send back the wall and processor seconds."""
    make, channels_last = CONTESTANTS[name]
    torch.manual_seed(0)
    net, optimizer = make(side)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net.train().to(memory_format=layout)
    images = torch.rand(batch, 3, side, side).contiguous(memory_format=layout)
    targets = torch.randint(10, (batch,))

    def step() -> None:
        F.cross_entropy(net(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(2):
        step()
    turns.send(None)
    while turns.recv():
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        turns.send((time.perf_counter() - wall, time.process_time() - processor))


def measure(side: int, batch: int, rounds: int, images: int) -> dict[str, list[tuple[float, float]]]:
    """Return images per second of wall and of processor time, for every library and round."""
    steps = max(1, images // batch)
    spawn = multiprocessing.get_context("spawn")
    contestants = {}
    for name in CONTESTANTS:
        here, there = spawn.Pipe()
        process = spawn.Process(target=contest, args=(name, side, batch, steps, there), daemon=True)
        process.start()
        here.recv()
        contestants[name] = (here, process)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (here, _) in contestants.items():
            here.send(True)
            wall, processor = here.recv()
            rates[name].append((steps * batch / wall, steps * batch / processor))
    for here, process in contestants.values():
        here.send(False)
        process.join()
    return rates


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=256, help="images per turn")
    arguments = parser.parse_args()
    settings = []
    for side, batch in SETTINGS:
        rates = measure(side, batch, arguments.rounds, arguments.images)
        row = {}
        for name, values in rates.items():
            walls, processors = zip(*values, strict=True)
            gains, gains_processor = (
                [a[k] / b[k] for a, b in zip(rates["ours"], values, strict=True)] for k in range(2)
            )
            row[name] = {
                "images_per_second": {"median": statistics.median(walls), "all": walls},
                "images_per_processor_second": {"median": statistics.median(processors), "all": processors},
                "ours_over_it": {"median": statistics.median(gains), "min": min(gains), "max": max(gains)},
                "ours_over_it_by_processor": {
                    "median": statistics.median(gains_processor),
                    "min": min(gains_processor),
                    "max": max(gains_processor),
                },
            }
            print(
                f"{side} px, batch {batch:3}: {name:34} {statistics.median(walls):7.1f} images/s; ours is "
                f"{statistics.median(gains):.2f} times as fast ({min(gains):.2f} to {max(gains):.2f}), "
                f"by the processor {statistics.median(gains_processor):.2f}",
                flush=True,
            )
        settings.append({"side": side, "batch": batch, "contestants": row})
    what = "EfficientNet-B0, strides as published, float32, Adam: images/s of forward, backward and step"
    path = _record.write("efficientnet", what, {"settings": settings})
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
