"""A column that says which part of the data a row belongs to: Training, PublicTest, PrivateTest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from featherweight.data.detect.detected import Detected
from featherweight.data.detect.folder_roles import role
from featherweight.data.label_rows import NO, YES

FLAG = re.compile(r"(?:is|in)?[ _-]?(train(?:ing)?|test|val(?:id(?:ation)?)?)(?:[ _-]?set)?")


def parts_of(values: Iterable[str]) -> tuple[list[str], list[str]] | None:
    """Return the values that mean held out and those that mean the labelled test, or None if some value means no part.

    Blanks are ignored. A split column has 2 to 6 values, one of which means training.
    """
    roles = {value: _part(value.lower()) for value in sorted(set(values)) if value}
    if not 2 <= len(roles) <= 6 or "train" not in roles.values() or not all(roles.values()):
        return None
    return [v for v, part in roles.items() if part == "valid"], [v for v, part in roles.items() if part == "test"]


def _part(value: str) -> str:
    """Return the part that a value names, by Kaggle's words (public, private) or those for folders."""
    return "valid" if "public" in value else "test" if "private" in value else role(value)


def _parts_of_flags(name: str, values: Iterable[str]) -> tuple[list[str], list[str]] | None:
    """Return as `parts_of` what yes and no mean in a column named after a part (is_train)."""
    flag = FLAG.fullmatch(name.strip().lower())
    given = {value.lower(): value for value in values if value}
    yes, no = ([spelled for value, spelled in given.items() if value in meaning] for meaning in (YES, NO))
    if flag is None or not yes or not no or len(given) > 2:
        return None
    part = role(flag[1])
    if part == "test":
        return [], yes
    return (no if part == "train" else yes), []


def record_split(
    detected: Detected, name: str, values: Sequence[str], labels: Sequence[str] = (), *, test_elsewhere: bool
) -> bool:
    """Add the split column `name` to a detected source if its `values` [N] name parts; True if they do.

    Test rows are held out too if the images to predict are others (`test_elsewhere`), or if nothing else is held out,
    but for those without classes in `labels` [N]: these are to be predicted.
    """
    counts = Counter(value.strip() for value in values)
    parts = parts_of(counts) or _parts_of_flags(name, counts)
    if parts is None:
        return False
    valid, tests = parts
    solved = {value.strip() for value, label in zip(values, labels, strict=True) if label} if labels else {*counts}
    asked = [value for value in tests if value not in solved]
    tests = [value for value in tests if value in solved]
    if test_elsewhere or asked or (tests and not valid):
        valid, tests = [*valid, *tests], []
    tests += asked
    detected.source["split"] = name
    detected.source |= {key: rows for key, rows in (("valid_rows", valid), ("test_rows", tests)) if rows}
    shown = ", ".join(f"{value or 'blank'} ({count:,})" for value, count in counts.most_common())
    detected.notes.append(f"the column '{name}' says which part a row belongs to: {shown}")
    what = "to predict" if asked else "labelled test"
    detected.assumed.append(
        f"held out: the rows whose {name} is {', '.join(valid) or 'none'}; {what}: "
        f"{', '.join(tests) or 'none'} (source.valid_rows, source.test_rows)"
    )
    return True
