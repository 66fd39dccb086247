"""The pictures that words mean: those of a folder, of a CSV of paths, of a competition, or files by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherweight import paths
from featherweight.config import Competition, load_competition
from featherweight.data import csv_file, listing, pack
from featherweight.errors import UserError
from featherweight.runs.predictor import Shown
from featherweight.runs.run import Run

COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path", "id")  # may name files


@dataclass(frozen=True)
class Pictures:
    """Pictures to predict, and their names [N]."""

    pictures: Iterable[Any]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)


def find(what: Sequence[str], run: Run) -> Pictures:
    """Return the pictures that words of a command line mean. Raises UserError if there are none."""
    if len(what) == 1 and not Path(what[0]).exists() and what[0] in paths.config_names("competitions"):
        return _of_competition(what[0], run)
    files: list[str] = []
    for word in what:
        path = Path(word)
        if path.is_dir():
            inside = listing.walk(path)
            if not inside:
                raise UserError(f"{path}: there are no images in this folder ({', '.join(listing.ENDINGS)})")
            files += [str(path / name) for name in inside]
        elif path.suffix.lower() in (".csv", ".tsv", ".txt") and path.is_file():
            files += _of_csv(path)
        elif path.exists():
            files.append(word)
        else:
            raise UserError(f"there is no file, folder or competition called '{word}'")
    return Pictures(files, files)


def _of_competition(name: str, run: Run) -> Pictures:
    competition = load_competition(name)
    if competition.classes != run.competition.classes:
        other = sorted(set(competition.classes) ^ set(run.competition.classes))
        raise UserError(
            f"{run.name} has {len(run.competition.classes)} classes and {name} has {len(competition.classes)} others"
            f"{f', for example {csv_file.examples(other, 3)}' if other else ' (in another order)'}; to predict its "
            f"images all the same, name their folder"
        )
    return Pictures(*to_predict(competition, run))


def to_predict(competition: Competition, run: Run) -> tuple[Iterator[Shown], list[str]]:
    """Return a competition's images to predict, prepared for each member's image size, and their ids."""
    shown = {each.competition.image for each, _ in run.weighted_models}
    packs = {image: pack.load_predict(competition.source, image, competition.classes) for image in shown}
    parts = {image: part for image, part in packs.items() if part is not None}
    if not parts:
        raise UserError(f"{competition.title} has no images to predict")
    ids = next(iter(parts.values())).ids
    return ({image: part.images[index] for image, part in parts.items()} for index in range(len(ids))), ids


def _of_csv(path: Path) -> list[str]:
    """Return the files that a table names, in a column of COLUMNS or its first; relative to it, or to the working
    folder.
    """
    table = csv_file.read(path)
    column = next((name for name in COLUMNS if name in table.header), table.header[0])
    values = table.column(column)
    if _existing(path, table.header[0]):  # a list of files without a header
        values = [table.header[0], *(row[0] for row in table.rows)]
    files = [_existing(path, value) or str(path.parent / value) for value in values]
    if not files:
        raise UserError(f"{path}: expected a table with a column of paths, or one path per line")
    if not any(Path(file).is_file() for file in files):
        raise UserError(f"{path}: no file of the column '{column}' exists; for example {files[0]}")
    return files


def _existing(path: Path, value: str) -> str:
    return next((str(file) for file in (path.parent / value, Path(value)) if value and file.is_file()), "")
