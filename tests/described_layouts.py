"""Small layouts of competitions that tests write, and what `init` makes of them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from drawn_pictures import picture
from featherweight import config, paths
from featherweight.config.competition import Competition
from featherweight.data.listing import Listing, Samples
from featherweight.describe.competition_file import Options, init
from featherweight.errors import UserError


def pictures(folder: Path, names: Iterable[str]) -> None:
    """Write a small image under each of these paths below the folder."""
    for name in names:
        picture(folder / name)


def table(path: Path, header: Sequence[Any], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> None:
    """Write a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows([header, *rows])


def described(root: Path, **options: Any) -> tuple[Competition, Listing, str]:
    """Run `init` on a folder; return the competition, its listing, and the messages."""
    report = init(root, Options(**{"mirror": False, **options}))
    competition = config.load_competition(str(report.path))
    return competition, competition.source(paths.data()), "\n".join([*report.found, *report.assumed])


def classes_of(root: Path, samples: Samples) -> dict[str, Any]:
    """Return each image's class by its path below the folder."""
    return {os.path.relpath(path, root): name for path, name in zip(samples.images, samples.labels, strict=True)}


def refused(root: Path, **options: Any) -> str:
    """Run `init` on a folder that it refuses; return the message, which has at most five lines."""
    with pytest.raises(UserError) as error:
        init(root, Options(**{"mirror": False, **options}))
    assert len(str(error.value).splitlines()) <= 5
    return str(error.value)
