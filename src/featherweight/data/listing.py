"""What a source lists: images by id with their classes, and all faults found, reported together."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.console import say_once
from featherweight.data.csv_file import examples
from featherweight.data.masks import masks_among, told
from featherweight.errors import UserError, count_of

ENDINGS = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".ppm", ".pgm", ".webp", ".gif", ".tif", ".tiff", ".avif")
UNREAD = {  # pictures of formats that are not read here
    ".heic": "HEIC photographs",
    ".heif": "HEIF photographs",
    ".jp2": "JPEG 2000 images",
    ".j2k": "JPEG 2000 images",
    ".jxl": "JPEG XL images",
    ".svg": "drawings in SVG",
    ".psd": "Photoshop files",
    ".xcf": "GIMP files",
    ".eps": "drawings in EPS",
    ".tga": "Targa images",
    ".exr": "OpenEXR images",
    ".hdr": "Radiance images",
    ".dds": "DDS textures",
    ".pcx": "PCX images",
    ".raw": "raw photographs",
    ".dng": "raw photographs",
    ".cr2": "raw photographs",
    ".nef": "raw photographs",
    ".arw": "raw photographs",
}
SCIENTIFIC = (".dcm", ".dicom", ".npy")  # one picture each, where images lie in folders

SYSTEM = ("$RECYCLE.BIN", "System Volume Information")

Label = str | tuple[str, ...]


@dataclass(frozen=True)
class Samples:
    """Images by id, as paths or decoded (uint8 [N, H, W] or [N, H, W, C]), with their classes if known.

    A class is a name or, if the target is `several`, a tuple of names. `groups` says which images are related (frames
    of one track), if the source knows. `places` says where decoded images come from: `FILE:ROW`, counted from 1.
    """

    ids: list[str]
    images: list[str] | NDArray[np.uint8]
    labels: Sequence[Label] | None = None
    groups: list[str] | None = None
    places: list[str] | None = None


@dataclass(frozen=True)
class Stored:
    """Images stored by the thousand in a few files; they are read once, when they are packed."""

    files: list[Path]
    read: Callable[[], Samples]


@dataclass(frozen=True)
class Listing:
    """The images that a source found. `valid` is a validation part provided with the data.

    `answers` returns the classes of the images to predict by id, if they are known.
    """

    train: Samples | Stored
    predict: Samples | Stored | None = None
    valid: Samples | Stored | None = None
    answers: Callable[[], Mapping[str, Label]] | None = None


@dataclass
class Faults:
    """The faults of a data set, collected so that all are reported at once, with examples."""

    where: str
    found: list[str] = field(default_factory=list)

    def add(self, what: str, names: Sequence[str]) -> None:
        """Add a kind of fault with the names it concerns; nothing if there are none."""
        if names:
            self.found.append(f"{what} ({len(names):,}): {examples(list(names))}")

    def settle(self, leave_out: bool) -> None:
        """Raise UserError with all faults or, with `leave_out`, only report them."""
        if not self.found:
            return
        listed = "\n".join(f"  {line}" for line in self.found)
        if not leave_out:
            raise UserError(f"{self.where} does not fit together; repair it, or set source.faults: leave out\n{listed}")
        say_once(f"{self.where}: left out\n{listed}")


def walk(folder: Path) -> list[str]:
    """Return every image below `folder` as a relative path, sorted, without hidden files and masks.

    Reports how many pictures are left out because they are masks or of an unsupported format.
    """
    files = files_below(folder)
    images = [name for name in files if is_image(name.rpartition("/")[2])]
    unread = Counter(ending for name in files if (ending := os.path.splitext(name)[1].lower()) in UNREAD)  # noqa: PTH122
    _refuse_names(folder, images)
    for ending, count in unread.items():
        what = f"{count:,} {ending} ({UNREAD[ending]}, which are not read here: convert them to PNG)"
        say_once(f"{folder}: left out: {what}")
    masks = masks_among(images)
    if masks:
        say_once(f"{folder}: left out: {told(masks)}")
    return [name for name in images if name not in masks]


def files_below(folder: Path) -> list[str]:
    """Return every file below `folder` as a relative path, sorted, without hidden files and those of operating systems.

    Links are followed, but not back up. Raises UserError for a folder that cannot be read.
    """
    files: list[str] = []
    seen: set[tuple[int, int]] = set()
    for parent, inner, names in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        status = os.stat(parent)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            inner.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inner[:] = sorted(name for name in inner if not is_hidden(name))
        below = os.path.relpath(parent, folder).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        files += [prefix + name for name in names if not name.startswith(".")]
    return sorted(files)


def is_hidden(folder: str) -> bool:
    """True for the name of a folder that is hidden, or an operating system's own."""
    return folder.startswith((".", "__MACOSX")) or folder in SYSTEM


def _refuse_folder(error: OSError) -> None:
    """Raise UserError for a folder that cannot be listed, since its images would be missing without notice."""
    if isinstance(error, FileNotFoundError):
        return  # the caller finds no images, and reports that
    raise UserError(f"cannot read the folder {error.filename}: {error.strerror}")


def _refuse_names(folder: Path, files: Sequence[str]) -> None:
    """Raise UserError for file names that are not UTF-8, since ids are stored as UTF-8 text."""
    strange = [file for file in files if not file.isascii() and any("\udc80" <= letter <= "\udcff" for letter in file)]
    if strange:
        names = f"the names of {count_of(len(strange), 'image')}"
        spelled = os.fsencode(min(strange)).decode("ascii", "backslashreplace")
        if all(_is_utf8(os.fsencode(file)) for file in strange):  # the terminal is set to another encoding
            raise UserError(
                f"{folder}: {names}, for example {spelled}, are UTF-8 text, and Python "
                f"was told to read them as {sys.getfilesystemencoding()}: set PYTHONUTF8=1, or LANG to a UTF-8 language"
            )
        raise UserError(
            f"{folder}: {names} are not UTF-8 text, for example {spelled}; rename them "
            f"(convmv -r -f latin1 -t utf8 --notest FOLDER does it for all)"
        )


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_image(name: str) -> bool:
    """True if the file's name has the ending of an image."""
    return name.lower().endswith(ENDINGS + SCIENTIFIC) and not name.startswith(".")


def as_labels(labels: NDArray[Any] | Sequence[Any], count: int, where: str) -> list[str]:
    """Return one class per image, as text; a one-hot row becomes the index of its 1, and booleans become 0 and 1.

    Raises UserError where there are not `count` of them.
    """
    values = np.asarray(labels)
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    if values.ndim > 1 and values.size == len(values):
        values = values.reshape(-1)
    if values.ndim == 2 and len(values) and values.dtype.kind in "iuf" and set(np.unique(values).tolist()) <= {0, 1}:
        ones = values.sum(axis=1)
        if (ones != 1).any():
            row = int(np.flatnonzero(ones != 1)[0]) + 1
            raise UserError(
                f"{where}: row {row} holds {int(ones[row - 1])} classes of {values.shape[1]}: sets of classes are read "
                f"from tables alone, one column per class; here a row has one 1"
            )
        values = values.argmax(axis=1)
    if values.ndim != 1 or values.dtype.kind not in "iufUSO":
        raise UserError(f"{where}: expected one label per image, got an array of {'x'.join(map(str, values.shape))}")
    if len(values) != count:
        raise UserError(f"{where}: {len(values):,} labels for {count:,} images")
    if values.dtype.kind == "f":
        if not (np.isfinite(values) & (values == np.round(values))).all():
            raise UserError(f"{where}: the labels are fractions; expected whole numbers or names")
        values = values.astype(np.int64)
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: the label {error.object!r} is not UTF-8 text") from None


def numbered(count: int, first: int = 0) -> list[str]:
    """Return consecutive numbers as ids, for images without ids."""
    return [str(place) for place in range(first, first + count)]


def existing(root: Path, name: str) -> Path:
    """Return the path of a file in the data folder. Raises UserError if it does not exist."""
    path = root / name
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    return path
