"""Safe opening of files from others: never a special file, never more than the memory holds, and any error of a reader
becomes one message that names the file.

A FIFO blocks its reader for ever, a device may have no end, and opening either can have effects. So every file of the
user's is opened through `regular_file`. Declared sizes are checked by `refuse_beyond_memory` before memory is
allocated, and a reader whose declarations cannot be checked beforehand runs inside `bounded_memory`.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from featherweight.errors import UserError

SHARE = 0.8  # fraction of the free memory that one file may use
LFS = b"version https://git-lfs.github.com/"
LARGEST_TEXT = 2**20  # bytes of a file that a person writes: a recipe, a competition
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def regular_file(path: Path | str) -> os.stat_result:
    """Return the status of a file that can be opened safely; links are followed.

    Raises UserError for a missing file, and for folders, FIFOs, devices and sockets.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - 50,000 times
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"cannot read {path}: it is {_kind(status)}, no regular file")
    return status


def open_regular(path: Path | str) -> BufferedReader:
    """Return a regular file, opened for its bytes. Raises UserError for any other, and for one that cannot be read."""
    regular_file(path)
    try:
        # Not blocking: if a FIFO replaces the file at this moment, opening it returns at once.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise UserError(f"cannot read {path}: it is {_kind(status)}, no regular file")
        return os.fdopen(handle, "rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None


def beginning(path: Path, count: int) -> bytes:
    """Return the first bytes of a regular file. Raises UserError as `open_regular`, and for a pointer of git-lfs."""
    with open_regular(path) as stream:
        head = stream.read(max(count, len(LFS)))
    if head.startswith(LFS):
        raise UserError(f"{path}: a pointer to a file that git-lfs has: git lfs pull")
    return head[:count]


def read_bytes(path: Path | str, largest: int | None = None) -> bytes:
    """Return a regular file's bytes. Raises UserError as `open_regular`, and beyond `largest` or the memory."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if largest is not None and size > largest:
            raise UserError(f"{path}: refused: it has {size:,} bytes, and at most {largest:,} are allowed")
        refuse_beyond_memory(path, size)
        try:
            return stream.read()
        except (OSError, MemoryError) as error:
            raise UserError(f"cannot read {path}: {reason(error)}") from None


def read_text(path: Path | str, largest: int | None = None) -> str:
    """Return a regular file's text in UTF-8, with or without a byte order mark. Raises UserError as `read_bytes`."""
    try:
        return read_bytes(path, largest).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None


@contextmanager
def explained(path: Path | str, what: str) -> Iterator[None]:
    """Context that turns any exception of a reader of `path` into a UserError: `PATH: WHAT (the reader's reason)`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged file can provoke any of them
        raise UserError(f"{path}: {what} ({reason(error)})") from None


def free_memory() -> int | None:
    """Return the bytes of memory that this process can still get, if the system tells; else None."""
    limits = [limit for limit in (_of_machine(), _of_container(), _of_process()) if limit is not None]
    return min(limits, default=None)


def refuse_beyond_memory(path: Path | str, wanted: int) -> None:
    """Raise UserError if reading `path` takes more than the free memory. Small requests are not checked."""
    if wanted < 2**26:
        return
    free = free_memory()
    if free is not None and wanted > SHARE * free:
        raise UserError(f"{path}: reading it takes {gigabytes(wanted)} of memory, but only {gigabytes(free)} are free")


def take_part_of_memory(parts: int) -> None:
    """Let this process, one of so many that read files, allocate only its part of the free memory, if the system can
    enforce it (Linux).
    """
    free = free_memory()
    if free is not None and sys.platform.startswith("linux"):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_held() + free // parts, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextmanager
def bounded_memory(path: Path | str) -> Iterator[None]:
    """Context in which this process cannot allocate more than the free memory, if the system can enforce it (Linux).

    A file that makes its reader allocate more is refused by a UserError, before the system kills any process.
    """
    free = free_memory()
    if free is None or not sys.platform.startswith("linux"):
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    allowed = _held() + int(SHARE * free)
    allowed = allowed if before[0] == resource.RLIM_INFINITY else min(allowed, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (allowed, before[1]))
    try:
        yield
    except MemoryError:
        raise UserError(f"{path}: reading it takes more memory than the {gigabytes(free)} that are free") from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def gigabytes(count: int) -> str:
    """Return a number of bytes as text."""
    return f"{count / 2**30:,.1f} GB" if count >= 2**30 / 10 else f"{count / 2**20:,.1f} MB"


def reason(error: BaseException) -> str:
    """Return a reader's exception as one line for a message."""
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip()
    return text.splitlines()[0].rstrip(":")[:200] if text else type(error).__name__


def _kind(status: os.stat_result) -> str:
    return next((name for test, name in KINDS if test(status.st_mode)), "a special file")


def _of_machine() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_container() -> int | None:
    """Return the bytes that a container's limit leaves; its cached files are not counted: they can be released."""
    first, second = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
    for folder, limit, used in (
        (first, "memory.max", "memory.current"),
        (second, "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):
            most = int((folder / limit).read_text())
            words = (folder / "memory.stat").read_text().split()
            return most - int((folder / used).read_text()) + int(words[words.index("inactive_file") + 1])
    return None


def _of_process() -> int | None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        return None if limit == resource.RLIM_INFINITY else limit - _held()
    return None


def _held() -> int:
    """Return the size of this process's address space, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
