"""Files of weights that others made, read without running anything that is in them.

`.safetensors` hold tensors alone. What torch has saved is unpickled by its weights-only loader, which knows tensors,
numbers, texts and containers, and nothing that could be called; any other content is refused.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featherweight import reading
from featherweight.errors import UserError

# Where checkpoints keep the weights of the model itself, the first that is there; averaged weights come after them.
NESTS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "module",
    "weights",
    "params",
    "state_dict_ema",
    "model_ema",
    "ema",
)
# What programs put before every name: data-parallel wrappers, compiled models, Lightning's and this program's own.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "_model.")
REFUSED = "refused: the file holds more than tensors, numbers and texts, and reading it could run code that is in it"


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of the model in a file of weights or a checkpoint, by name, on the CPU.

    Raises UserError for a file that is none, is damaged, holds no tensors by name, or could run code.
    """
    content = read_content(path)
    state = state_in(content)
    if not state:
        raise UserError(f"{path}: there are no tensors by name in it")
    return state


def read_content(path: Path) -> Any:
    """All that a file of weights holds, as plain data and tensors. Raises UserError as `read_state`."""
    reading.regular_file(path)
    with path.open("rb") as stream:
        head = stream.read(16)
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path)
    if head[:2] == b"PK":
        refuse_swollen_archive(path)
        return _unpickled(path, mmap=True)
    return _unpickled(path, mmap=False)


def refuse_swollen_archive(path: Path) -> None:
    """Torch stores what it saves as it is: an archive that unpacks to more than its own size was made to do harm."""
    with reading.explained(path, "damaged: it begins as a zip archive and is none"), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > 1.1 * path.stat().st_size + 2**20:
        raise UserError(f"{path}: refused: its entries are declared to be larger than the file")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    with reading.explained(path, "no readable .safetensors file: it is damaged, or of another format"):
        tensors: dict[str, Tensor] = load_file(path)
    return tensors


def _unpickled(path: Path, mmap: bool) -> Any:
    with reading.explained(path, "no file of weights that torch can read: it is damaged, or of another format"):
        try:
            with reading.bounded_memory(path):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except Exception as error:
            if "eights_only" in str(error) or "Weights only" in str(error):
                named = re.search(r"GLOBAL ([\w.]+)", str(error))
                what = f" ({named[1]})" if named else ""
                raise UserError(f"{path}: {REFUSED}{what}") from None
            raise


def state_in(content: Any) -> dict[str, Tensor]:
    """The model's tensors in what a checkpoint holds, with names freed of what wrappers put before them."""
    for nest in ("", *NESTS):
        inner = content if nest == "" else content.get(nest) if isinstance(content, Mapping) else None
        if isinstance(inner, Mapping):
            tensors = dict(_tensors(inner))
            if tensors:
                return unwrapped(tensors)
    return {}


def _tensors(mapping: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    return ((key, value) for key, value in mapping.items() if isinstance(key, str) and isinstance(value, Tensor))


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes of wrappers that all of them have."""
    if any(name.startswith("net.") for name in state):  # this program's own: the normalisation is no part of the net
        state = {name: tensor for name, tensor in state.items() if not name.startswith("normalize.")}
    names = list(state)
    for _ in range(3):
        prefix = next((one for one in WRAPPERS if all(name.startswith(one) for name in names)), "")
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, state.values(), strict=True))
