"""Which files of a folder are models: those of its subfolders too, shards as one model, no outside data of others."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from featherweight import untrusted_files
from featherweight.errors import UserError
from featherweight.models.pretrained_weights import ENDINGS

INDEX = ".index.json"  # of a model in shards, as transformers and diffusers write it
FILES = (*ENDINGS, ".pth.tar", ".pt2", ".onnx")
RUN = "run.json"  # in the folder of a run, which is one model
HEADS = (b"PK", b"\x80")  # what files begin with that torch has saved


def files_in(folder: Path) -> list[Path]:
    """Return the models in a folder and its subfolders, sorted: files, indices of shards, folders of runs.

    A subfolder without any, and a link to a folder, are returned too: no entry is left out in silence.
    """
    found: list[Path] = []
    unread: list[OSError] = []
    for here, folders, names in os.walk(folder, onerror=unread.append):
        place = Path(here)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        if place != folder and RUN in names:
            found.append(place)
            folders.clear()
            continue
        found += [place / name for name in folders if (place / name).is_symlink()]
        found += _models(place, sorted(names))
    found += [Path(str(error.filename)) for error in unread]
    entries = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith((".", "__")))
    found += [entry for entry in entries if not any(one.is_relative_to(entry) for one in found)]
    return sorted(set(found))


def _models(folder: Path, names: list[str]) -> list[Path]:
    files = [folder / name for name in names]
    indices = [file for file in files if file.name.endswith(INDEX)]
    parts: set[Path] = set()
    for index in indices:
        with suppress(UserError):  # said when it is weighed
            parts.update(shards(index))
    for file in files:
        if file.suffix.lower() == ".onnx":
            parts |= {one for one in _outside(file) if not _begins_as_weights(one)}
    return [file for file in files if file in indices or (file.name.lower().endswith(FILES) and file not in parts)]


def _outside(file: Path) -> set[Path]:
    from featherweight.budget.onnx_file import outside_files

    with suppress(UserError):
        return outside_files(file)
    return set()


def _begins_as_weights(file: Path) -> bool:
    with suppress(UserError, OSError), untrusted_files.open_regular(file) as stream:
        head = stream.read(9)
        return head.startswith(HEADS) or head[8:] == b"{"
    return False


def shards(index: Path) -> list[Path]:
    """Return the files beside an index that hold a model's weights in parts. Raises UserError for what is no index."""
    with untrusted_files.explained(index, "no index of a model's shards"):
        names = sorted(set(json.loads(untrusted_files.read_bytes(index))["weight_map"].values()))
    if not names or any(Path(name).name != name for name in names):
        raise UserError(f"{index}: its shards must be files beside it, and it names {', '.join(names[:2]) or 'none'}")
    return [index.with_name(name) for name in names]
