"""Layouts and formats that are recognised but not supported, with advice."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from featherweight.data import csv_file
from featherweight.data.csv_file import number_of
from featherweight.data.detect.sample_submission import NAMED
from featherweight.data.detect.scan import Scan
from featherweight.data.file_matching import bare, without_folder
from featherweight.data.image import opened, read
from featherweight.data.listing import UNREAD
from featherweight.errors import UserError
from featherweight.untrusted_files import read_text

FORMATS = {
    ".tfrec": "TFRecord files",
    ".tfrecord": "TFRecord files",
    ".tfrecords": "TFRecord files",
    ".bson": "BSON files",
    ".lmdb": "an LMDB database",
    ".mdb": "an LMDB database",
    ".mat": "MATLAB files",
    ".rec": "RecordIO files",
    ".nii": "NIfTI volumes",
    ".mp4": "videos",
    ".avi": "videos",
    ".wav": "sounds",
    ".mp3": "sounds",
    ".ogg": "sounds",
    ".flac": "sounds",
    **UNREAD,
}
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
PACKED = {".zip": "unzip -q {name} -d {stem}", ".7z": "7z x {name}", ".tar": "tar xf {name}", ".tgz": "tar xzf {name}"}
PACKED |= {".gz": "tar xzf {name}", ".rar": "unrar x {name}"}


def packed(scan: Scan) -> str | None:
    """Return in words which archives are still packed, and the command that unpacks the first; None without any."""
    names = [name for name in scan.files if name.lower().endswith((".zip", ".7z", ".tar", ".tgz", ".tar.gz", ".rar"))]
    if not names:
        return None
    first = names[0]
    stem = first.rpartition("/")[2].partition(".")[0]
    command = PACKED["." + first.rpartition(".")[2].lower()].format(name=shlex.quote(first), stem=shlex.quote(stem))
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"{first}{more} still packed: cd {shlex.quote(str(scan.folder))} && {command}"


def refuse_channels(scan: Scan) -> None:
    """Refuse tables in which each id is the beginning of several images' names."""
    stems = [bare(without_folder(name)) for name in scan.images]
    starts = {stem.rpartition("_")[0]: stem for stem in stems}
    for name in scan.tables:
        if NAMED.search(name.rpartition("/")[2].lower()):
            continue
        start = csv_file.beginning(scan.folder / name, 50)
        for place, heading in enumerate(start.header if start and len(start.header) > 1 else ()):
            values = [row[place] for row in start.rows] if start else []
            if values and len(set(values)) == len(values) and all(value in starts for value in values):
                several = [stem for stem in stems if stem.startswith(f"{values[0]}_")]
                raise UserError(
                    f"{scan.folder / name}: a row for several images each: '{values[0]}' of the column '{heading}' is "
                    f"{', '.join(several[:4])}\njoin them to one image each (as channels), called by the id alone"
                )


def refuse_unread_labels(scan: Scan, faults: Sequence[str]) -> None:
    """Refuse to take classes from file names if a table that may hold them could not be read."""
    sheets = [name for name in scan.files if name.lower().endswith(SPREADSHEETS)]
    wrong = [f"{scan.path(name)}: spreadsheets are not read here: save it as CSV" for name in sheets]
    wrong += [fault.removeprefix("set apart: ") for fault in faults]
    if wrong:
        raise UserError(f"{wrong[0]}\nrepair it, or move it away if it does not hold the classes, and run init again")


def refuse_boxes(scan: Scan) -> None:
    """Refuse images with a text file of boxes each (YOLO: a class and four numbers per line)."""
    texts = {bare(without_folder(name)): name for name in scan.files if name.lower().endswith(".txt")}
    boxes = [texts[stem] for name in scan.images if (stem := bare(without_folder(name))) in texts]
    if len(boxes) < len(scan.images) / 2:
        return
    lines = [line.split() for line in read_text(scan.folder / boxes[0]).splitlines() if line.strip()]
    if all(len(line) >= 5 and all(number_of(field) is not None for field in line) for line in lines):
        raise UserError(
            f"{scan.folder / boxes[0]}: boxes of objects, in a file for each image (YOLO: detection), and this program "
            f"trains classifiers of whole images"
        )


def refuse(scan: Scan, faults: str) -> NoReturn:
    """Raise the UserError for a folder of unknown layout."""
    archives = packed(scan)
    endings = scan.endings()
    listed = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(5)) or "nothing"
    if archives:
        raise UserError(f"{scan.outer}: holds {listed}\n{archives}, then run init again")
    unread = [(ending, what) for ending, what in FORMATS.items() if endings[ending]]
    if scan.images and unread:
        ending, what = unread[0]
        name = next(name for name in scan.files if name.lower().endswith(ending))
        faults = f"\n{name} and others are {what}, which are not read here: if it has the labels, write a CSV{faults}"
    for ending, what in unread:
        if not scan.images:
            raise UserError(
                f"{scan.outer}: the images are in {what} ({endings[ending]:,} {ending}), which are not read here\n"
                f"convert them to one image file each, in one folder per class or beside a CSV of id and label"
            )
    if sheets := [name for name in scan.files if name.lower().endswith(SPREADSHEETS)]:
        faults = f"\n{scan.path(sheets[0])}: spreadsheets are not read here: save it as CSV{faults}"
    if scan.images:
        faults = "".join(f"\n{line}" for line in faults.strip().splitlines()[:2])
        raise UserError(
            f"{scan.outer}: {len(scan.images):,} images, as {scan.images[0]}, and nothing that tells their classes: no "
            f"folder per class, no table whose rows name them, no pattern in their names (it holds {listed})\n"
            f"put a CSV of id and label beside them, or one folder per class{_unmatched(scan)}{faults}"
        )
    if endings[".parquet"]:
        raise UserError(
            f"{scan.outer}: the images are in Parquet files ({endings['.parquet']:,} .parquet), of which tables of "
            f"text and of pixels alone are read\nwrite each image to a file, in one folder per class or beside a CSV "
            f"of id and label{faults}"
        )
    _refuse_without_ending(scan)
    raise UserError(
        f"{scan.outer}: cannot tell what this is; it holds {listed}. Known: train/<class>/*, a label table beside "
        f"image folders, tables of pixels, .npz, .npy or .h5 arrays, idx files, CIFAR-like pickles{faults}"
    )


def _unmatched(scan: Scan) -> str:
    """Return a line for the first table that was read and names no image, with its first row; or an empty string."""
    stems = {bare(without_folder(name)) for name in scan.images}
    for name in scan.tables:
        start = csv_file.beginning(scan.folder / name, 1) if name.lower().endswith((".csv", ".tsv")) else None
        if start is None or not start.rows or NAMED.search(name.rpartition("/")[2].lower()):
            continue
        row = start.rows[0]
        if not stems.isdisjoint(bare(without_folder(cell)) for cell in row):
            continue  # something else is wrong with it
        return f"\n{name} was read: its first row, {','.join(row)[:80]}, names none of the images"
    return ""


def _refuse_without_ending(scan: Scan) -> None:
    """Raise UserError if the files without an ending are images."""
    names = [name for name in scan.files if "." not in without_folder(name)]
    if not names:
        return
    kind = None
    with suppress(Exception):  # no image, or a damaged one
        kind = opened(io.BytesIO(read(scan.folder / names[0]))).format
    if kind:
        ending = {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
        raise UserError(
            f"{scan.outer}: {len(names):,} files have no ending, and {names[0]} is an image ({kind}); add it:\n"
            f"cd {shlex.quote(str(scan.folder))} && find . -type f ! -name '*.*' -exec mv {{}} {{}}.{ending} \\;\n"
            f"then run init again"
        )
