"""Files and folders that appear whole or not at all: made beside the target, then renamed to it."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from filelock import FileLock, Timeout


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`. A reader, or a kill at any instant, sees the old file or the new one, never a part.

    Raises OSError (disk full, no permission) with the old file untouched and nothing left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _part(path)
    try:
        with beside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        _name(error, path)
        raise
    sync_folder(path.parent)


def write_text(path: Path, content: str) -> None:
    """`write_bytes` in UTF-8, newlines as given."""
    write_bytes(path, content.encode())


@contextmanager
def text_stream(path: Path) -> Iterator[TextIO]:
    """A text to write piece by piece, in UTF-8, that replaces `path` at the end of the block; a fault leaves none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _part(path)
    try:
        with beside.open("w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        _name(error, path)
        raise
    sync_folder(path.parent)


@contextmanager
def folder(parent: Path, names: Iterable[str]) -> Iterator[Path]:
    """An empty folder to fill, out of sight in `parent/.new`, that appears in `parent` at the end of the block.

    It gets the first of the names that is free: that stands neither there nor in the hands of another process. A fault
    or a kill inside the block leaves nothing in sight.
    """
    fresh, lock = _reserve(parent, names)
    try:
        shutil.rmtree(fresh, ignore_errors=True)  # of a process that was killed
        fresh.mkdir()
        yield fresh
        fresh.rename(parent / fresh.name)
        sync_folder(parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        lock.release()


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, hidden beside `target`, that replaces `target` at the end of the block.

    An exception, in the block or in the exchange, leaves the old folder where it was. The exchange takes two renames:
    a kill between them leaves no `target`, and both folders in the hidden `.NAME.*`, as `before` and `new`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        fresh, before = Path(beside) / "new", Path(beside) / "before"
        fresh.mkdir()
        yield fresh
        try:
            if target.exists():
                target.rename(before)
            fresh.rename(target)
        except BaseException:
            if before.exists():
                before.rename(target)
            raise
    sync_folder(target.parent)


def _reserve(parent: Path, names: Iterable[str]) -> tuple[Path, FileLock]:
    """Where a folder is made, and the lock that keeps its name: the system lets go of it when the process ends."""
    for name in names:
        (parent / ".new").mkdir(parents=True, exist_ok=True)
        lock = FileLock(parent / ".new" / f"{name}.lock")
        with suppress(Timeout):
            lock.acquire(blocking=False)
            if not (parent / name).exists():
                return parent / ".new" / name, lock
            lock.release()
    raise FileExistsError(parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut, where the system can.

    Where it cannot, nothing is raised: the file is in its place and whole, and a fault would say that it is not.
    """
    if os.name != "posix":
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say of a fault inside the block, where it has no file's name of its own, that it was met at `path`."""
    try:
        yield
    except OSError as error:
        _name(error, path)
        raise


def _part(path: Path) -> Path:
    """Return a new, empty file beside `path`, with the permissions that the umask gives.

    An OSError names `path`, since the reader knows no other. (`tempfile` makes files that only their owner can read,
    and to read the umask is to change it for all threads.)
    """
    try:
        while True:
            beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            with suppress(FileExistsError):
                beside.touch(exist_ok=False)
                return beside
    except OSError as error:
        error.filename = str(path)
        raise


def _name(error: BaseException, path: Path) -> None:
    """Say in a fault which file could not be written, which a full disk does not say by itself."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)
