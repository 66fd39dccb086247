"""Runs from other machines, where their competition's data were in another folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from featherweight.config import Competition, load_competition
from featherweight.errors import UserError

PLACED = ("source", "submission", "groups")  # keys of a competition's file that name files


def data_here(stored: Competition, name: str) -> Competition:
    """Return a run's competition. If the folder of its data is not on this machine, it gets the files of the
    competition of that name here, if that is the same task.
    """
    if lacks_data(stored):
        with suppress(UserError):
            here = load_competition(name)
            if _without_place(stored) == _without_place(here):
                return stored.model_copy(update={key: getattr(here, key) for key in (*PLACED, "folder")})
    return stored


def lacks_data(competition: Competition) -> bool:
    """True if its data are in a folder of another machine."""
    folder = _folder(competition)
    return Path(folder).is_absolute() and not Path(folder).exists()


def _folder(competition: Competition) -> str:
    return str(competition.folder or competition.source.arguments.get("path") or "")


def _without_place(competition: Competition) -> dict[str, Any]:
    """Return the task, with paths relative to the folder."""
    task, folder = competition.task(), _folder(competition)
    return {key: _below(value, folder) if key in PLACED else value for key, value in task.items()}


def _below(value: Any, folder: str) -> Any:
    if isinstance(value, dict):
        return {key: _below(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_below(inner, folder) for inner in value]
    inside = isinstance(value, str) and folder and (value == folder or value.startswith(f"{folder}/"))
    return value[len(folder) :] if inside else value
