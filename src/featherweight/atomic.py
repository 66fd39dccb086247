"""Files and folders that appear completely or not at all: made beside the target, then renamed to it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout


class NotWritten(OSError):  # noqa: N818 - the file is
    """No file can be created at this place, for whatever reason the system gives."""


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`; a reader, or a kill at any time, finds the old file or the new one, never a part.

    A link stays one, and the file that it leads to is replaced. Raises OSError (disk full, no permission) with the old
    file untouched and nothing left beside it, NotWritten for a place where there can be no file.
    """
    with _replacing(path, "wb") as stream:
        stream.write(content)


def write_text(path: Path, content: str) -> None:
    """Call `write_bytes` with the text in UTF-8 and its newlines unchanged."""
    write_bytes(path, content.encode())


@contextmanager
def text_stream(path: Path) -> Iterator[IO[str]]:
    """Yield a text stream, in UTF-8, whose content replaces `path` at the end; an exception discards it."""
    with _replacing(path, "w", encoding="utf-8", newline="") as stream:
        yield stream


@contextmanager
def _replacing(path: Path, mode: str, encoding: str | None = None, newline: str | None = None) -> Iterator[IO[Any]]:
    """Yield a stream into a file beside `path` that replaces it at the end; an exception discards it."""
    path, beside = _part(path)
    try:
        with beside.open(mode, encoding=encoding, newline=newline) as stream:
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
    """Yield an empty folder, hidden in `parent/.new`, that appears in `parent` at the end of the block.

    It gets the first of the names that neither exists nor is locked by another process. An exception or a kill inside
    the block leaves nothing visible.
    """
    fresh, lock = _reserve(parent, names)
    try:
        with unfinished(fresh):
            yield fresh
            move(fresh, parent / fresh.name)
    finally:
        lock.release()


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """Yield `folder`, empty, for the caller to fill and to `move` to its place.

    It is deleted if it is not moved, and so is what a killed process has left there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move(folder: Path, target: Path) -> None:
    """Rename a folder so that it survives a power cut under its new name."""
    folder.rename(target)
    sync_folder(target.parent)


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
    """Return the path of a new folder and the lock on its name, which the system releases when the process ends."""
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
    """Make a rename inside `folder` survive a power cut, if the system can.

    If it cannot, nothing is raised: the file is complete and in place, and an exception would say that it is not.
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
    """Context that sets `path` as the file name of an OSError that has none."""
    try:
        yield
    except OSError as error:
        _name(error, path)
        raise


def _part(path: Path) -> tuple[Path, Path]:
    """Return the file that `path` leads to, and a new, empty file beside it, with the permissions that the umask gives.

    NotWritten names `path`, which the user knows, or the folder that is in the way. `tempfile` is not used: only the
    owner can read its files, and reading the umask to correct that changes it for all threads.
    """
    try:
        if path.exists() and not path.is_file():  # renaming to a device would replace it
            number = errno.EISDIR if path.is_dir() else errno.EEXIST
            raise OSError(number, os.strerror(number) if path.is_dir() else "it is no regular file", str(path))
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        target.parent.mkdir(parents=True, exist_ok=True)
        while True:
            beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
            with suppress(FileExistsError):
                beside.touch(exist_ok=False)
                return target, beside
    except OSError as error:
        named = error.filename if error.filename in map(str, (path, *path.parents)) else str(path)
        raise NotWritten(error.errno, error.strerror, named) from None


def _name(error: BaseException, path: Path) -> None:
    """Set the file name of an OSError that has none, such as that of a full disk."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)
