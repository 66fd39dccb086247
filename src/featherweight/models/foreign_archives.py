"""TorchScript and torch.export archives, read for their tensors only: no code in them is loaded or run.

Both are zip archives of raw memory. TorchScript describes the memory in pickles, which are read by an unpickler that
knows tensors, numbers and lists, and represents every class of the archive by a plain bag of attributes. torch.export
(`.pt2`) describes it in JSON.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featherweight import untrusted_files
from featherweight.errors import UserError

# Of torch.export's schema, by number.
SCALARS = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
    29: torch.float8_e4m3fn, 30: torch.float8_e5m2,
}  # fmt: skip
STORAGES = {
    "Byte": torch.uint8, "Char": torch.int8, "Short": torch.int16, "Int": torch.int32, "Long": torch.int64,
    "Half": torch.float16, "Float": torch.float32, "Double": torch.float64, "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128, "Bool": torch.bool, "BFloat16": torch.bfloat16, "QInt8": torch.int8,
    "QUInt8": torch.uint8, "QInt32": torch.int32,
}  # fmt: skip
LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
MAX_DEPTH = 100  # of modules within modules


def archive_kind(names: Collection[str]) -> str:
    """Return the kind of an archive, by the names of its entries: `torchscript`, `export` or else `weights`."""
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside:
        return "torchscript"
    exported = "archive_format" in inside or "serialized_exported_program.json" in names
    return "export" if exported or any(name.endswith("weights_config.json") for name in inside) else "weights"


def read_torchscript(path: Path) -> dict[str, Any]:
    """Return the tensors of a TorchScript archive, by attribute path; those of frozen ones are `constant.N`. Numbers in
    lists and dicts are lists under the path and `numbers`.

    Raises UserError if the archive is damaged or has unknown content.
    """
    with _opened(path) as archive, untrusted_files.explained(path, "not a readable TorchScript archive"):
        root = _root(archive)
        module = _Inert(archive, root, "data").load()
        constants = _Inert(archive, root, "constants").load()
        tensors = dict(_tensors(module, (), {}))
        for number, one in enumerate(constants if isinstance(constants, tuple | list) else ()):
            tensors |= dict(_tensors(one, (f"constant.{number}",), {}))
    return tensors


def read_export(path: Path) -> dict[str, Tensor]:
    """Return the weights and constants of a torch.export archive, by name. Raises UserError like `read_torchscript`.

    Integers in buffers that are not saved with the weights are left out, since the code creates them.
    """
    with _opened(path) as archive, untrusted_files.explained(path, "not a readable torch.export archive"):
        if "serialized_state_dict.pt" in archive.namelist():  # of torch before 2.7
            return dict(_weights_only(path, archive.read("serialized_state_dict.pt")))
        memories: dict[Any, Any] = {}  # each read once, for tied weights share theirs
        tensors: dict[str, Tensor] = {}
        for entry in archive.namelist():
            if entry.endswith(("_weights_config.json", "_constants_config.json")):
                folder = entry.rpartition("/")[0]
                for name, layer in json.loads(archive.read(entry))["config"].items():
                    meta, where = layer.get("tensor_meta"), f"{folder}/{layer['path_name']}"
                    if layer["use_pickle"]:
                        if where not in memories:
                            memories[where] = _weights_only(path, archive.read(where))
                        tensors[name] = memories[where]
                    elif meta is not None:
                        dtype = SCALARS[meta["dtype"]]
                        if (where, dtype) not in memories:
                            memories[where, dtype] = _memory(archive.read(where), dtype)
                        tensors[name] = _from_meta(meta, memories[where, dtype])
        made = [name for name in _not_saved(archive) if name in tensors]
    return {
        name: one for name, one in tensors.items() if name not in made or one.dtype not in (torch.int64, torch.bool)
    }


def _not_saved(archive: zipfile.ZipFile) -> set[str]:
    """The names of buffers that are not saved with the weights."""
    names = set()
    for entry in archive.namelist():
        if "/models/" in entry and entry.endswith(".json"):
            for one in json.loads(archive.read(entry))["graph_module"]["signature"]["input_specs"]:
                if one.get("buffer", {}).get("persistent") is False:
                    names.add(one["buffer"]["buffer_name"])
    return names


def _opened(path: Path) -> zipfile.ZipFile:
    untrusted_files.refuse_beyond_memory(path, path.stat().st_size)
    return zipfile.ZipFile(path)


def _weights_only(path: Path, content: bytes) -> Any:
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path}: refused: it holds a pickle that could run code") from None


def _from_meta(meta: dict[str, Any], memory: Tensor) -> Tensor:
    sizes = [one["as_int"] for one in meta["sizes"]]
    strides = [one["as_int"] for one in meta["strides"]]
    return _viewed(memory, meta["storage_offset"]["as_int"], sizes, strides)


def _memory(content: bytes, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _viewed(memory: Tensor, offset: int, sizes: Any, strides: Any) -> Tensor:
    return memory.as_strided(tuple(sizes), tuple(strides), offset)


def _root(archive: zipfile.ZipFile) -> str:
    """Return the top folder of the archive."""
    return next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")


class _Bag:
    """An object of a class of the archive: its attributes, and nothing that could be called."""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Inert(pickle.Unpickler):
    """An unpickler that makes tensors, numbers, lists and bags of attributes, and refuses everything else."""

    def __init__(self, archive: zipfile.ZipFile, root: str, name: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}{name}.pkl")))
        self._archive, self._folder = archive, f"{root}{name}/"
        self._memories: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage") and name.removesuffix("Storage") in STORAGES:
            return STORAGES[name.removesuffix("Storage")]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_qtensor")):
            return _rebuilt
        if module == "torch.jit._pickle":
            return _listed if name in LISTS else _untagged
        if module.startswith("__torch__"):
            return _Bag
        raise pickle.UnpicklingError(f"it names {module}.{name}, which could run code; nothing in it was run")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, _ = pid
        if key not in self._memories:
            self._memories[key] = _memory(self._archive.read(f"{self._folder}{key}"), dtype)
        return self._memories[key]


def _rebuilt(memory: Tensor, offset: int, sizes: Any, strides: Any, *others: Any) -> Tensor:
    return _viewed(memory, offset, sizes, strides)


def _listed(items: Any) -> list[Any]:
    return list(items)


def _untagged(item: Any, *tag: Any) -> Any:
    return item


def _tensors(thing: Any, names: tuple[str, ...], seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, Tensor):
        yield ".".join(names), thing
        return
    if id(thing) in seen or len(names) > MAX_DEPTH:
        return
    seen[id(thing)] = thing
    if isinstance(thing, _Bag):
        yield from _tensors(thing.state, names, seen)
    elif isinstance(thing, dict | list | tuple):
        inside = thing if isinstance(thing, dict) else dict(enumerate(thing))
        numbers = [one for one in inside.values() if isinstance(one, int | float | complex)]
        if numbers:
            yield ".".join((*names, "numbers")), numbers
        for key, value in inside.items():
            if not isinstance(value, int | float | complex | str):
                yield from _tensors(value, (*names, str(key)), seen)
