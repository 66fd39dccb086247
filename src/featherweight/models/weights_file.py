"""Files of weights from others, read without running anything in them.

`.safetensors` files hold only tensors. Files saved by torch are unpickled by its weights-only loader, which knows
tensors, numbers, texts and containers, and nothing that could be called; any other content is refused, except for the
plain records in which training scripts keep their settings (`INERT`). For TorchScript and torch.export see
`foreign_archives`.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import re
import types
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from featherweight import untrusted_files
from featherweight.errors import UserError
from featherweight.models.foreign_archives import archive_kind, read_export, read_torchscript

# Where checkpoints keep the model's own weights, in order of preference, and averages of them, which come after them.
NESTS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "module",
    "weights",
    "params",
)
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")


def _as_dict(*of: Any) -> dict[Any, Any]:
    """Stand for a dict with a default, which is filled next and asked for nothing that it does not have."""
    return {}


def _as_list(items: Iterable[Any] = (), longest: int | None = None) -> list[Any]:
    """Stand for a queue."""
    return list(items)


_scalar: Any = np.float64(0).__reduce__()[0]
_array: Any = np.zeros(0).__reduce__()[0]
# Objects that timm, torchvision, Lightning and many others store beside the weights. Making one runs no code.
INERT: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    types.SimpleNamespace,
    datetime.datetime,
    datetime.date,
    datetime.timedelta,
    datetime.timezone,
    torch.torch_version.TorchVersion,  # of torch.__version__, a text
    frozenset,
    range,
    (types.SimpleNamespace, "fastcore.foundation.L"),  # the list in which fastai keeps an optimizer's settings
    (_as_dict, "collections.defaultdict"),
    (_as_list, "collections.deque"),
    *(list, dict, int, float),  # what a defaultdict makes
    pathlib.PurePosixPath,
    (pathlib.PurePosixPath, "pathlib.PosixPath"),
    (pathlib.PurePosixPath, "pathlib._local.PosixPath"),
    pathlib.PureWindowsPath,
    (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
    (pathlib.PureWindowsPath, "pathlib._local.WindowsPath"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
    (_array, "numpy.core.multiarray._reconstruct"),
    (_array, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(code)) for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")),
    *(type(np.dtype(code)) for code in ("c8", "c16", "U")),
]
# Prefixes of all names: of data-parallel wrappers, compiled models, Lightning and this program.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "_model.")
PICKLED = b"\x80"  # what every pickle begins with that torch has written
REFUSED = "refused: the file holds more than tensors, numbers and texts, and reading it could run code that is in it"


def to_safetensors(state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the tensors of a state as the bytes of a safetensors file. The same tensors give the same bytes.

    The format has no shared memory: tensors that a network has under two names are written under both.
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
    """Return the model's tensors in a file of weights or a checkpoint, by name, on the CPU.

    Raises UserError if it is not such a file, is damaged, holds no tensors by name, or could run code.
    """
    return model_in(path, read_content(path))


def model_in(path: Path, content: Any) -> dict[str, Tensor]:
    """Return what `state_in` finds. Raises UserError if that is nothing, and says what the file holds."""
    state = state_in(content)
    if not state:
        refuse_no_tensors(path, content)
    return state


def refuse_no_tensors(path: Path, content: Any) -> NoReturn:
    """Raise UserError that says what a file holds instead of tensors."""
    inside = [str(key) for key in content][:5] if isinstance(content, Mapping) else []
    raise UserError(
        f"{path}: no tensors by name in it, neither at the top level nor under {', '.join(NESTS[:3])}, ...; "
        f"it holds {', '.join(inside) or f'a {type(content).__name__}'}"
    )


def read_content(path: Path) -> Any:
    """Return everything in a file of weights, as plain data and tensors. Raises UserError as `read_state` does."""
    head = untrusted_files.beginning(path, 64)
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
        raise UserError(f"{path}: not a weights file: {begins}")
    return _unpickled(path, mmap=False)


def refuse_swollen_archive(path: Path) -> list[str]:
    """Raise UserError for an archive that unpacks to more than its size: torch does not compress, so it is malicious.

    Returns the names of its entries.
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

    with untrusted_files.explained(path, "not a readable .safetensors file: it is damaged, or of another format"):
        tensors: dict[str, Tensor] = load_file(path)
    return tensors


def _unpickled(path: Path, mmap: bool) -> Any:
    with untrusted_files.explained(path, "not a weights file that torch can read: it is damaged, or of another format"):
        try:
            with (
                untrusted_files.bounded_memory(path),
                torch.serialization.safe_globals(INERT),
                warnings.catch_warnings(action="ignore"),  # about deprecated content
            ):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except Exception as error:
            if "eights_only" in str(error) or "Weights only" in str(error):
                named = re.search(r"GLOBAL ([\w.]+)", str(error))
                what = f" ({named[1]})" if named else ""
                hint = "; torch.save(model.state_dict(), FILE) saves its weights alone" if what else ""
                raise UserError(f"{path}: {REFUSED}{what}{hint}") from None
            raise


def state_in(content: Any) -> dict[str, Tensor]:
    """Return the model's tensors in the content of a checkpoint, without the prefixes that wrappers add to names."""
    where = _nest(content)
    return {} if where is None else unwrapped(dict(_tensors(where)))


def normalize_in(content: Any) -> tuple[Tensor, Tensor] | None:
    """Return the mean and standard deviation, [C, 1, 1] or per pixel, in weights saved by this program, or None."""
    state = dict(_tensors(_nest(content) or {}))
    mean, deviation = state.get("normalize.mean"), state.get("normalize.std")
    ours = any(name.startswith("net.") for name in state)
    return (mean, deviation) if ours and mean is not None and deviation is not None else None


def average_beside(content: Any) -> str:
    """Return the key of averaged weights that a checkpoint has beside the model's own; empty if there are none."""
    if not isinstance(content, Mapping) or all(_nest(content.get(nest)) is None for nest in NESTS):
        return ""
    return next((nest for nest in AVERAGES if _nest(content.get(nest)) is not None), "")


def _nest(content: Any, deep: int = 3) -> Mapping[Any, Any] | None:
    """Return the mapping of names to the model's tensors in a checkpoint; None if there is none."""
    if not isinstance(content, Mapping) or not deep:
        return None
    for nest in (*NESTS, *AVERAGES):
        nested = _nest(content.get(nest), deep - 1)
        if nested is not None:
            return nested
    return content if any(True for _ in _tensors(content)) else None


def _tensors(mapping: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    """Return the tensors by name, with arrays of numbers; torch's packed layers hold weight and bias in a tuple."""
    for key, value in mapping.items():
        if isinstance(key, str):
            if isinstance(value, Tensor):
                yield key, value
            elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.dtype.isnative:
                yield key, torch.from_numpy(value)
            elif isinstance(value, tuple) and key.endswith("_packed_params"):
                yield from ((f"{key}.{place}", one) for place, one in enumerate(value) if isinstance(one, Tensor))


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state without the prefixes of wrappers that all names have."""
    if any(name.startswith("net.") for name in state):  # this program's: the normalisation is not part of the net
        state = {name: tensor for name, tensor in state.items() if name not in ("normalize.mean", "normalize.std")}
    names = list(state)
    for _ in range(3):
        prefix = next((one for one in WRAPPERS if all(name.startswith(one) for name in names)), "")
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, state.values(), strict=True))
