"""A competition's data from Kaggle: fetched, checked, unpacked."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from featherweight import workspace
from featherweight.errors import Unavailable, UserError
from featherweight.kaggle_client import Kaggle
from featherweight.kaggle_errors import SITE
from featherweight.progress import say

if TYPE_CHECKING:  # torch, without which a download begins sooner
    from featherweight.config import Competition


def download(name: str) -> Path:
    """Fetch a competition's data and unpack them into the data folder; returns where they are.

    The folder appears whole or not at all; what a broken connection left of the archive is used when it goes on.
    """
    slug, folder = slug_and_folder(name)
    if folder.is_dir() and any(folder.iterdir()):
        say(f"{folder} is there already; to fetch it anew, move it away first")
        return folder
    archive = folder.with_name(f"{slug}.zip")
    archive.parent.mkdir(parents=True, exist_ok=True)
    whole = archive.is_file() and not archive.with_name(f"{archive.name}.kaggle-partial").exists()
    for attempt in range(2):
        if not whole or attempt:
            say(f"downloading {SITE}/{slug}")
            Kaggle().download(slug, archive)
        try:
            unpack(archive, folder)
        except zipfile.BadZipFile as error:
            archive.unlink()
            if attempt:
                raise Unavailable(f"what Kaggle sent for {slug} is not a whole zip file ({error})") from None
            say(f"{archive} is damaged ({error}): fetching it anew")
        else:
            archive.unlink()
            return folder
    raise AssertionError("unreachable")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip, and the zips directly in it, into a new `folder`, which appears whole or not at all.

    Raises UserError for an archive that reaches outside or does not fit on the disk, BadZipFile for a damaged one.
    """
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        _extract(archive, beside)
        for inner in sorted(beside.glob("*.zip")):
            with zipfile.ZipFile(inner) as opened:
                tops = {name.split("/")[0] for name in opened.namelist()}
            _extract(inner, beside if tops == {inner.stem} else beside / inner.stem)
            inner.unlink()
        if folder.is_dir():
            folder.rmdir()  # it is empty, or we would not be here
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        for member in members:
            target = (folder / member.filename).resolve()
            if not target.is_relative_to(folder.resolve()) or stat.S_ISLNK(member.external_attr >> 16):
                raise UserError(
                    f"{archive}: '{member.filename}' would be written outside {folder}; nothing was unpacked"
                )
        size, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
        if size > free:
            raise UserError(f"{archive} unpacks to {size / 1e9:,.1f} GB, and the disk has {free / 1e9:,.1f} GB left")
        opened.extractall(folder)


def slug_and_folder(name: str) -> tuple[str, Path]:
    """A competition's name on Kaggle, and the folder its data belong in; any other name is taken for Kaggle's own."""
    if name not in workspace.config_names("competitions"):
        if not all(part.isalnum() for part in name.split("-")):
            raise UserError(f"'{name}' is no competition here, and no name Kaggle gives: it is the end of {SITE}/NAME")
        return name, workspace.data() / name
    from featherweight.config import load_competition

    declared = load_competition(name)
    slug, path = kaggle_name(name, declared), declared.source.arguments.get("path")
    return slug, workspace.data() / (path if isinstance(path, str) else slug)


def kaggle_name(name: str, competition: Competition) -> str:
    """What a competition is called on Kaggle. Raises UserError where its file does not say."""
    if competition.kaggle is None:
        raise UserError(f"the competition {name} says no Kaggle name: add `kaggle: NAME` ({SITE}/NAME) to its file")
    return competition.kaggle
