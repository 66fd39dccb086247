"""A competition's data from Kaggle: fetched, checked, unpacked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight import paths
from featherweight.console import say
from featherweight.data.archive import Damaged, unpack
from featherweight.errors import Unavailable, UserError
from featherweight.kaggle.client import Kaggle
from featherweight.kaggle.errors import SITE

if TYPE_CHECKING:  # torch, without which a download begins sooner
    from featherweight.config import Competition


def download(name: str) -> Path:
    """Download a competition's data and unpack them into the data folder; returns the folder.

    The folder appears complete or not at all; an interrupted download is continued.
    """
    slug, folder = slug_and_folder(name)
    if folder.is_dir():
        if any(folder.iterdir()):
            say(f"{folder} is there already; to fetch it anew, move it away first")
            return folder
        folder.rmdir()
    archive = folder.with_name(f"{slug}.zip")
    archive.parent.mkdir(parents=True, exist_ok=True)
    whole = archive.is_file() and not archive.with_name(f"{archive.name}.kaggle-partial").exists()
    for attempt in range(2):
        if not whole or attempt:
            say(f"downloading {SITE}/{slug}")
            Kaggle().download(slug, archive)
        try:
            unpack(archive, folder, leave_damaged=True)
        except Damaged as error:
            archive.unlink()
            if attempt:
                raise Unavailable(f"what Kaggle sent for {slug} is not a whole archive: {error}") from None
            say(f"{error}: fetching it anew")
        else:
            archive.unlink()
            return folder
    raise AssertionError("unreachable")


def slug_and_folder(name: str) -> tuple[str, Path]:
    """Return a competition's name on Kaggle and the folder for its data; an unknown name is taken as Kaggle's own."""
    if name not in paths.config_names("competitions"):
        if not re.fullmatch(r"[^\W_]+([-_][^\W_]+)*", name):
            raise UserError(f"'{name}' is no competition here, and no name Kaggle gives: it is the end of {SITE}/NAME")
        return name, paths.data() / name
    from featherweight.config import load_competition

    declared = load_competition(name)
    slug = kaggle_name(name, declared)
    return slug, paths.data() / (data_folder(declared) or slug)


def data_folder(competition: Competition) -> str:
    """Return the folder with a competition's data as Kaggle delivers them: the first below the data folder, or the full
    path if they lie elsewhere; empty for built-in data.
    """
    named = competition.folder or competition.source.arguments.get("path")
    if not isinstance(named, str) or not named:
        return ""
    return named if Path(named).is_absolute() else Path(named).parts[0]


def kaggle_name(name: str, competition: Competition) -> str:
    """Return a competition's name on Kaggle. Raises UserError if its file does not state one."""
    if competition.kaggle is None:
        raise UserError(f"the competition {name} has no Kaggle name: add `kaggle: NAME` ({SITE}/NAME) to its file")
    return competition.kaggle
