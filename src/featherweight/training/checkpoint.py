"""Checkpoints, which hold all that changes during a training, and the file of the final weights."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from featherweight import atomic
from featherweight.console import say
from featherweight.errors import UserError
from featherweight.models import Classifier
from featherweight.models.weights_file import to_safetensors
from featherweight.training.averaging import Averages
from featherweight.untrusted_files import explained, regular_file

DAMAGED = "this checkpoint is damaged, or of another version; delete it to train anew"


@dataclass
class TrainState:
    """The model and what trains it, the steps of the current epoch, and the history of the epochs before.

    Of the current epoch: `losses` float32 [steps], and `answers` int32 [2, steps, B], the true and the predicted
    classes.
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
    best: dict[str, Tensor] | None = None  # the best weights so far on the holdout, if early stopping restores them

    def __post_init__(self) -> None:
        self.forward: Callable[[Tensor], Tensor] = self.model
        self._rates = [group["lr"] for group in self.optimizer.param_groups]

    def set_rate(self, factor: float) -> None:
        """Set the learning rate of each parameter group to its initial one times `factor`."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def logits(self, images: Tensor) -> Tensor:
        """Return the model's logits [B, K]. Raises UserError for a single value per channel in batch norm."""
        try:
            return self.forward(images)
        except ValueError as error:
            if len(images) > 1:
                raise
            raise UserError(
                "batch norm needs more than one value per channel, and a part of the batch is a single image with maps "
                "of one pixel: choose train.batch_size and train.accumulate so that every part has two images or more"
            ) from error

    def save(self, path: Path) -> None:
        """Write the checkpoint atomically."""
        save(path, self._content())

    @property
    def nbytes(self) -> int:
        """The size of its tensors in bytes, which is about that of its checkpoint."""
        return _nbytes(self._content())

    def _content(self) -> dict[str, Any]:
        return {
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
        }

    def restore(self, path: Path) -> None:
        """Load the checkpoint, if there is one."""
        saved = load(path)
        if saved is None:
            return
        with explained(path, DAMAGED):  # something else may have written to it: other keys, other shapes
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scaler.load_state_dict(saved["scaler"])
            self.averages.load_state_dict(saved["averages"])
            self.best = saved["best"]
            self.losses.copy_(saved["losses"])
            self.answers.copy_(saved["answers"])
            self.step, self.seconds, self.history = saved["step"], saved["seconds"], saved["history"]
        say(f"  continuing from step {self.step:,}")

    def note(self, short: bool = False) -> str:
        """Return a line about the last epoch: its losses, and accuracies if they are known."""
        if not self.history:
            return ""
        row = self.history[-1]
        scored = next((past for past in reversed(self.history) if not math.isnan(past["holdout_accuracy"])), None)
        known = not short and not math.isnan(row["train_accuracy"])
        parts = [f"train {row['train_accuracy']:.2%}"] if known else []
        parts += [f"holdout {scored['holdout_accuracy']:.2%}"] if scored else []
        loss = "" if math.isnan(row["train_loss"]) else f"loss {row['train_loss']:.4f}"
        # named, since the competition may judge by another metric
        return "  ".join(filter(None, (loss, "accuracy: " + ", ".join(parts) if parts else "")))


def _nbytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_nbytes, inner))


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values; a kill during the write leaves the previous checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic.write_bytes(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any] | None:
    """Return the state saved at `path`, on the CPU, or None if there is no file. Raises UserError for a damaged one."""
    if not path.exists():
        return None
    with explained(path, DAMAGED):
        if not zipfile.is_zipfile(path):  # what torch writes is a zip; given anything else it fails in many ways
            raise ValueError("no archive")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def save_weights(path: Path, model: nn.Module) -> None:
    """Write every parameter and buffer in the safetensors format. The same weights give the same bytes."""
    atomic.write_bytes(path, to_safetensors(model.state_dict()))


def load_weights(path: Path, model: nn.Module) -> None:
    """Load saved weights into `model`. Raises UserError if any name or shape differs from the model's."""
    if not path.exists():
        raise UserError(f"there are no weights at {path}")
    regular_file(path)
    with explained(path, "these weights do not fit the recipe"):
        model.load_state_dict(safetensors.torch.load_file(path), strict=True)
