"""Pack images: decode each into one folder, which appears complete or not at all."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight import atomic
from featherweight.console import Progress, rate, say
from featherweight.data import fingerprint
from featherweight.data.image import Image, decode, fit, read
from featherweight.data.listing import Samples, Stored
from featherweight.errors import UserError, count_of
from featherweight.runtime.cores import cores

FORMAT = 3  # of the decoded arrays: a change here makes every pack again
CHUNK = 128  # images a worker decodes between two reports
WORTH_A_LINE = 2.0  # seconds of decoding after which its rate is printed
WORDS = {"train": "training images", "valid": "validation images", "predict": "images to predict"}
Decoder = Callable[[int], NDArray[np.uint8]]


def write(samples: Samples | Stored, image: Image, place: Path, settings: str, part: str, content: str | None) -> Path:
    """Write a pack's folder and return it."""
    for remains in place.parent.glob(f"{place.name}.*.part"):  # of a packing that was killed: the lock is ours
        shutil.rmtree(remains, ignore_errors=True)
    with atomic.unfinished(place.with_name(f"{place.name}.{os.getpid()}.part")) as beside:
        facts: dict[str, Any] = {"format": FORMAT, "image": image.model_dump(), "left_out": []}
        if isinstance(samples, Stored):
            read = samples.read()
            assert isinstance(read.images, np.ndarray)
            _decode_all(read.images, image, beside, part)
            facts |= {"ids": read.ids, "labels": read.labels, "groups": read.groups}
        else:
            faults, content = _decode_all(samples.images, image, beside, part)
            if faults:
                _report(faults, samples, image, place, part)
            if faults and part != "predict":
                _drop(beside, sorted(faults))
                facts["left_out"] = sorted(faults)
        atomic.write_text(beside / "pack.json", json.dumps(facts))
        folder = place.with_name(f"{settings}-{content}")
        if not (folder / "pack.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            atomic.move(beside, folder)
    return folder


def _decode_all(pictures: Any, image: Image, beside: Path, part: str) -> tuple[dict[int, str], str]:
    """Decode files, or fit arrays, into `beside/images.npy`.

    Returns the faults by index, and the hash of the bytes of all files, in order.
    """
    faults: dict[int, str] = {}
    digests = [""] * len(pictures)
    substitute = np.full((image.size, image.size, image.channels), 127, np.uint8)

    def decode_one(index: int) -> NDArray[np.uint8]:
        picture = pictures[index]
        try:
            if isinstance(picture, np.ndarray):
                return fit(picture, image)
            content = read(picture)
            digests[index] = fingerprint.digest(content)
            return decode(picture, image, content)
        except UserError as error:
            faults[index] = str(error)
            return substitute

    write_all = _write_images if image.store is None else _write_pictures
    began = time.monotonic()
    with (
        ThreadPoolExecutor(cores()) as workers,
        Progress(f"decode {part}", len(pictures), "images") as progress,
    ):
        write_all(beside, len(pictures), image, decode_one, workers, progress)
    seconds = time.monotonic() - began
    if seconds > WORTH_A_LINE:
        packed = f"{count_of(len(pictures), 'image')} packed at {image.store or image.size} px"
        say(f"  {part}: {packed}, {rate(len(pictures) / seconds, 'images')}")
    return faults, fingerprint.joined(digests)


def _write_images(
    beside: Path, count: int, image: Image, one: Decoder, workers: ThreadPoolExecutor, progress: Progress
) -> None:
    """Write images of one size into the array `images.npy`."""
    shape = (count, image.size, image.size, image.channels)
    array = _reserved(beside / "images.npy", shape)

    def decode_chunk(indices: range) -> int:
        for index in indices:
            array[index] = one(index)
        return len(indices)

    chunks = [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
    for done in workers.map(decode_chunk, chunks):
        progress.advance(done)
    array.flush()


def _reserved(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Create an array on disk and reserve its space: on a full disk, writing into an unreserved mapped file would kill
    the process. Raises OSError if there is no space.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a Mac has none, and its files no holes
        try:
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
    return array


def _write_pictures(
    beside: Path, count: int, image: Image, one: Decoder, workers: ThreadPoolExecutor, progress: Progress
) -> None:
    """Write pictures of different sizes one after another into `pictures.bin`, and their positions into `rows.npy`."""
    rows = np.zeros((count, 4), np.int64)
    start = 0
    with (beside / "pictures.bin").open("wb") as file:
        for first in range(0, count, CHUNK):  # no more than these are in the memory
            chunk = range(first, min(first + CHUNK, count))
            for index, picture in zip(chunk, workers.map(one, chunk), strict=True):
                file.write(picture.tobytes())
                rows[index] = 0, start, *picture.shape[:2]
                start += picture.size
            progress.advance(len(chunk))
        os.fsync(file.fileno())
    np.save(beside / "rows.npy", rows)


def _report(faults: dict[int, str], samples: Samples, image: Image, place: Path, part: str) -> None:
    """Raise UserError with all unreadable images, unless the competition leaves them out."""
    lines = [faults[place] for place in sorted(faults)]
    count = f"{len(faults):,} of {len(samples.ids):,} {WORDS[part]} cannot be read"
    if image.unreadable == "leave out":
        if part == "predict":
            say(f"{count}; each is replaced by a grey image, since every row must be predicted\n" + "\n".join(lines))
        return
    shown = "\n".join(lines[:3])
    if len(lines) > 3:
        listed = place.with_name(f"unreadable{place.name.replace('.', '-')}.txt")
        atomic.write_text(listed, "\n".join(lines) + "\n")
        shown += f"\nall of them: {listed}"
    raise UserError(f"{count}; repair or remove them, or set image.unreadable: leave out\n{shown}")


def _drop(folder: Path, gone: Sequence[int]) -> None:
    """Remove images from an unfinished pack, some at a time."""
    if (folder / "rows.npy").exists():
        np.save(folder / "rows.npy", np.delete(np.load(folder / "rows.npy"), gone, axis=0))
        return
    path = folder / "images.npy"
    full = np.load(path, mmap_mode="r")
    keep = np.delete(np.arange(len(full)), gone)
    cut = _reserved(path.with_suffix(".cut"), (len(keep), *full.shape[1:]))
    for first in range(0, len(keep), 4096):
        cut[first : first + 4096] = full[keep[first : first + 4096]]
    cut.flush()
    path.with_suffix(".cut").rename(path)
