"""A run's state on the disk, whole or not at all, and what ships in the end: the weights."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from featherweight import atomic
from featherweight.errors import UserError
from featherweight.untrusted_files import explained, regular_file

DAMAGED = "this checkpoint is damaged; delete it to train anew"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values; a kill during the write leaves the checkpoint before it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic.write_bytes(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any] | None:
    """The state saved at `path`, on the CPU, or None where there is none. Raises UserError for a damaged file."""
    if not path.exists():
        return None
    with explained(path, DAMAGED):
        if not zipfile.is_zipfile(path):  # what torch writes is a zip; given anything else it fails in many ways
            raise ValueError("no archive")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def save_weights(path: Path, model: nn.Module) -> None:
    """Write what ships: every parameter and buffer, in safetensors' format. The same weights give the same bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    atomic.write_bytes(path, safetensors.torch.save(tensors))


def load_weights(path: Path, model: nn.Module) -> None:
    """Fill `model` from saved weights. Raises UserError when they are not this model's, to the last name and shape."""
    if not path.exists():
        raise UserError(f"there are no weights at {path}")
    regular_file(path)
    with explained(path, "these weights do not fit the recipe"):
        model.load_state_dict(safetensors.torch.load_file(path), strict=True)
