"""Which of a run's scored images are related, kept with the run: they are right or wrong together, so that their number
says too much of how sure a score is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import TypeAdapter

from featherweight import atomic
from featherweight.evaluation.metrics import Groups
from featherweight.runs.metadata import WITHOUT, read_json
from featherweight.runs.run import Run
from featherweight.untrusted_files import explained


def store(run: Run, group_of: Mapping[str, str]) -> None:
    """Keep the names of the groups of images, by id; those that are alone need none."""
    sizes = Counter(group_of.values())
    together = {id: name for id, name in group_of.items() if sizes[name] > 1}
    if together:
        atomic.write_text(run.folder / "groups.json", json.dumps(together) + "\n")


def kept(run: Run) -> dict[str, str]:
    """The names of the groups of its related images, by id; none of a run that is older."""
    path = run.folder / "groups.json"
    if not path.is_file():
        return {}
    with explained(path, f"damaged; {WITHOUT}"):
        return TypeAdapter(dict[str, str]).validate_python(read_json(path))


def of(run: Run, ids: Sequence[str]) -> Groups | None:
    """The group of each image by number, int64 [N]; None where none are related."""
    return numbered(kept(run), ids)


def of_all(runs: Sequence[Run]) -> dict[str, str]:
    """The names of the groups of what several runs have scored."""
    return {id: name for run in runs for id, name in kept(run).items()}


def numbered(group_of: Mapping[str, str], ids: Sequence[str]) -> Groups | None:
    """The same by the names of the groups, beside which an image stands for itself."""
    names = [(id in group_of, group_of.get(id, id)) for id in ids]
    numbers: dict[tuple[bool, str], int] = {}
    group = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    return group if len(numbers) < len(ids) else None
