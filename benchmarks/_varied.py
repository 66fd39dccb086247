"""A trainer for `tricks.py`: easy images are skipped, batches grow, convolutions are grouped, steps are timed."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from featherweight.config import Recipe
from featherweight.models import Classifier
from featherweight.models.fastnet import FastNet
from featherweight.training.batches import Batch
from featherweight.training.checkpoint import TrainState
from featherweight.training.schedules import rate_factor
from featherweight.training.trainer import Trainer

ALL_SHOWN = 0.3  # the part of the training in whose passes no image is skipped


@dataclass(frozen=True)
class Trick:
    """One change of the base.

    `skip`: the part of the images, those of the lowest loss, that a pass leaves out. `sizes`: the batch sizes of equal
    numbers of images shown, one after the other. `groups`: of the second convolution of each block. `length`: images
    shown, as a multiple of the base's.
    """

    name: str
    skip: float = 0.0
    sizes: Sequence[int] = (256,)
    groups: int = 1
    length: float = 1.0

    def steps(self, shown: int) -> list[int]:
        """Return the batch size of each step, if the base shows this many images."""
        part = shown * self.length / len(self.sizes)
        return [size for size in self.sizes for _ in range(round(part / size))]


class VariedTrainer(Trainer):
    """Trains with a trick, in steps whose batches have these sizes, and adds the processor seconds of each to `clock`.

    It does not continue from a checkpoint. A pass shows each image once, except those that are skipped, in batches of
    one size; it ends where the size changes. Muon's rate is proportional to the batch size, and the schedule follows
    the images shown. An image's loss is that of its last showing, before the step.
    """

    def __init__(
        self, recipe: Recipe, model: Classifier, *rest: Any, trick: Trick, sizes: Sequence[int], clock: list[float]
    ) -> None:
        if trick.groups > 1:
            group_convolutions(model, trick.groups)
        super().__init__(recipe, model, *rest)
        self.trick, self.sizes, self.clock = trick, sizes, clock
        self.shown_before = list(itertools.accumulate(sizes, initial=0))  # images, before each step
        self.logits = torch.empty(0)  # of the last step
        self.image_losses = torch.full((len(self.examples.train),), torch.inf)
        self.stream = self.passes()

    def _prepare(self) -> TrainState:
        state = super()._prepare()
        forward = state.forward

        def kept(images: Tensor) -> Tensor:
            self.logits = forward(images)
            return self.logits

        state.forward = kept
        return state

    def passes(self) -> Iterator[Batch]:
        """Yield the batches of one pass after the other."""
        for number in itertools.count():
            source = replace(self.source, batch_size=self.sizes[self.state.step], sampling=self.order)
            for batch in source.epoch(number):
                if self.sizes[self.state.step] != source.batch_size:
                    break
                yield batch

    def order(self, labels: NDArray[np.int64], seed: int, number: int) -> NDArray[np.int64]:
        """Return the images of a pass, int64 [M], in random order: the base's, without those that are skipped."""
        shown: NDArray[np.int64] = self.recipe.sampling(labels, seed, number)
        if not self.trick.skip or self.shown_before[self.state.step] < ALL_SHOWN * self.shown_before[-1]:
            return shown
        easy = self.image_losses.argsort(stable=True)[: round(self.trick.skip * len(labels))].numpy()
        return shown[~np.isin(shown, easy)]

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield as many batches as the trainer counts for an epoch, whatever pass they are of."""
        self.epoch_began_at = epoch * self.steps_per_epoch
        return itertools.islice(self.stream, min(self.steps_per_epoch, self.length.total - self.epoch_began_at))

    def set_rate(self) -> None:
        """Set the rates by the images shown, and Muon's by the batch size."""
        state, total = self.state, self.length.total
        done: Any = self.shown_before[state.step] * total / self.shown_before[-1]
        place = replace(self.length, step=done, history=state.history)
        state.set_rate(rate_factor(self.recipe, place))
        for group in state.optimizer.param_groups:
            if "iterations" in group:
                group["lr"] *= self.sizes[state.step] / self.recipe.train.batch_size

    def take_step(self, batch: Batch) -> None:
        """Take a timed step."""
        began = processor_seconds()
        super().take_step(batch)
        self.clock.append(processor_seconds() - began)

    def step_on(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Keep the images' losses; return as many answers as the trainer stores, whatever the batch size."""
        loss, answers = super().step_on(batch)
        if self.trick.skip:
            losses = F.cross_entropy(self.logits.detach().float(), batch.targets.argmax(1), reduction="none")
            self.image_losses[batch.draws.samples] = losses
        stored = self.source.size
        return loss, answers.repeat(1, -(-stored // answers.shape[1]))[:, :stored]


def processor_seconds() -> float:
    """Return the processor time of this process, and of those that it waited for, such as a compiler."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def group_convolutions(model: nn.Module, groups: int) -> None:
    """Replace the second convolution of each block of a fast net by a grouped one, which is the identity at first."""
    net = next(module for module in model.modules() if isinstance(module, FastNet))
    block: Any
    for block in net.groups:
        width = block.convs[1].in_channels
        conv = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False)
        nn.init.dirac_(conv.weight, groups)
        block.convs[1] = conv
