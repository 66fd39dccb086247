"""What the trials of a search are scored by, stored in their folders, and the selection bias that follows from it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from featherweight import atomic
from featherweight.data.pack import LabelledPack
from featherweight.evaluation.bootstrap import Groups
from featherweight.evaluation.class_metrics import Answers
from featherweight.runs import selection
from featherweight.runs.selection import Chosen
from featherweight.schema import Choice

FILE = "answers.npz"


def store(folder: Path, judged: Answers, holdout: LabelledPack, groups: Groups | None) -> None:
    """Store what a trial of a search is scored by, in its folder: its answers or probabilities, the true classes and
    the groups of related images (an empty array without any), and the digest of the images' ids.
    """
    buffer = io.BytesIO()
    kept = judged.astype(np.float32) if judged.dtype.kind == "f" else judged
    related = np.empty(0, np.int64) if groups is None else groups
    ids = np.array(selection.digest(holdout.ids))
    np.savez_compressed(buffer, judged=kept, labels=holdout.labels, groups=related, holdout=ids)
    atomic.write_bytes(folder / FILE, buffer.getvalue())


def chosen(folders: Sequence[Path], choice: Choice, competition: str) -> Chosen | None:
    """Return the optimism of the first of a search's trials, the best one, by what they have stored in their folders;
    None if its file is not here, as when another machine has trained it.

    The best trials count, of those that held out the same images of that `competition`.
    """
    stored: list[dict[str, Any]] = []
    for folder in folders[: selection.MOST_RUNS]:
        try:
            with np.load(folder / FILE) as file:
                stored.append(dict(file))
        except (OSError, ValueError, BadZipFile):
            if not stored:
                return None
    first = stored[0]
    alike = [
        each["judged"]
        for each in stored
        if np.array_equal(each["labels"], first["labels"]) and each.get("holdout", "") == first.get("holdout", "")
    ]
    as_scored = [each.astype(np.float64) if each.dtype.kind == "f" else each for each in alike]
    groups = first["groups"] if len(first["groups"]) else None
    optimism = selection.of_the_best(as_scored, first["labels"], choice, groups=groups)
    return Chosen(competition, str(first.get("holdout", "")), optimism, len(folders))
