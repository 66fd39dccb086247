"""What is recognised and not read: said by name, with what can be done."""

from __future__ import annotations

from typing import NoReturn

from featherweight.data import csv_file
from featherweight.data.detect.sample import NAMED
from featherweight.data.detect.scan import Scan
from featherweight.data.file_matching import bare, without_folder
from featherweight.data.listing import UNREAD
from featherweight.errors import UserError

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
    """In words, the archives that lie in the folder still packed, and the command that unpacks the first."""
    names = [name for name in scan.files if name.lower().endswith((".zip", ".7z", ".tar", ".tgz", ".tar.gz", ".rar"))]
    if not names:
        return None
    first = names[0]
    stem = first.rpartition("/")[2].partition(".")[0]
    command = PACKED["." + first.rpartition(".")[2].lower()].format(name=f"'{first}'", stem=f"'{stem}'")
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"{first}{more} still packed: cd '{scan.folder}' && {command}"


def refuse_channels(scan: Scan) -> None:
    """Refuse tables whose ids begin the names of several images each."""
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


def refuse(scan: Scan, faults: str) -> NoReturn:
    """Raise the UserError for a folder that no reading fits."""
    archives = packed(scan)
    endings = scan.endings()
    listed = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(5)) or "nothing"
    if archives:
        raise UserError(f"{scan.outer}: holds {listed}\n{archives}, then run init again")
    for ending, what in FORMATS.items():
        if endings[ending]:
            raise UserError(
                f"{scan.outer}: the images are in {what} ({endings[ending]:,} {ending}), which are not read here\n"
                f"convert them to one image file each, in one folder per class or beside a CSV of id and label"
            )
    if sheets := [name for name in scan.files if name.lower().endswith(SPREADSHEETS)]:
        faults = f"\n{scan.path(sheets[0])}: spreadsheets are not read here: save it as CSV{faults}"
    if scan.images:
        raise UserError(
            f"{scan.outer}: {len(scan.images):,} images, as {scan.images[0]}, and nothing that tells their classes: no "
            f"folder per class, no table whose rows name them, no pattern in their names (it holds {listed})\n"
            f"put a CSV of id and label beside them, or one folder per class{faults}"
        )
    raise UserError(
        f"{scan.outer}: cannot tell what this is; it holds {listed}. Known: train/<class>/*, a label table beside "
        f"image folders, tables of pixels, .npz, .npy or .h5 arrays, idx files, CIFAR-like pickles{faults}"
    )
