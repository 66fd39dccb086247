"""What files hold, by hash, and whether they may have changed since they were read.

Reading 50,000 files at every start would take too long. So what was learned from them is kept with their fingerprint:
each file's path, size, and the times when its content (mtime) and anything about it (ctime) last changed. While all of
these are the same the files are taken to be; else they are read again. A program can set a file's mtime back, but not
its ctime: a changed file of the same size and mtime is noticed. A change that leaves the ctime as well goes
unnoticed; it takes a clock set back, or writing past the file system.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from featherweight.console import Progress
from featherweight.errors import UserError
from featherweight.runtime.cores import cores
from featherweight.untrusted_files import open_regular


def fingerprint(files: Sequence[Path | str]) -> str:
    """Return a hash of the files' paths, sizes and times, without reading them; a missing file counts as missing."""
    hashed = hashlib.blake2b(digest_size=12)
    for file in files:
        try:
            status = os.stat(file)  # noqa: PTH116 - 50,000 times
        except OSError:  # for example a broken link: decoding reports it, or leaves the image out
            hashed.update(f"{file}\0\n".encode())
            continue
        hashed.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\n".encode())
    return hashed.hexdigest()


def content(files: Sequence[Path | str]) -> str:
    """Return the hash of the bytes of all files, in order."""
    with (
        ThreadPoolExecutor(cores()) as workers,
        Progress("look for changes", len(files), "files") as progress,
    ):
        digests = []
        for one in workers.map(_of_file, files):
            digests.append(one)
            progress.advance(1)
    return joined(digests)


def digest(data: bytes) -> str:
    """Return the hash of some bytes."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def joined(digests: Iterable[str]) -> str:
    """Return the hash for files that have these hashes."""
    return digest(" ".join(digests).encode())


def _of_file(file: Path | str) -> str:
    try:
        with open_regular(file) as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
    except (OSError, UserError):
        return ""  # decoding reports what is wrong
