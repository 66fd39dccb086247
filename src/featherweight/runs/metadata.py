"""The JSON files of a run's folder that describe the run: what was asked for, and the ids of its parts."""

from __future__ import annotations

import functools
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
FORMAT = 3  # of a run's folder


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

    def write(self, folder: Path) -> None:
        """Write it into a run's folder."""
        content = {key: value for key, value in asdict(self).items() if value or key not in ("members", "weights")}
        atomic.write_text(folder / "run.json", json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Metadata:
        """Read it from a run's folder. Raises UserError for a file that is damaged, or of another version."""
        path = folder / "run.json"
        content = read_json(path, RESTORE_OR_RESTART)
        version = content.get("format", 1)
        if content and version != FORMAT:  # an empty one is damaged
            raise UserError(
                f"{path}: another version of featherweight made this run (format {version}, not {FORMAT}, "
                f"at commit {content.get('commit') or 'unknown'}): use that version, or train it again with this one"
            )
        known = {one.name: content[one.name] for one in fields(cls) if one.name in content}
        return _typed(path, cls, known, RESTORE_OR_RESTART)


@dataclass(frozen=True)
class SplitIds:
    """The ids of the images of train, holdout and test, and the `content` of the pack of the training images.

    `provided`: the holdout came with the data as a validation part; None in runs of earlier versions.
    """

    train: list[str]
    holdout: list[str]
    test: list[str] = field(default_factory=list)
    content: str = ""
    provided: bool | None = None

    def to_json(self) -> str:
        """Return it as it is stored; an empty test part and what is unknown are left out."""
        known = {"test": self.test or None, "content": self.content or None, "provided": self.provided}
        told = {name: value for name, value in known.items() if value is not None}
        return json.dumps({"train": self.train, "holdout": self.holdout, **told}) + "\n"


@dataclass(frozen=True)
class Soup:
    """The content of `soup.json`: the runs that a soup averages, of those asked for. If it is `greedy`, the holdout
    chose them among `compared` models, and its score is too good by about the `optimism`.
    """

    members: list[str]
    asked: list[str] = field(default_factory=list)
    greedy: bool = False
    optimism: float = 0.0
    compared: int = 1

    def write(self, folder: Path) -> None:
        """Write it into a run's folder."""
        atomic.write_text(folder / "soup.json", json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Soup | None:
        """Read it from a run's folder; None if the run is no soup."""
        path = folder / "soup.json"
        return read_record(path, cls, RESTORE_OR_RESTART) if path.exists() else None


def read_record(path: Path, kind: type[T], remedy: str) -> T:
    """Return the dataclass or dict stored in a JSON file. Raises UserError for a damaged one, which names `remedy`."""
    return _typed(path, kind, read_json(path, remedy), remedy)


def _typed(path: Path, kind: type[T], content: dict[str, Any], remedy: str) -> T:
    try:
        typed: T = _adapter(kind).validate_python(content)  # type: ignore[arg-type]  # a class is hashable
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise UserError(f"{path}: {DAMAGED}; {remedy} ({where}: {fault['msg']})") from None
    return typed


@functools.cache  # building one takes milliseconds, a dozen times in each run
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Return the object stored in a JSON file. Raises UserError for a damaged one, which names `remedy`."""
    what = f"{DAMAGED}; {remedy}"
    with explained(path, what):
        content = json.loads(read_text(path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: {what} (expected an object)")
    return content
