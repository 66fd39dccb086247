"""Which files of a folder are models: those of its subfolders too, shards as one model, no outside data of others.

Files of a training that can be continued (`STATES`) lie beside the model in folders of Trainer and accelerate.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from contextlib import suppress
from pathlib import Path

from featherweight import untrusted_files
from featherweight.errors import UserError
from featherweight.models.pretrained_weights import ENDINGS

INDEX = ".index.json"  # of a model in shards, as transformers and diffusers write it
FILES = (*ENDINGS, ".pth.tar", ".pt2", ".onnx")
SHARD = re.compile(r"(.+-)(\d{5})(-of-(\d{5})\.\w+)")  # of N files, each with its number
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
# Of other programs, or of torch by another name: in a folder of entrants they are named, as they may be models.
FOREIGN = (
    *ARCHIVES, ".pkl", ".pickle", ".pyth", ".th", ".h5", ".hdf5", ".keras", ".tflite", ".pb", ".joblib", ".npz",
    ".gguf", ".pdparams", ".msgpack", ".mlmodel", ".engine",
)  # fmt: skip
STATES = re.compile(r"(optimizer|scheduler|scaler|sampler|rng_state|random_states|training_args)(_\d+)?\.\w+")
RUN = "run.json"  # in the folder of a run, which is one model
APPLE_DOUBLE = b"\0\5\x16\7"
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
        names = sorted(name for name in names if not _is_of_a_mac(place / name))
        found += _models(place, names)
        if place == folder:
            found += [place / name for name in names if name.lower().endswith(FOREIGN)]
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
            parts.update(_named_in(index))
    for file in files:
        if file.suffix.lower() == ".onnx":
            parts |= {one for one in _outside(file) if not _begins_as_weights(one)}
    models = [file for file in files if file.name.lower().endswith(FILES) and file not in parts]
    first = {(one[1], one[3]): file for file in reversed(models) if (one := shard(file.name))}
    return [*indices, *(file for file in models if not shard(file.name) or file in first.values())]


def shard(name: str) -> re.Match[str] | None:
    """Return the parts of a shard's name as in SHARD; None for a model of its own, by its name or by its number."""
    found = SHARD.fullmatch(name)
    return found if found and 1 <= int(found[2]) <= int(found[4]) else None


def _is_of_a_mac(file: Path) -> bool:
    """True for what macOS keeps beside a file, by its name and its content."""
    with suppress(UserError, OSError):
        if file.name.startswith("._"):
            with untrusted_files.open_regular(file) as stream:
                return stream.read(4) == APPLE_DOUBLE
    return False


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


def refuse_other_kinds(path: Path) -> None:
    """Raise UserError for a file that by its name is no model, unless it is one of torch's by its content."""
    name = path.name.lower()
    if name.endswith(FILES) or (_begins_as_weights(path) and not _is_plain_archive(path)):
        return
    if name.endswith(ARCHIVES):
        raise UserError(f"cannot weigh {path}: it is an archive; unpack it, and weigh the folder")
    if name.endswith(".py"):
        raise UserError(f"cannot weigh {path}: name the network in it, as {path}:NAME")
    raise UserError(f"cannot weigh {path}: expected a file that ends in {', '.join((*FILES, INDEX))}")


def _is_plain_archive(path: Path) -> bool:
    """True for a zip archive without the pickle that torch writes into its own."""
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        return not any(one.endswith("data.pkl") for one in archive.namelist())
    return False


def shards_with(file: Path) -> list[Path]:
    """Return all shards of the model that a file is one of; none if it is the whole model, by its name.

    Raises UserError if some are missing.
    """
    found = shard(file.name)
    if found is None:
        return []
    for index in sorted(file.parent.glob(f"*{INDEX}")):
        with suppress(UserError):
            if file in _named_in(index):
                return shards(index)
    number = int(found[4])
    return _there(file, [file.with_name(f"{found[1]}{one:05}{found[3]}") for one in range(1, number + 1)])


def shards(index: Path) -> list[Path]:
    """Return the files beside an index that hold a model's weights in parts. Raises UserError for what is no index, and
    if some are missing.
    """
    return _there(index, _named_in(index))


def _named_in(index: Path) -> list[Path]:
    with untrusted_files.explained(index, "no index of a model's shards"):
        names = sorted({str(name) for name in json.loads(untrusted_files.read_bytes(index))["weight_map"].values()})
    if not names or any(Path(name).name != name for name in names):
        raise UserError(f"{index}: its shards must be files beside it, and it names {', '.join(names[:2]) or 'none'}")
    return [index.with_name(name) for name in names]


def _there(file: Path, shards: list[Path]) -> list[Path]:
    """Return these shards. Raises UserError, about the file that asks for them, if some are missing."""
    missing = [one.name for one in shards if not one.exists()]
    if missing:
        more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
        raise UserError(f"{file}: not beside it, and part of the model: {', '.join(missing[:3])}{more}")
    return shards
