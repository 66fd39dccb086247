"""Pickles of arrays, strings, numbers and containers, read so that nothing in them runs."""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from featherweight.errors import UserError
from featherweight.untrusted_files import bounded_memory, explained, open_regular


def read(path: Path) -> dict[str, Any]:
    """Return the dictionary in a pickle. Raises UserError for anything but arrays, text, numbers and containers."""
    with explained(path, "not a pickle of arrays"), bounded_memory(path), open_regular(path) as stream:
        content = _Arrays(stream, path).load()
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a pickled dictionary, got {type(content).__name__}")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError("it wants to use a codec")
    return text.encode("latin1")


class _Arrays(pickle.Unpickler):
    """An unpickler that allows what arrays and plain containers consist of, and refuses every other name."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        super().__init__(stream, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 and numpy 1 spell the modules differently.
        admitted = ADMITTED.get((module.replace("numpy._core.", "numpy.core."), name))
        if admitted is None:
            raise UserError(f"{self._path}: refused: this pickle wants to run {module}.{name}; nothing in it was run")
        return admitted


def _numpy_parts() -> dict[tuple[str, str], Any]:
    """Return the functions that numpy's own pickles name, found by pickling an array."""
    array: Any = np.zeros(1)
    return {
        ("numpy.core.multiarray", "_reconstruct"): array.__reduce__()[0],
        ("numpy.core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
        ("numpy.core.numeric", "_frombuffer"): array.__reduce_ex__(5)[0],
    }


ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **_numpy_parts(),
    ("_codecs", "encode"): _encode,  # how protocol 2 spells bytes
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{(module, "set"): set for module in ("builtins", "__builtin__")},
    **{(module, "bytearray"): bytearray for module in ("builtins", "__builtin__")},
}
