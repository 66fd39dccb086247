"""Every image decoded once, into one uint8 array; later starts map it from the disk.

A pack's folder is named by the settings and by the bytes of the files that went into it, hashed as they are decoded,
whatever the files are called. It is written under another name and renamed when it is done, so a killed packing leaves
nothing to be mistaken for a pack.

Which pack belongs to which files is noted beside the packs (`fingerprint` says when such a note is believed), so that a
start reads none of the files; files that were only touched, or moved elsewhere, are hashed and not decoded again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from featherweight import atomic, paths
from featherweight.console import say, say_once
from featherweight.data import fingerprint, pack_writer
from featherweight.data.csv_file import examples
from featherweight.data.image import Image, decode, fit
from featherweight.data.listing import Label, Listing, Samples, Stored
from featherweight.data.mapped_rows import joined_rows, take_rows
from featherweight.data.photos import Photos
from featherweight.errors import UserError, count_of, nearest
from featherweight.schema import Choice
from featherweight.untrusted_files import explained

NAMES_ON_DISK = {"predict": "test"}  # of parts, in the names of packs; earlier versions have chosen them

__all__ = ["Data", "Image", "LabelledPack", "Pack", "answers", "decode", "load"]


@dataclass(frozen=True)
class Pack:
    """Decoded images, uint8 [N, H, W, C], possibly memory-mapped; ids [N]; class indices int64 [N], if known.

    `groups` [N] says which images are related, if the source knows. If the images do not fit into memory, `images` is a
    `MappedRows`, which is indexed like an array. `folder` is the folder of the whole pack, if it is on disk, and
    `content` the hash of the files that the whole pack was made of, if these are known: other images under the same ids
    have another hash.
    """

    ids: list[str]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    groups: list[str] | None = None
    folder: Path | None = None
    content: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: NDArray[np.int64]) -> Self:
        """Return the images at `places`, in that order."""
        return replace(
            self,
            ids=[self.ids[place] for place in places],
            images=take_rows(self.images, places),
            labels=None if self.labels is None else self.labels[places],
            groups=None if self.groups is None else [self.groups[place] for place in places],
            folder=None,
        )


@dataclass(frozen=True)
class LabelledPack(Pack):
    """Images whose classes are known: `labels` are class indices int64 [N] or, for sets of classes, uint8 [N, K]."""

    labels: NDArray[np.int64] = field()  # required

    @classmethod
    def of(cls, pack: Pack) -> LabelledPack:
        """Return a pack as a labelled one. Raises ValueError if its classes are not known."""
        if pack.labels is None:
            raise ValueError(f"the classes of {len(pack):,} images are not known")
        return cls(pack.ids, pack.images, pack.labels, pack.groups, pack.folder, pack.content)

    def and_more(self, ids: Sequence[str], images: NDArray[np.uint8], labels: NDArray[np.int64]) -> LabelledPack:
        """Return these images followed by others, without groups; what is on disk stays there."""
        both = np.concatenate([self.labels, labels])
        return LabelledPack([*self.ids, *ids], joined_rows(self.images, images), both)


@dataclass(frozen=True)
class Data:
    """A competition's decoded images; `valid` is a provided validation part, `predict` the images to predict."""

    train: LabelledPack
    predict: Pack | None
    valid: LabelledPack | None = None

    @property
    def labelled(self) -> list[LabelledPack]:
        """The labelled images: the training images, and the provided validation part."""
        return [self.train] if self.valid is None else [self.train, self.valid]


def load(source: Choice, image: Image, classes: Sequence[str], *, predict: bool = True) -> Data:
    """List and decode all images of a source, or map them if that has been done.

    Without `predict` the images to predict are listed but not decoded. Raises UserError for faulty data.
    """
    listing: Listing = source(paths.data())
    train = LabelledPack.of(_pack(listing.train, image, classes, "train", source))
    if not len(train):
        raise UserError("there are no training images")
    to_predict = _pack(listing.predict, image, classes, "predict", source) if predict and listing.predict else None
    valid = LabelledPack.of(_pack(listing.valid, image, classes, "valid", source)) if listing.valid else None
    return Data(train, to_predict, apart(train, valid))


def apart(train: LabelledPack, valid: LabelledPack | None) -> LabelledPack | None:
    """Return the validation part with new ids if some are also ids of training images; a split is stored by ids."""
    if valid and not set(valid.ids).isdisjoint(train.ids):
        return replace(valid, ids=[f"valid/{id}" for id in valid.ids])
    return valid


def without_pixels(samples: Samples, classes: Sequence[str]) -> Pack:
    """Return listed images as a pack without pixels; nothing is decoded."""
    labels = None if samples.labels is None else _indices(samples.ids, samples.labels, classes)
    return Pack(samples.ids, np.empty((len(samples.ids), 0, 0, 1), np.uint8), labels, samples.groups)


def decode_alike(one: Image, other: Image) -> bool:
    """True if both image sections give the same decoded images."""
    return decoding(one) == decoding(other)


def load_predict(source: Choice, image: Image, classes: Sequence[str]) -> Pack | None:
    """Load the images to predict only; training images are listed but not decoded."""
    listing: Listing = source(paths.data())
    return _pack(listing.predict, image, classes, "predict", source) if listing.predict else None


def answers(source: Choice) -> dict[str, Any] | None:
    """Return the classes of the images to predict by id (a name, or a tuple of names), or None if they are not known.

    Only the scorer calls this.
    """
    listing: Listing = source(paths.data())
    return dict(listing.answers()) if listing.answers else None


def _pack(samples: Samples | Stored, image: Image, classes: Sequence[str], part: str, source: Choice) -> Pack:
    if isinstance(samples, Samples) and isinstance(samples.images, np.ndarray):
        labels = None if samples.labels is None else _indices(samples.ids, samples.labels, classes)
        return Pack(samples.ids, _in_memory(samples.images, image), labels, samples.groups)
    files = samples.files if isinstance(samples, Stored) else samples.images
    assert isinstance(files, list)
    folder = _folder(samples, files, image, part, source)
    try:
        images, facts = _opened(folder, image)
    except UserError as error:
        say(f"{error}: the images are packed again")
        shutil.rmtree(folder)
        folder = _folder(samples, files, image, part, source)
        images, facts = _opened(folder, image)
    if isinstance(samples, Stored):
        samples = Samples(facts["ids"], images, facts["labels"], facts["groups"])
    elif facts["left_out"]:
        gone = set(facts["left_out"])
        names = [samples.ids[place] for place in facts["left_out"]]
        say_once(f"{part}: left out: {count_of(len(gone), 'image')} that cannot be read: {examples(names)}")
        samples = _without(samples, gone)
    labels = None if samples.labels is None else _indices(samples.ids, samples.labels, classes)
    return Pack(samples.ids, images, labels, samples.groups, folder, folder.name.rpartition("-")[2])


def _in_memory(arrays: NDArray[np.uint8], image: Image) -> Any:
    """Return images given as an array in the form that a model sees."""
    fitted = [fit(pixels, image) for pixels in arrays]
    if image.store is None:
        return np.stack(fitted)
    sizes = np.array([pixels.shape[:2] for pixels in fitted])
    starts = np.concatenate([[0], np.cumsum(sizes.prod(1) * image.channels)[:-1]])
    rows = np.column_stack([np.zeros_like(starts), starts, sizes])
    flat = np.concatenate([pixels.reshape(-1) for pixels in fitted])
    return Photos([flat], rows, image.channels, image.evaluation_crop)


def _mapped(folder: Path, image: Image) -> Any:
    """Return the memory-mapped images of a pack's folder."""
    if image.store is not None:
        return Photos.mapped(folder, image.channels, image.evaluation_crop)
    return np.load(folder / "images.npy", mmap_mode="r")


def _opened(folder: Path, image: Image) -> tuple[Any, dict[str, Any]]:
    """Return a pack's images, mapped, and its index. Raises UserError for a damaged pack."""
    with explained(folder, "this pack is damaged"):
        index: dict[str, Any] = json.loads((folder / "pack.json").read_text())
        images = _mapped(folder, image)
        if image.store is None and images.shape[1:] != (image.size, image.size, image.channels):
            raise ValueError(f"images of {'x'.join(map(str, images.shape[1:]))}")
        if "ids" in index and len(index["ids"]) != len(images):
            raise ValueError(f"{len(index['ids']):,} ids of {len(images):,} images")
        _ = index["left_out"]
    return images, index


def _without(samples: Samples, gone: set[int]) -> Samples:
    keep = [place for place in range(len(samples.ids)) if place not in gone]
    return Samples(
        [samples.ids[place] for place in keep],
        [],
        None if samples.labels is None else [samples.labels[place] for place in keep],
        None if samples.groups is None else [samples.groups[place] for place in keep],
    )


def _indices(ids: Sequence[str], labels: Sequence[Label], classes: Sequence[str]) -> NDArray[Any]:
    """Return class indices int64 [N] or, for sets of classes, uint8 [N, K] of zeros and ones."""
    index = {name: place for place, name in enumerate(classes)}
    sets = [(label,) if isinstance(label, str) else tuple(label) for label in labels]
    unknown = sorted({name for names in sets for name in names} - set(index))
    if unknown:
        id = next(id for id, names in zip(ids, sets, strict=True) if unknown[0] in names)
        more = f" (nor {examples(unknown[1:])})" if len(unknown) > 1 else ""
        raise UserError(
            f"the image {id} has the class '{unknown[0]}', which the competition does not list{more}"
            f"{nearest(unknown[0], classes)}"
        )
    if all(isinstance(label, str) for label in labels):
        return np.array([index[label] for label in labels], dtype=np.int64)  # type: ignore[index]
    hot = np.zeros((len(labels), len(classes)), dtype=np.uint8)
    for row, names in enumerate(sets):
        hot[row, [index[name] for name in names]] = 1
    return hot


def _folder(samples: Samples | Stored, files: Sequence[Path | str], image: Image, part: str, source: Choice) -> Path:
    """Return the folder of the pack of these files; they are packed now if there is none with their content."""
    settings, place = _names(samples, image, part, source)
    state = fingerprint.fingerprint(files)
    folder = _noted(place, state)
    if folder is None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):  # another process may be at it: then wait for it
            folder = _noted(place, state)
            if folder is None:
                # Where there are packs of these settings, the files may only have been touched or moved.
                alike = any(paths.packs().glob(f"{settings}-*")) or isinstance(samples, Stored)
                content = fingerprint.content(files) if alike else None
                folder = paths.packs() / f"{settings}-{content}"
                if content is None or not (folder / "pack.json").is_file():
                    folder = pack_writer.write(samples, image, place, settings, part, content)
                note = {"fingerprint": state, "pack": folder.name}
                atomic.write_text(place.with_suffix(".json"), json.dumps(note) + "\n")
    return folder


def is_packed(samples: Samples | Stored, image: Image, part: str, source: Choice) -> bool:
    """True if these files have been packed with this image section."""
    files = samples.files if isinstance(samples, Stored) else samples.images
    assert isinstance(files, list)
    return _noted(_names(samples, image, part, source)[1], fingerprint.fingerprint(files)) is not None


def _names(samples: Samples | Stored, image: Image, part: str, source: Choice) -> tuple[str, Path]:
    """Return the digest of a pack's settings, and the path without ending of the note that names the pack."""
    part = NAMES_ON_DISK.get(part, part)
    # What a few files mean, the source's keys say; where each file is an image, its bytes say all.
    meaning = f"{part} {source.model_dump_json()}" if isinstance(samples, Stored) else part
    settings = fingerprint.digest(f"{pack_writer.FORMAT} {decoding(image)} {meaning}".encode())
    return settings, paths.packs() / f".{part}-{fingerprint.digest(f'{settings} {source.model_dump_json()}'.encode())}"


def decoding(image: Image) -> str:
    """Return the settings that decoded images depend on, as text; how stored pictures are cropped is not among them."""
    unused = {"size", "fit"} if image.store is not None else {"store"}
    unused |= set() if image.black else {"black"}  # packs from before there was this key stay good
    return image.model_dump_json(exclude={"mirror", "crop", "interpolation"} | unused)


def _noted(place: Path, fingerprint: str) -> Path | None:
    """Return the pack noted for files with this fingerprint, or None."""
    try:
        note = json.loads(place.with_suffix(".json").read_text())
        folder = paths.packs() / note["pack"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # a damaged note is written again
        return None
    return folder if note.get("fingerprint") == fingerprint and (folder / "pack.json").is_file() else None
