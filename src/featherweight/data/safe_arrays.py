"""NumPy's files and idx files, read so that none of them runs anything or takes what is not there.

What a file declares is compared with the bytes it has and with the free memory before any of it is read; whatever the
readers raise becomes one message with the file's name.
"""

from __future__ import annotations

import gzip
import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from featherweight.errors import UserError, nearest
from featherweight.untrusted_files import bounded_memory, explained, open_regular, refuse_beyond_memory, regular_file

NO_ARRAY = "not an array file"
DEFLATED = 1032  # bytes that one byte of a deflated stream can become, at the most
LONGEST_HEADER = 1 << 16  # bytes of a .npy file's header; those of real arrays have some hundred


@dataclass(frozen=True)
class Declared:
    """The shape and type of an array according to its header."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """The bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


def is_npz(path: Path) -> bool:
    """True if the file's name is that of an archive of arrays."""
    return path.suffix.lower() == ".npz"


def declared(path: Path) -> dict[str | None, Declared]:
    """Return what a .npy file (one array, under None) or a .npz archive (by key) holds, from the headers only.

    Raises UserError for other files.
    """
    with explained(path, NO_ARRAY):
        if regular_file(path).st_size == 0:
            raise UserError(f"{path}: {NO_ARRAY} (it is empty)")
        if not is_npz(path):
            with open_regular(path) as stream:
                return {None: _header(stream, path)}
        with open_regular(path) as raw, zipfile.ZipFile(raw) as archive:
            headers: dict[str | None, Declared] = {}
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as stream:
                        headers[info.filename.removesuffix(".npy")] = _header(stream, path)
            return headers


def load(path: Path, key: str | None = None) -> NDArray[Any]:
    """Return the array in a .npy file, or the one called `key` in a .npz archive.

    Raises UserError for other files, for Python objects, which could run code, and for files that are cut short,
    damaged, or larger than memory.
    """
    headers = declared(path)
    if None in headers and key is not None:
        raise UserError(f"{path}: this is one array, with nothing called '{key}' in it")
    names = [name for name in headers if name is not None]
    if None not in headers and key is None:
        raise UserError(f"{path}: name the array, as in {path.name}:KEY; there are {', '.join(names)}")
    if key not in headers:
        raise UserError(f"{path}: there is no array '{key}'{nearest(str(key), names)}; there are {', '.join(names)}")
    refuse_beyond_memory(path, headers[key].nbytes)
    with explained(path, NO_ARRAY), open_regular(path) as raw:
        if key is None:
            _refuse_cut(headers[None].nbytes, os.fstat(raw.fileno()).st_size, path)
            return _values(raw)
        with zipfile.ZipFile(raw) as archive:
            info = archive.getinfo(f"{key}.npy")
            _refuse_cut(headers[key].nbytes, info.file_size, path)
            with archive.open(info) as stream:
                array = _values(stream)
                stream.read()  # to the end, where the checksum is compared
                return array


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of bytes in an idx file, gzipped or not.

    Raises UserError for other files, and for files that are cut short, too long, or larger than memory.
    """
    with explained(path, "cannot be read"), open_regular(path) as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        size = os.fstat(raw.fileno()).st_size
        try:
            with cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw as stream:
                shape = _idx_shape(stream, path)
                wanted = math.prod(shape)
                if wanted > size * (DEFLATED if packed else 1):
                    raise UserError(f"{path}: says that it holds {_spelled(shape)} bytes, and is too short for that")
                refuse_beyond_memory(path, wanted)
                content = stream.read(wanted + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
    if len(content) != wanted:
        have = f"{len(content):,}" if len(content) < wanted else "more"
        raise UserError(f"{path}: says that it holds {_spelled(shape)} bytes, but holds {have}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def stacked(values: Any, where: str) -> NDArray[Any]:
    """Return nested lists (from a pickle) as one array. Raises UserError if lengths differ or memory would not suffice.

    A list that contains another many times is small as a file and huge as an array.
    """
    if isinstance(values, np.ndarray):
        return values
    count, inner = 1, values
    while isinstance(inner, list | tuple) and len(inner):
        count *= len(inner)
        inner = inner[0]
    if isinstance(inner, np.ndarray):
        count *= inner.size
    refuse_beyond_memory(where, 8 * count)
    try:
        with bounded_memory(where):
            return np.asarray(values)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise UserError(f"{where} is no array: its images have different sizes") from None


def _header(stream: IO[bytes], path: Path) -> Declared:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise UserError(f"{path}: {NO_ARRAY} (of format {version[0]}.{version[1]}, which is not known)")
    shape, _, dtype = read(stream, max_header_size=LONGEST_HEADER)
    if dtype.hasobject:
        raise UserError(f"{path}: {NO_ARRAY} (it holds Python objects)")
    if any(side < 0 for side in shape):
        raise UserError(f"{path}: {NO_ARRAY} (a length in it is negative)")
    return Declared(shape, dtype)


def _values(stream: IO[bytes]) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False, max_header_size=LONGEST_HEADER)
    return array


def _refuse_cut(wanted: int, there: int, path: Path) -> None:
    if wanted > there:
        raise UserError(f"{path}: {NO_ARRAY} (cut short: it should have {wanted:,} bytes of values, and has {there:,})")


def _idx_shape(stream: BinaryIO, path: Path) -> list[int]:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise UserError(f"{path}: not an idx file (it does not begin with two zero bytes)")
    if head[2] != 8:
        raise UserError(f"{path}: an idx file of type {head[2]:#04x}; expected unsigned bytes (0x08)")
    sizes = stream.read(4 * head[3])
    if not 1 <= head[3] <= 4 or len(sizes) < 4 * head[3]:
        raise UserError(f"{path}: an idx file of {head[3]} dimensions; expected 1 to 4, and their sizes")
    return [int(size) for size in np.frombuffer(sizes, ">u4")]


def _spelled(shape: list[int]) -> str:
    return "x".join(map(str, shape))
