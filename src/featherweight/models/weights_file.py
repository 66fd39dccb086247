"""Files of weights that others made, read without running anything that is in them.

`.safetensors` hold tensors alone. What torch has saved is unpickled by its weights-only loader, which knows tensors,
numbers, texts and containers, and nothing that could be called; any other content is refused, but for the plain records
in which training scripts keep their settings (`INERT`). TorchScript and torch.export: see `foreign_archives`.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from featherweight import untrusted_files
from featherweight.errors import UserError
from featherweight.models.foreign_archives import archive_kind, read_export, read_torchscript

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
    "ema_state_dict",
    "ema_model",
    "ema",
)
_scalar: Any = np.float64(0).__reduce__()[0]
_array: Any = np.zeros(0).__reduce__()[0]
# What the scripts of timm and torchvision, Lightning and many others keep beside the weights. Making one runs nothing.
INERT: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    pathlib.PurePosixPath,
    (pathlib.PurePosixPath, "pathlib.PosixPath"),
    (pathlib.PurePosixPath, "pathlib._local.PosixPath"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    (_array, "numpy.core.multiarray._reconstruct"),
    (_array, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(code)) for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")),
]
# What programs put before every name: data-parallel wrappers, compiled models, Lightning's and this program's own.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "_model.")
PICKLED = b"\x80"  # what every pickle begins with that torch has written
REFUSED = "refused: the file holds more than tensors, numbers and texts, and reading it could run code that is in it"


def to_safetensors(state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The tensors of a state as the bytes of a safetensors file. The same tensors give the same bytes.

    The format knows no shared memory: what a network has under two names is written under both.
    """
    written: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        plain = tensor.detach().cpu().contiguous()
        address = plain.untyped_storage().data_ptr()
        written[name] = plain.clone() if address in seen else plain
        seen.add(address)
    content: bytes = safetensors.torch.save(written, None if metadata is None else dict(metadata))
    return content


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of the model in a file of weights or a checkpoint, by name, on the CPU.

    Raises UserError for a file that is none, is damaged, holds no tensors by name, or could run code.
    """
    return model_in(path, read_content(path))


def model_in(path: Path, content: Any) -> dict[str, Tensor]:
    """As `state_in`. Raises UserError where there are none, and says what there is."""
    state = state_in(content)
    if not state:
        refuse_no_tensors(path, content)
    return state


def refuse_no_tensors(path: Path, content: Any) -> NoReturn:
    """Raise UserError with what there is in a file instead."""
    inside = [str(key) for key in content][:5] if isinstance(content, Mapping) else []
    raise UserError(
        f"{path}: there are no tensors by name in it, neither at its top nor under {', '.join(NESTS[:3])}, ...; "
        f"it holds {', '.join(inside) or f'a {type(content).__name__}'}"
    )


def read_content(path: Path) -> Any:
    """All that a file of weights holds, as plain data and tensors. Raises UserError as `read_state`."""
    untrusted_files.regular_file(path)
    with path.open("rb") as stream:
        head = stream.read(64)
    if path.suffix.lower() == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path)
    if head[:2] == b"PK":
        kind = archive_kind(refuse_swollen_archive(path))
        if kind == "torchscript":
            return read_torchscript(path)
        return read_export(path) if kind == "export" else _unpickled(path, mmap=True)
    if head[:1] != PICKLED:
        begins = "it is empty"
        if head:
            begins = f"it begins with {head[:24].decode('ascii', 'replace')!r}"
        hint = ", a pointer to a file that git-lfs has: git lfs pull" if b"git-lfs" in head else ""
        raise UserError(f"{path}: no file of weights: {begins}{hint}")
    return _unpickled(path, mmap=False)


def refuse_swollen_archive(path: Path) -> list[str]:
    """Torch stores what it saves as it is: an archive that unpacks to more than its own size was made to do harm.

    Returns the names of what is in it.
    """
    with (
        untrusted_files.explained(path, "damaged: it begins as a zip archive and is none"),
        zipfile.ZipFile(path) as archive,
    ):
        entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > 1.1 * path.stat().st_size + 2**20:
        raise UserError(f"{path}: refused: its entries are declared to be larger than the file")
    return [entry.filename for entry in entries]


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    with untrusted_files.explained(path, "no readable .safetensors file: it is damaged, or of another format"):
        tensors: dict[str, Tensor] = load_file(path)
    return tensors


def _unpickled(path: Path, mmap: bool) -> Any:
    with untrusted_files.explained(path, "no file of weights that torch can read: it is damaged, or of another format"):
        try:
            with (
                untrusted_files.bounded_memory(path),
                torch.serialization.safe_globals(INERT),
                warnings.catch_warnings(action="ignore"),  # of what is deprecated in it
            ):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except Exception as error:
            if "eights_only" in str(error) or "Weights only" in str(error):
                named = re.search(r"GLOBAL ([\w.]+)", str(error))
                what = f" ({named[1]})" if named else ""
                raise UserError(f"{path}: {REFUSED}{what}") from None
            raise


def state_in(content: Any) -> dict[str, Tensor]:
    """The model's tensors in what a checkpoint holds, with names freed of what wrappers put before them."""
    where = _nest(content)
    return {} if where is None else unwrapped(dict(_tensors(where)))


def normalize_in(content: Any) -> tuple[Tensor, Tensor] | None:
    """The mean and deviation, [C, 1, 1] or of every pixel, in weights that this program has saved."""
    state = dict(_tensors(_nest(content) or {}))
    mean, deviation = state.get("normalize.mean"), state.get("normalize.std")
    ours = any(name.startswith("net.") for name in state)
    return (mean, deviation) if ours and mean is not None and deviation is not None else None


def _nest(content: Any, deep: int = 3) -> Mapping[Any, Any] | None:
    """The mapping of names to the model's tensors in a checkpoint; None where there is none."""
    if not isinstance(content, Mapping) or not deep:
        return None
    for nest in NESTS:
        nested = _nest(content.get(nest), deep - 1)
        if nested is not None:
            return nested
    return content if any(True for _ in _tensors(content)) else None


def _tensors(mapping: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """By name; packed layers of torch keep weight and bias in one tuple. Arrays of numbers are tensors as well."""
    for key, value in mapping.items():
        if isinstance(key, str):
            if isinstance(value, Tensor):
                yield key, value
            elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.dtype.isnative:
                yield key, torch.from_numpy(value)
            elif isinstance(value, tuple) and key.endswith("_packed_params"):
                yield from ((f"{key}.{place}", one) for place, one in enumerate(value) if isinstance(one, Tensor))


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes of wrappers that all of them have."""
    if any(name.startswith("net.") for name in state):  # this program's own: the normalisation is no part of the net
        state = {name: tensor for name, tensor in state.items() if name not in ("normalize.mean", "normalize.std")}
    names = list(state)
    for _ in range(3):
        prefix = next((one for one in WRAPPERS if all(name.startswith(one) for name in names)), "")
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, state.values(), strict=True))
