"""A column that says which part of the data a row belongs to: Training, PublicTest, PrivateTest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from featherweight.data.detect.detected import Detected
from featherweight.data.detect.folder_roles import role


def parts_of(values: Iterable[str]) -> tuple[list[str], list[str]] | None:
    """Return the values that mean held out and those that mean the labelled test, or None if some value means no part.

    Blanks are ignored. A split column has 2 to 6 values, one of which means training.
    """
    roles = {value: _part(value.lower()) for value in sorted(set(values)) if value}
    if not 2 <= len(roles) <= 6 or "train" not in roles.values() or not all(roles.values()):
        return None
    return [v for v, part in roles.items() if part == "valid"], [v for v, part in roles.items() if part == "test"]


def _part(value: str) -> str:
    """Return the part that a value names: as Kaggle calls its leaderboards, else as folders are called."""
    return "valid" if "public" in value else "test" if "private" in value else role(value)


def record_split(detected: Detected, name: str, values: Sequence[str], test_elsewhere: bool) -> bool:
    """Add the split column `name` to a detected source if its `values` [N] name parts; True if they do.

    Test rows are held out too if the images to predict are others (`test_elsewhere`), or if nothing else is held out.
    """
    counts = Counter(value.strip() for value in values)
    parts = parts_of(counts)
    if parts is None:
        return False
    valid, tests = parts
    if test_elsewhere or (tests and not valid):
        valid, tests = [*valid, *tests], []
    detected.source["split"] = name
    detected.source |= {key: rows for key, rows in (("valid_rows", valid), ("test_rows", tests)) if rows}
    shown = ", ".join(f"{value} ({count:,})" for value, count in counts.most_common())
    detected.notes.append(f"the column '{name}' says which part a row belongs to: {shown}")
    detected.assumed.append(
        f"held out: the rows whose {name} is {', '.join(valid) or 'none'}; labelled test: "
        f"{', '.join(tests) or 'none'} (source.valid_rows, source.test_rows)"
    )
    return True
