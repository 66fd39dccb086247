"""Every image decoded once, into one uint8 array; later starts map it from the disk.

A pack's folder is named by what went into it (each file's path, size and time, and the settings) and appears whole: it
is written under another name and renamed when it is done, so a killed packing leaves nothing to be mistaken for one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import UnidentifiedImageError
from pydantic import Field, Strict

from featherweight import atomic, workspace
from featherweight.data.sources import Listing, Samples
from featherweight.errors import UserError, nearest
from featherweight.progress import Progress
from featherweight.schema import Choice, Flag, Section

FORMAT = 1  # of the decoded arrays: a change here makes every pack anew
CHUNK = 256  # images a worker decodes between two reports


class Image(Section):
    """What every image becomes before a model sees it: the `image` section of a competition."""

    size: Annotated[int, Strict(), Field(ge=4, le=1024)] = Field(description="height and width in pixels")
    channels: Literal[1, 3] = 3
    mirror: Flag = Field(description="may an image be mirrored and keep its class? (a digit may not)")


@dataclass(frozen=True)
class Pack:
    """Decoded images, uint8 [N, H, W, C], possibly mapped from the disk; ids [N]; class indices int64 [N], if known."""

    ids: list[str]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: NDArray[np.int64]) -> Pack:
        """The images at `places`, in that order."""
        labels = None if self.labels is None else self.labels[places]
        return Pack([self.ids[place] for place in places], self.images[places], labels)


@dataclass(frozen=True)
class Data:
    """A competition's images, decoded."""

    train: Pack
    test: Pack | None


def load(source: Choice, image: Image, classes: Sequence[str]) -> Data:
    """List and decode what a source holds, or map it where that is done. Raises UserError for data not as said."""
    listing: Listing = source(workspace.data())
    train = _pack(listing.train, image, classes, "train")
    if not len(train):
        raise UserError("there are no training images")
    return Data(train, _pack(listing.test, image, classes, "test") if listing.test else None)


def answers(source: Choice) -> dict[str, str] | None:
    """The test images' classes by id, where the source knows them. Only the scorer calls this."""
    listing: Listing = source(workspace.data())
    return listing.answers() if listing.answers else None


def _pack(samples: Samples, image: Image, classes: Sequence[str], part: str) -> Pack:
    labels = None if samples.labels is None else _indices(samples, classes)
    if isinstance(samples.images, np.ndarray):
        return Pack(samples.ids, _conform(samples.images, image), labels)
    folder = workspace.packs() / _key(samples.images, image)
    if not (folder / "images.npy").is_file():
        _decode_all(samples.images, image, folder, part)
    return Pack(samples.ids, np.load(folder / "images.npy", mmap_mode="r"), labels)


def _indices(samples: Samples, classes: Sequence[str]) -> NDArray[np.int64]:
    index = {name: place for place, name in enumerate(classes)}
    assert samples.labels is not None
    for id, label in zip(samples.ids, samples.labels, strict=True):
        if label not in index:
            raise UserError(
                f"the image {id} has the class '{label}', which the competition does not list{nearest(label, classes)}"
            )
    return np.array([index[label] for label in samples.labels], dtype=np.int64)


def _conform(images: NDArray[np.uint8], image: Image) -> NDArray[np.uint8]:
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1:] != (image.size, image.size, image.channels):
        have = "x".join(map(str, images.shape[1:]))
        raise UserError(f"the images are {have}, but the competition says {image.size}x{image.size}x{image.channels}")
    return images


def _key(files: Sequence[Path], image: Image) -> str:
    digest = hashlib.sha256(f"{FORMAT} {image.size} {image.channels}\n".encode())
    for file in files:
        stat = file.stat()
        digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:24]


def _decode_all(files: Sequence[Path], image: Image, folder: Path, part: str) -> None:
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    beside.mkdir(parents=True)
    try:
        shape = (len(files), image.size, image.size, image.channels)
        array = np.lib.format.open_memmap(beside / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
        faults: list[str] = []
        chunks = [range(first, min(first + CHUNK, len(files))) for first in range(0, len(files), CHUNK)]

        def decode_chunk(places: range) -> int:
            for place in places:
                try:
                    array[place] = decode(files[place], image)
                except UserError as error:
                    faults.append(str(error))
            return len(places)

        with (
            ThreadPoolExecutor(os.cpu_count() or 1) as workers,
            Progress(f"decode {part}", len(files), "images") as progress,
        ):
            for done in workers.map(decode_chunk, chunks):
                progress.advance(done)
        if faults:
            shown = "\n".join(sorted(faults)[:20])
            raise UserError(f"{len(faults)} of {len(files)} images cannot be read; mend or remove them:\n{shown}")
        array.flush()
        atomic.write_text(
            beside / "pack.json", json.dumps({"format": FORMAT, "images": len(files), "image": image.model_dump()})
        )
        try:
            beside.rename(folder)
        except OSError:
            if not (folder / "images.npy").is_file():  # else another process was first, with the same bytes
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def decode(file: Path, image: Image) -> NDArray[np.uint8]:
    """One image as uint8 [H, W, C] at the competition's size. Raises UserError naming a file that cannot be decoded."""
    try:
        with Pillow.open(file) as picture:
            converted = picture.convert("RGB" if image.channels == 3 else "L")
            if converted.size != (image.size, image.size):
                converted = converted.resize((image.size, image.size), Pillow.Resampling.BILINEAR, reducing_gap=2.0)
            pixels = np.asarray(converted)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise UserError(f"{file}: cannot be read as an image ({error})") from None
    return pixels if pixels.ndim == 3 else pixels[..., None]
