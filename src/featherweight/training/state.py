"""All that changes while a run trains, and so all that a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featherweight.console import say
from featherweight.errors import UserError
from featherweight.models import Classifier
from featherweight.training import checkpoint
from featherweight.training.averaging import Averages
from featherweight.untrusted_files import explained


@dataclass
class TrainState:
    """The model and what trains it, the steps of the current epoch, and the history of the epochs before.

    `losses` float32 [steps] and `answers` int32 [2, steps, B] are of the current epoch: the loss of each step, and of
    its images the true classes and those that the model gave.
    """

    model: Classifier
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    averages: Averages
    losses: Tensor
    answers: Tensor
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None  # the weights that did best on the holdout, where early stopping wants them

    def __post_init__(self) -> None:
        self.forward: Callable[[Tensor], Tensor] = self.model
        self._rates = [group["lr"] for group in self.optimizer.param_groups]

    def set_rate(self, factor: float) -> None:
        """Multiply the rates that the optimizer was made with."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def logits(self, images: Tensor) -> Tensor:
        """What the model answers. Raises UserError for a single image that batch norm can take no statistics of."""
        try:
            return self.forward(images)
        except ValueError as error:
            if len(images) > 1:
                raise
            raise UserError(
                "one image alone, its maps of one pixel, has no batch-norm statistics: choose train.batch_size and "
                "train.accumulate so that no part of a batch is a single image"
            ) from error

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        checkpoint.save(
            path,
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "averages": self.averages.state_dict(),
                "best": self.best,
                "losses": self.losses,
                "answers": self.answers,
                "step": self.step,
                "seconds": self.seconds,
                "history": self.history,
            },
        )

    def restore(self, path: Path) -> None:
        """Go on from the checkpoint, if there is one."""
        saved = checkpoint.load(path)
        if saved is None:
            return
        with explained(path, checkpoint.DAMAGED):  # by whoever wrote into it: other keys, other shapes
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scaler.load_state_dict(saved["scaler"])
            self.averages.load_state_dict(saved["averages"])
            self.best = saved["best"]
            self.losses.copy_(saved["losses"])
            self.answers.copy_(saved["answers"])
            self.step, self.seconds, self.history = saved["step"], saved["seconds"], saved["history"]
        say(f"  going on from step {self.step:,}")

    def note(self, short: bool = False) -> str:
        """The last epoch in words: loss, and accuracies as far as they are known."""
        if not self.history:
            return ""
        row = self.history[-1]
        scored = next((past for past in reversed(self.history) if not math.isnan(past["holdout_accuracy"])), None)
        holdout = f"  holdout {scored['holdout_accuracy']:.2%}" if scored else ""
        known = not short and not math.isnan(row["train_accuracy"])
        trained = f"  train {row['train_accuracy']:.2%}" if known else ""
        loss = "" if math.isnan(row["train_loss"]) else f"loss {row['train_loss']:.4f}"
        return f"{loss}{trained}{holdout}".strip()
