"""The groups of related images among those that a run scores: `groups.json` in its folder.

Related images are right or wrong together, so intervals, folds and resamples must not treat them as independent.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from featherweight import atomic
from featherweight.evaluation.bootstrap import Groups
from featherweight.runs.metadata import DELETE_TO_CONTINUE, read_record


def store(folder: Path, group_of: Mapping[str, str]) -> None:
    """Write the group's name of each image id into a run's folder; images that are alone are left out."""
    sizes = Counter(group_of.values())
    related = {id: name for id, name in group_of.items() if sizes[name] > 1}
    if related:
        atomic.write_text(folder / "groups.json", json.dumps(related) + "\n")


def names(folders: Iterable[Path]) -> dict[str, str]:
    """Return the group's name of each related image, by id, in the folders of several runs; older runs have none."""
    return {id: name for folder in folders for id, name in _names(folder).items()}


def _names(folder: Path) -> dict[str, str]:
    path = folder / "groups.json"
    return read_record(path, dict[str, str], DELETE_TO_CONTINUE) if path.is_file() else {}


def of(folders: Iterable[Path], ids: Sequence[str]) -> Groups | None:
    """Return the group number of each image, int64 [N], as runs have stored it; None if no two images are related."""
    group_of = names(folders)
    keys = [(id in group_of, group_of.get(id, id)) for id in ids]
    numbers: dict[tuple[bool, str], int] = {}
    group = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    return group if len(numbers) < len(ids) else None
