"""The published fast recipe for CIFAR-10 (airbench94, Jordan 2024, arXiv:2404.00498), rebuilt for comparison.

It works on any images. All images are on the device; before the first epoch they are normalised, a random half of them
is mirrored, and they are padded. Each epoch shifts every image at random, and every other epoch mirrors all images.
Training uses Nesterov SGD with a triangular learning rate, a 64-fold rate for the biases of the batch norms, weight
decay that is independent of the rate, and lookahead every five steps; prediction uses six test-time views. On CUDA the
network is float16 with float32 batch norms, as published; on the CPU it is float32. No code is shared with the package,
so that the two are measured independently.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

EPOCHS, BATCH, WIDTHS = 9.9, 1024, (64, 256, 256)
RATE, MOMENTUM, DECAY, BIAS_RATE, SMOOTHING = 11.5, 0.85, 0.0153, 64.0, 0.2  # RATE and DECAY are for 1,024 images
SHIFT, WHITEN_EPOCHS, LOOKAHEAD = 2, 3, 5
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def prepared(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Convert images uint8 [N, H, W, C] to normalised [N, C, H, W] on the device, in the network's precision."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).to(dtype).div_(255)
    mean, std = (torch.tensor(values, dtype=dtype, device=device).view(3, 1, 1) for values in (MEAN, STD))
    return pixels.sub_(mean).div_(std)


class Loader:
    """Iterate over batches of images that stay on the device."""

    def __init__(self, images: Tensor, labels: Tensor, batch: int = BATCH) -> None:
        mirrored = torch.where(torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5, images.flip(-1), images)
        self.padded, self.side = F.pad(mirrored, [SHIFT] * 4, mode="reflect"), images.shape[-1]
        self.labels, self.batch, self.epoch = labels, batch, 0

    def __len__(self) -> int:
        return len(self.labels) // self.batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count, device = len(self.labels), self.labels.device
        down, right = torch.randint(2 * SHIFT + 1, (2, count, 1), device=device)
        places = torch.arange(self.side, device=device)
        rows, columns = (down + places)[:, :, None], (right + places)[:, None, :]
        pixels = self.padded.permute(0, 2, 3, 1)
        order = torch.randperm(count, device=device)
        for step in range(len(self)):
            chosen = order[step * self.batch : (step + 1) * self.batch]
            images = pixels[chosen[:, None, None], rows[chosen], columns[chosen]].permute(0, 3, 1, 2)
            yield (images.flip(-1) if self.epoch % 2 else images), self.labels[chosen]
        self.epoch += 1


class _Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 9


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight[:inputs])
    return conv


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


def network(device: torch.device, widths: Sequence[int] = WIDTHS, classes: int = 10) -> nn.Sequential:
    """Build the published network, in channels_last and, on CUDA, with float16 convolutions."""
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 2), nn.GELU()]
    for inputs, outputs in zip((24, *widths), widths, strict=False):
        layers += [_convolution(inputs, outputs), nn.MaxPool2d(2), _norm(outputs), nn.GELU()]
        layers += [_convolution(outputs, outputs), _norm(outputs), nn.GELU()]
    net = nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(widths[-1], classes, bias=False), _Scaled())
    net[0].weight.requires_grad_(False)
    net = net.to(device, torch.float16 if device.type == "cuda" else torch.float32)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.float()
    return net.to(memory_format=torch.channels_last)


@torch.no_grad()
def whiten(layer: nn.Conv2d, images: Tensor) -> None:
    """Set the filters to the whitened principal components of 2x2 patches and their negatives; set the bias to zero."""
    patches = images.float().unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + 5e-4).sqrt()).T.flip(0).reshape(12, 3, 2, 2)
    layer.weight.copy_(torch.cat([filters, -filters]))
    assert layer.bias is not None
    layer.bias.zero_()


class Trainer:
    """A network with its optimizer and lookahead; `epoch` trains for one pass over the images."""

    def __init__(self, loader: Loader, sample: Tensor, epochs: float = EPOCHS, widths: Sequence[int] = WIDTHS) -> None:
        device = sample.device
        self.loader, self.total, self.step = loader, max(1, math.ceil(len(loader) * epochs)), 0
        self.net = network(device, widths)
        first = self.net[0]
        assert isinstance(first, nn.Conv2d)
        whiten(first, sample)
        per_image = 1024 * (1 + 1 / (1 - MOMENTUM))
        rate, decay = RATE / per_image, DECAY * loader.batch / per_image
        trained = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        biases = [m.bias for m in self.net.modules() if isinstance(m, nn.BatchNorm2d)]
        others = [p for p in trained if all(p is not bias for bias in biases)]
        groups = [
            {"params": biases, "lr": rate * BIAS_RATE, "weight_decay": decay / (rate * BIAS_RATE)},
            {"params": others, "lr": rate, "weight_decay": decay / rate},
        ]
        self.optimizer = torch.optim.SGD(groups, rate, MOMENTUM, nesterov=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._factor)
        self.slow = [tensor.clone() for tensor in self._weights()]

    def _factor(self, step: int) -> float:
        peak = int(0.23 * self.total)
        if step < peak:
            return 0.2 + 0.8 * step / peak
        return 1 - 0.93 * (step - peak) / (self.total - peak)

    def _weights(self) -> list[Tensor]:
        return [tensor for tensor in self.net.state_dict().values() if tensor.is_floating_point()]

    @torch.no_grad()
    def _look_ahead(self, kept: float) -> None:
        for slow, fast in zip(self.slow, self._weights(), strict=True):
            slow.lerp_(fast, 1 - kept)
            fast.copy_(slow)

    def epoch(self, steps: int | None = None) -> None:
        """Train for one pass over the loader, but at most `steps` steps and at most to the end of the run."""
        self.net[0].bias.requires_grad_(self.loader.epoch < WHITEN_EPOCHS)
        self.net.train()
        for number, (images, labels) in enumerate(self.loader):
            if number == steps or self.step == self.total:
                break
            loss = F.cross_entropy(self.net(images), labels, label_smoothing=SMOOTHING, reduction="sum")
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.step += 1
            if self.step % LOOKAHEAD == 0:
                self._look_ahead(0.95**5 * (self.step / self.total) ** 3)
        if self.step == self.total:
            self._look_ahead(1.0)


@torch.no_grad()
def predicted(net: nn.Module, images: Tensor, size: int = 2000) -> Tensor:
    """Predict the classes of prepared images by six views; the shifted views have half the weight."""
    net.eval()
    answers = []
    for part in images.split(size):
        side, padded = part.shape[-1], F.pad(part, [1] * 4, mode="reflect")
        views = ((0.5, part), (0.25, padded[:, :, :side, :side]), (0.25, padded[:, :, 2:, 2:]))
        answers.append(sum(weight * (net(view) + net(view.flip(-1))) for weight, view in views).argmax(1))
    return torch.cat(answers)


class Outcome(NamedTuple):
    """The result of a run: the seconds from images on the device to the last prediction, and the test accuracy."""

    seconds: float
    accuracy: float


def run(
    train: tuple[NDArray[np.uint8], NDArray[np.int64]],
    test: tuple[NDArray[np.uint8], NDArray[np.int64]],
    device: torch.device,
    epochs: float = EPOCHS,
    batch: int = BATCH,
    widths: Sequence[int] = WIDTHS,
) -> Outcome:
    """Train and test once; `train` and `test` are pairs (images, classes)."""
    images, unseen = prepared(train[0], device), prepared(test[0], device)
    labels, truth = torch.from_numpy(train[1]).to(device), torch.from_numpy(test[1]).to(device)
    wait(device)
    began = time.perf_counter()
    trainer = Trainer(Loader(images, labels, min(batch, len(images))), images[:5000], epochs, widths)
    while trainer.step < trainer.total:
        trainer.epoch()
    right = (predicted(trainer.net, unseen) == truth).float().mean()
    wait(device)
    return Outcome(time.perf_counter() - began, right.item())


def wait(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
