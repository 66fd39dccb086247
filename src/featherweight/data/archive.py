"""Archives as Kaggle delivers them, unpacked so that nothing leaves its folder, fills the disk or is overwritten; and
zips of the same bytes for the same files.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from filelock import FileLock, Timeout

from featherweight import atomic
from featherweight.console import Progress, say
from featherweight.errors import UserError
from featherweight.untrusted_files import open_regular, reason, regular_file

ENDINGS = (".zip", ".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")
LARGEST = 200 * 2**30  # bytes that one archive may unpack to, where the disk has more
MOST = 5_000_000  # members
BOMB = 1000  # times its size: what unpacks to more than this, and to more than SMALL, was made to fill the disk
SMALL = 2**30
LONGEST_NAME, LONGEST_PATH = 240, 2000  # bytes; file systems take 255 and 4,096, and names are added to
CONTROL = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of surrogate pairs, line and paragraph separators
BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # make gpj.exe of exe.jpg
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the date of every file in a zip that is made here
LONGEST_HEADER = 2**20  # bytes of a tar's extended header, which holds a name or a few facts


KINDS = (  # first bytes, endings that say so, what it is and what to do
    (b"Rar!", (".rar",), "a RAR archive: unpack it with unrar, and name the folder"),
    (b"7z\xbc\xaf", (".7z",), "a 7z archive: unpack it with 7z, and name the folder"),
    (b"PK\x03\x04", (".zip",), "a zip archive: call it .zip"),
    (b"\x1f\x8b", ("gz",), "compressed by gzip: call it .tar.gz if a tar is in it"),
    (b"BZh", ("bz2",), "compressed by bzip2: call it .tar.bz2 if a tar is in it"),
    (b"\xfd7zXZ", ("xz",), "compressed by xz: call it .tar.xz if a tar is in it"),
    (b"\x28\xb5\x2f\xfd", ("zst",), "compressed by zstd: unpack it with unzstd, and name the folder"),
    (b"<!DOCTYPE", (), "a web page, as a login gives instead of a file: download it in a browser"),
    (b"<html", (), "a web page, as a login gives instead of a file: download it in a browser"),
    (b'{"', (), "an error message in JSON instead of a file: look into it, and download it again"),
)


class Damaged(UserError):  # noqa: N818 - as OverBudget is
    """An archive that is cut short or damaged; downloading it again may help."""


def zipped(contents: Mapping[str, bytes]) -> bytes:
    """Return a zip of files, by name and in this order; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, EARLIEST), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def is_archive(path: Path) -> bool:
    """True if the path is a file with an archive's ending."""
    return path.is_file() and path.name.lower().endswith(ENDINGS)


def stem(path: Path) -> str:
    """Return an archive's name without its ending."""
    ending = max((ending for ending in ENDINGS if path.name.lower().endswith(ending)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]


def unpack(archive: Path, folder: Path, largest: int = LARGEST, *, leave_damaged: bool = False) -> None:
    """Unpack `archive` as `folder`, which appears complete or not at all; archives inside it are unpacked beside
    themselves.

    Raises Damaged if the file is no archive or is cut short. Raises UserError for members that would land outside the
    folder or on each other, for links, devices, sparse and encrypted members, and for more bytes than `largest`, than
    the disk has room for, or than an archive of that size can plausibly hold. Nothing is left behind then. With
    `leave_damaged`, an inner archive that cannot be read stays packed and is reported.
    """
    _refuse_existing(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.part")
    try:
        with _locked(folder):
            _refuse_existing(folder)  # unpacked since by the process that had the lock
            with atomic.unfinished(beside):
                _unpack_all(archive, beside, largest, leave_damaged)
                atomic.move(beside, folder)
    except OSError as error:  # a full disk names no file, or one that nobody knows
        if error.filename is None or Path(error.filename).is_relative_to(beside):
            error.filename = str(folder)
        raise


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise UserError(
            f"{folder} already exists; nothing was unpacked: ./run.sh init {folder} describes it; else delete "
            "it, or take another --name"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder's name. Raises UserError if another process, on any machine, holds it.

    The system releases the lock of a process that was killed. Its file is deleted while the lock is still held: a
    process that waits on the deleted file notices this and opens a new one.
    """
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(f"{folder}: another process is unpacking it; nothing was unpacked") from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _unpack_all(archive: Path, folder: Path, largest: int, leave_damaged: bool) -> None:
    """Unpack `archive` as `folder`, and the archives inside it beside themselves."""
    free = int(shutil.disk_usage(folder.parent).free * 0.95)
    room = min(largest, free, max(SMALL, BOMB * regular_file(archive).st_size))
    room -= _extract(archive, folder, room, str(archive))
    for inner in sorted(path for path in folder.rglob("*") if is_archive(path)):
        target = inner.with_name(stem(inner))
        if target.exists():
            continue
        try:
            room -= _extract(inner, target, room, f"{archive}: {inner.relative_to(folder)} in it")
        except Damaged as error:
            if not leave_damaged:
                raise
            shutil.rmtree(target, ignore_errors=True)
            say(f"{str(error).removesuffix('; download it again')}: left packed; unpack it with 7z")
            continue
        _lift(target)
        inner.unlink()


def _lift(folder: Path) -> None:
    """Turn `train/train/` into `train/`, where `train.zip` held everything under `train/`."""
    inside = list(folder.iterdir())
    if len(inside) == 1 and inside[0].is_dir() and inside[0].name == folder.name:
        beside = folder.with_name(f".{folder.name}.lifted")
        inside[0].rename(beside)
        folder.rmdir()
        beside.rename(folder)


def _extract(archive: Path, folder: Path, room: int, shown: str) -> int:
    """Write every member under `folder` and return the bytes written; messages call the archive `shown`."""
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        with Progress(f"unpack {archive.name}", archive.stat().st_size, "bytes") as bar:
            for number, (name, place, stream) in enumerate(_members(archive, room, shown)):
                if number >= MOST:
                    raise UserError(f"{shown}: refused: it holds more than {MOST:,} files")
                target = folder / _safe(name, shown)
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    raise UserError(f"{shown}: refused: it contains '{name}' twice")
                with target.open("xb") as output:
                    while block := stream.read(1 << 20):
                        written += len(block)
                        if written > room:
                            raise _too_large(shown, room)
                        output.write(block)
                bar.update(place)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{shown}: refused: '{Path(error.filename).name}' is a file and a folder in it") from None
    except UserError:
        raise
    except Exception as error:  # a damaged archive can provoke any of them
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # an error of the disk
        other = _other_kind(archive)
        why = f": it is {other}" if other else f" ({reason(error)}); download it again"
        raise Damaged(f"{shown}: cannot be unpacked{why}") from None
    return written


def _other_kind(archive: Path) -> str | None:
    """Return what a file is by its first bytes and what to do with it, or None if its name says the same."""
    with open_regular(archive) as raw:
        start = raw.read(512).lstrip()
    ending = archive.name.lower()
    return next((what for magic, own, what in KINDS if start.startswith(magic) and not ending.endswith(own)), None)


def _too_large(shown: str, room: int) -> UserError:
    return UserError(f"{shown}: refused: it unpacks to more than {room:,} bytes")


class _Header(tarfile.TarInfo):
    """Refuses sparse members, and names of gigabytes before they are read into memory."""

    def _proc_member(self, bundle: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in EXTENDED and self.size > LONGEST_HEADER:
            raise tarfile.ReadError(f"a header in it claims {self.size:,} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("it holds a sparse file")
        member: tarfile.TarInfo = super()._proc_member(bundle)  # type: ignore[misc]
        return member


EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def _members(archive: Path, room: int, shown: str) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Yield each file in an archive: its name, the position in the archive after it, and its content."""
    if archive.name.lower().endswith(".zip"):
        with open_regular(archive) as raw, zipfile.ZipFile(raw) as packed:
            done = 0
            if sum(info.file_size for info in packed.infolist()) > room:
                raise _too_large(shown, room)
            for info in packed.infolist():
                done += info.compress_size
                if info.is_dir() or _is_rubbish(info.filename):
                    continue
                if info.flag_bits & 1:
                    raise UserError(f"{shown}: refused: '{info.filename}' is locked with a password")
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise UserError(f"{shown}: refused: '{info.filename}' is a link")
                with packed.open(info) as stream:
                    yield info.filename, done, stream
    else:
        with open_regular(archive) as raw, tarfile.open(fileobj=raw, tarinfo=_Header) as bundle:
            for member in bundle:
                if member.size > room:
                    raise _too_large(shown, room)
                if member.isdir() or _is_rubbish(member.name):
                    continue
                if not member.isreg():
                    kind = "a link" if member.issym() or member.islnk() else "a device"
                    raise UserError(f"{shown}: refused: '{member.name}' is {kind}")
                content = bundle.extractfile(member)
                assert content is not None
                yield member.name, raw.tell(), content
            _refuse_without_end(bundle)


def _refuse_without_end(bundle: tarfile.TarFile) -> None:
    """Raise ReadError unless a block of zeros ended the archive, and only zeros follow.

    tarfile takes the end of the file and a broken header for the end of the archive. Checksums of what is compressed
    stand at its end, which is only reached when all is read.
    """
    stream = bundle.fileobj
    assert stream is not None
    stream.seek(bundle.offset)
    if len(stream.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it is cut short: the mark of its end is missing")
    stream.seek(bundle.offset)
    while block := stream.read(1 << 20):
        if any(block):
            raise tarfile.ReadError("it is broken in the middle")


def _is_rubbish(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.endswith((".DS_Store", "Thumbs.db"))


def _safe(name: str, shown: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts:
        raise UserError(f"{shown}: refused: it contains a file called '{name}', which is not a valid name")
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise UserError(f"{shown}: refused: '{name}' would land outside its folder")
    odd = next((x for x in name if unicodedata.category(x) in CONTROL or x in BIDI_CONTROLS), None)
    if odd is not None:
        raise UserError(f"{shown}: refused: the name {name!a} in it holds {odd!a}, which is no letter of a name")
    if max(len(os.fsencode(part)) for part in path.parts) > LONGEST_NAME or len(os.fsencode(name)) > LONGEST_PATH:
        raise UserError(f"{shown}: refused: the name '{name[:40]}...' in it is longer than a file's may be")
    return path
