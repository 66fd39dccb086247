"""A run as one file to hand to somebody else, and back: everything in its folder, its CSV and its row of the ledger.

bundle.json             the format, the run, the environment, the command, and the checksum of every other file
runs/<name>/...         the run's folder, and those of an ensemble's members
submissions/<name>.csv  what was, or may be, uploaded
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout

from featherweight import __version__, atomic, paths
from featherweight.data import archive
from featherweight.errors import UserError
from featherweight.runs import ledger
from featherweight.runs.run import Run

FORMAT = 1
DESCRIPTION = "bundle.json"
LEFT_OUT = ("run.lock", "export")  # not bundled, like the files that a killed process was writing


def write(run: Run, path: Path) -> int:
    """Write a run's bundle and return the number of files in it. Raises UserError for a run without weights and without
    a checkpoint, which has nothing beyond its recipe, and for one that another process works on.
    """
    if not run.weights.exists() and not (run.folder / "checkpoint.pt").exists():
        raise UserError(f"{run.name} has not trained yet, so there is nothing to bundle: ./run.sh resume {run.name}")
    runs = [run, *(member for member, _ in run.weighted_models if member is not run)]
    try:
        with ExitStack() as locked:
            for each in sorted(runs, key=lambda each: each.name):
                locked.enter_context(FileLock(each.folder / "run.lock", timeout=0))
            for each in runs:
                if each.weights.exists() and not each.is_ensemble:
                    each.load_model()  # damaged weights are found here, not by the receiver
            files = {name: file for each in runs for name, file in _files(each)}
            contents = {name: file.read_bytes() for name, file in sorted(files.items())}
    except Timeout as error:
        name = Path(error.lock_file).parent.name
        raise UserError(f"another process is working on the run {name}; stop it first, or wait") from None
    table = ledger.read()
    about = {
        "format": FORMAT,
        "run": run.name,
        "runs": [each.name for each in runs],
        "command": run.metadata.command,
        "commit": run.metadata.commit,
        "environment": {"featherweight": __version__, **run.metadata.versions, "packages": _packages()},
        "ledger": [row for each in runs for row in ledger.records(table[table["run"] == each.name])[-1:]],
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    description = json.dumps(about, indent=2).encode() + b"\n"
    atomic.write_bytes(path, archive.zipped({DESCRIPTION: description, **contents}))
    return len(contents)


def teachers(run: Run) -> list[str]:
    """Return the names of the runs that this one still needs to be trained; none if it is trained."""
    distill = None if run.weights.exists() else run.recipe.distill
    return [name for name in distill.teachers if not name.endswith(".npz")] if distill else []


def load(path: Path, name: str | None = None) -> Run:
    """Put a bundle's runs into this workspace and return the one that it is about, under the name `name` if it is
    given.

    A member of an ensemble that is here already, with the same bytes, stays. Raises UserError for a file that is no
    bundle or is damaged, and for a name that another run has.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    paths.runs().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.runs(), prefix=".load-") as scratch:
        folder = Path(scratch) / "bundle"
        try:
            archive.unpack(path, folder)
        except archive.Damaged:
            raise UserError(f"{path}: not a bundle of a run, or a damaged one; ask for it again") from None
        about = _checked(path, folder)
        main = about["run"]
        called = {each: name or each if each == main else each for each in about["runs"]}
        for each, here in called.items():
            _refuse_taken(path, folder / "runs" / each, here, main=each == main)
        for each, here in sorted(called.items(), key=lambda pair: pair[0] == main):  # the ensemble last
            _place(folder, each, here)
        for row in about["ledger"]:
            ledger.record({**{key: row[key] for key in ledger.COLUMNS if key in row}, "run": called[row["run"]]})
    return Run.find(called[main])


def _files(run: Run) -> Iterable[tuple[str, Path]]:
    """Yield what a bundle holds of a run: each file's name in it, and its path here."""
    for file in sorted(run.folder.rglob("*")):
        if file.is_file() and file.relative_to(run.folder).parts[0] not in LEFT_OUT and not file.name.endswith(".part"):
            yield f"runs/{run.name}/{file.relative_to(run.folder).as_posix()}", file
    if run.csv().exists():
        yield f"submissions/{run.name}.csv", run.csv()


def _packages() -> dict[str, str]:
    """Return every installed package and its version."""
    versions = {each.metadata["Name"]: each.version for each in metadata.distributions() if each.metadata["Name"]}
    return dict(sorted(versions.items(), key=lambda pair: pair[0].lower()))


def _checked(path: Path, folder: Path) -> dict[str, Any]:
    """Return a bundle's description. Raises UserError unless it lists exactly the files there, with their checksums."""
    described = folder / DESCRIPTION
    if not described.is_file():
        raise UserError(f"{path}: not a bundle of a run (there is no {DESCRIPTION} in it): ./run.sh bundle RUN")
    try:
        about = json.loads(described.read_text())
        listed, runs, main = dict(about["files"]), list(about["runs"]), about["run"]
        plain = all(isinstance(each, str) and _is_plain(each) for each in runs)
        if not plain or main not in runs or not all(_is_ours(each, runs) for each in listed):
            raise ValueError("its names are not those of runs")
        if about["format"] != FORMAT:
            raise UserError(f"{path}: a later version of featherweight made this bundle (format {about['format']})")
        if any(set(row) - set(ledger.COLUMNS) or row.get("run") not in runs for row in about["ledger"]):
            raise ValueError("its rows are not those of a ledger")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: {DESCRIPTION} in it is damaged ({error})") from None
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()} - {DESCRIPTION}
    if odd := sorted(there ^ set(listed)):
        what = "is not listed" if odd[0] in there else "is missing"
        raise UserError(f"{path}: the bundle is damaged: {odd[0]} {what}; ask for it again")
    for each, checksum in listed.items():
        if hashlib.sha256((folder / each).read_bytes()).hexdigest() != checksum:
            raise UserError(f"{path}: the bundle is damaged: {each} has another checksum; ask for it again")
    return dict(about)


def _is_plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and Path(name).name == name and "\\" not in name


def _is_ours(name: str, runs: Iterable[str]) -> bool:
    """True if a bundle of these runs may hold this file."""
    top, *rest = PurePosixPath(name).parts
    return (top == "runs" and len(rest) > 1 and rest[0] in runs and ".." not in rest) or (
        top == "submissions" and len(rest) == 1 and rest[0].removesuffix(".csv") in runs
    )


def _refuse_taken(path: Path, folder: Path, name: str, main: bool) -> None:
    here = paths.runs() / name
    if here.exists() and not (not main and _contents(here) == _contents(folder)):
        other = f"./run.sh load {path} --name OTHER" if main else f"rename or delete {here}"
        raise UserError(f"there is a run called '{name}' already: {other}")
    csv = paths.submissions() / f"{name}.csv"
    if main and csv.exists():
        raise UserError(f"{csv} exists already: ./run.sh load {path} --name OTHER, or delete it")


def _contents(folder: Path) -> Mapping[str, bytes]:
    """Return a run's configuration, split and weights, which tell whether it is the same run."""
    files = ("run.json", "recipe.yaml", "competition.yaml", "split.json", "weights.safetensors")
    return {name: (folder / name).read_bytes() for name in files if (folder / name).is_file()}


def _place(folder: Path, name: str, here: str) -> None:
    """Put one of a bundle's runs into the workspace, whole, unless it is there."""
    if (paths.runs() / here).exists():
        return
    with atomic.folder(paths.runs(), [here]) as fresh:
        shutil.copytree(folder / "runs" / name, fresh, dirs_exist_ok=True)
    csv = folder / "submissions" / f"{name}.csv"
    if csv.is_file() and not (paths.submissions() / f"{here}.csv").exists():
        atomic.write_bytes(paths.submissions() / f"{here}.csv", csv.read_bytes())
