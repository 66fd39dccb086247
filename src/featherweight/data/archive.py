"""Archives as Kaggle delivers them, unpacked so that nothing leaves its folder, fills the disk or is overwritten."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from featherweight.console import Progress
from featherweight.errors import UserError

ENDINGS = (".zip", ".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")
LARGEST = 200 * 2**30  # bytes that one archive may unpack to, where the disk has more
MOST = 5_000_000  # members
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError)


class Damaged(UserError):  # noqa: N818 - as OverBudget is
    """An archive that is cut short or broken: fetching it again may help."""


def is_archive(path: Path) -> bool:
    """Does the name say that this is an archive?"""
    return path.is_file() and path.name.lower().endswith(ENDINGS)


def stem(path: Path) -> str:
    """An archive's name without its ending."""
    ending = max((ending for ending in ENDINGS if path.name.lower().endswith(ending)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]


def unpack(archive: Path, folder: Path, largest: int = LARGEST) -> None:
    """Unpack `archive` as `folder`, which appears whole or not at all, and the archives inside it beside themselves.

    Raises, with nothing left behind, Damaged for what is no archive or cut short, and UserError for members that would
    land outside the folder or on each other, links, devices and locked members; and for more than `largest` bytes or
    the disk holds.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; nothing was unpacked: delete it, or take another --name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    room = min(largest, int(shutil.disk_usage(folder.parent).free * 0.95))
    try:
        room -= _extract(archive, beside, room)
        for inner in sorted(path for path in beside.rglob("*") if is_archive(path)):
            target = inner.with_name(stem(inner))
            if not target.exists():
                room -= _extract(inner, target, room)
                _lift(target)
                inner.unlink()
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _lift(folder: Path) -> None:
    """`train.zip` with all it holds under `train/` becomes `train/`, not `train/train/`."""
    inside = list(folder.iterdir())
    if len(inside) == 1 and inside[0].is_dir() and inside[0].name == folder.name:
        beside = folder.with_name(f".{folder.name}.lifted")
        inside[0].rename(beside)
        folder.rmdir()
        beside.rename(folder)


def _extract(archive: Path, folder: Path, room: int) -> int:
    """Write every member under `folder`; returns the bytes written."""
    folder.mkdir(parents=True)
    written = 0
    try:
        with Progress(f"unpack {archive.name}", archive.stat().st_size, "bytes") as bar:
            for number, (name, place, stream) in enumerate(_members(archive)):
                if number >= MOST:
                    raise UserError(f"{archive}: refused: it holds more than {MOST:,} files")
                target = folder / _safe(name, archive)
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    raise UserError(f"{archive}: refused: it holds '{name}' twice")
                with target.open("xb") as output:
                    while block := stream.read(1 << 20):
                        written += len(block)
                        if written > room:
                            raise UserError(f"{archive}: refused: it unpacks to more than {room:,} bytes")
                        output.write(block)
                bar.update(place)
    except FileExistsError as error:
        raise UserError(f"{archive}: refused: '{Path(error.filename).name}' is a file and a folder in it") from None
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).split("\n")[0].rstrip(":") or type(error).__name__
        raise Damaged(f"{archive}: cannot be unpacked ({reason}); download it again") from None
    return written


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Each file in an archive: its name, how far into the archive that is, and its content."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            done = 0
            for info in packed.infolist():
                done += info.compress_size
                if info.is_dir() or _is_rubbish(info.filename):
                    continue
                if info.flag_bits & 1:
                    raise UserError(f"{archive}: refused: '{info.filename}' is locked with a password")
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise UserError(f"{archive}: refused: '{info.filename}' is a link")
                with packed.open(info) as stream:
                    yield info.filename, done, stream
    else:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw) as bundle:
            for member in bundle:
                if member.isdir() or _is_rubbish(member.name):
                    continue
                if not member.isreg():
                    kind = "a link" if member.issym() or member.islnk() else "a device"
                    raise UserError(f"{archive}: refused: '{member.name}' is {kind}")
                content = bundle.extractfile(member)
                assert content is not None
                yield member.name, raw.tell(), content
            # tarfile takes a broken header for the end, and checksums stand at the end: so read on to there.
            rest = bundle.fileobj
            while rest is not None and (block := rest.read(1 << 20)):
                if any(block):
                    raise tarfile.ReadError("it is broken in the middle")


def _is_rubbish(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.endswith((".DS_Store", "Thumbs.db"))


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise UserError(f"{archive}: refused: '{name}' would land outside its folder")
    return path
