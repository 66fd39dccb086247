"""A run's state on the disk, whole or not at all, and what ships in the end: the weights."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from featherweight import atomic
from featherweight.errors import UserError


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values; a kill during the write leaves the checkpoint before it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic.write_bytes(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any] | None:
    """The state saved at `path`, on the CPU, or None where there is none. Raises UserError for a damaged file."""
    if not path.exists():
        return None
    damaged = UserError(f"{path}: this checkpoint is damaged; delete it to train anew")
    if not zipfile.is_zipfile(path):  # what torch writes is a zip; given anything else it fails in many ways
        raise damaged
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError):
        raise damaged from None
    return state


def save_weights(path: Path, model: nn.Module) -> None:
    """Write what ships: every parameter and buffer, in safetensors' format. The same weights give the same bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    atomic.write_bytes(path, safetensors.torch.save(tensors))


def load_weights(path: Path, model: nn.Module) -> None:
    """Fill `model` from saved weights. Raises UserError when they are not this model's, to the last name and shape."""
    try:
        tensors = safetensors.torch.load_file(path)
        model.load_state_dict(tensors, strict=True)
    except FileNotFoundError:
        raise UserError(f"there are no weights at {path}") from None
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: these weights do not fit the recipe ({_detail(error)})") from None


def _detail(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
