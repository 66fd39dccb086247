"""The JSON files of a run's folder that describe the run: what was asked for, and the ids of its parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from featherweight import atomic
from featherweight.errors import UserError
from featherweight.untrusted_files import explained, read_text

PARTS = ("holdout", "test", "predict")  # parts of the data that a run predicts and is scored on
DAMAGED = "the file is damaged"
RESTORE_OR_RESTART = "restore it from a copy, or start a new run"
DELETE_TO_CONTINUE = "delete it to continue without it"
T = TypeVar("T")
FORMAT = 3  # of a run's folder; before 2 its files had other names, before 3 related images could be separated


@dataclass(frozen=True)
class Metadata:
    """The content of `run.json`: what was asked for, where the run works, and with which code.

    `members` and `weights` are those of an ensemble; for a trial of a search only the names are known.
    """

    recipe: str
    competition: str
    started: str = ""
    command: str = ""
    commit: str = ""
    device: str = "auto"
    threads: int | None = None
    processes: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    format: int = FORMAT

    @property
    def changes(self) -> list[str]:
        """The settings under which its stored recipe means today what it meant in its format."""
        return [] if self.format >= 3 else ["split.grouped=false"]

    def write(self, folder: Path) -> None:
        """Write it into a run's folder."""
        content = {key: value for key, value in asdict(self).items() if value or key not in ("members", "weights")}
        atomic.write_text(folder / "run.json", json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Metadata:
        """Read it from a run's folder. Raises UserError for a file that is damaged, or of a later version."""
        path = folder / "run.json"
        content = {"format": 1, **read_json(path)}
        if content["format"] not in range(1, FORMAT + 1):
            raise UserError(
                f"{path}: the run was made by a later version of featherweight (format {content['format']})"
            )
        return _typed(path, cls, {one.name: content[one.name] for one in fields(cls) if one.name in content}, DAMAGED)


@dataclass(frozen=True)
class SplitIds:
    """The ids of the images of train, holdout and test, and the `content` of the pack of the training images."""

    train: list[str]
    holdout: list[str]
    test: list[str] = field(default_factory=list)
    content: str = ""

    def to_json(self) -> str:
        """Return it as it is stored; an empty test part and an unknown content are left out."""
        record = {"train": self.train, "holdout": self.holdout}
        return json.dumps({**record, **{k: v for k, v in (("test", self.test), ("content", self.content)) if v}}) + "\n"


def read_record(path: Path, kind: type[T], remedy: str) -> T:
    """Return the dataclass stored in a JSON file. Raises UserError for a damaged one, which ends in `remedy`."""
    return _typed(path, kind, read_json(path, remedy), f"{DAMAGED}; {remedy}")


def _typed(path: Path, kind: type[T], content: dict[str, Any], what: str) -> T:
    try:
        typed: T = TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise UserError(f"{path}: {what} ({'.'.join(map(str, fault['loc']))}: {fault['msg']})") from None
    return typed


def read_json(path: Path, remedy: str = "") -> Any:
    """Return the object stored in a JSON file. Raises UserError for a damaged one."""
    what = f"{DAMAGED}; {remedy}" if remedy else DAMAGED
    with explained(path, what):
        content = json.loads(read_text(path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: {what} (expected an object)")
    return content
