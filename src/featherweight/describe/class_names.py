"""The order of class names, and names that mislead: several that read alike, and letters that cannot be seen."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from featherweight.data.detect.sample_submission import numbers_of


def odd_names(classes: Iterable[str]) -> list[str]:
    """Return one line per kind of oddity in the class names; empty if there are none."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike[_as_read(name)].append(name)
    several = [" and ".join(map(ascii, names)) for names in alike.values() if len(names) > 1]
    every = [name for names in alike.values() for name in names]
    unseen = [ascii(name) for name in every if not name.isprintable() or name != name.strip()]
    lines = [f"classes that read alike, perhaps one written in two ways: {'; '.join(several[:3])}"] if several else []
    return [*lines, *([f"classes with letters that cannot be seen: {', '.join(unseen[:3])}"] if unseen else [])]


def _as_read(name: str) -> str:
    """Return a name without what a reader hardly sees: forms of a letter, case of letters, spaces, marks."""
    same = unicodedata.normalize("NFKC", name)
    seen = " ".join("".join(letter for letter in same if unicodedata.category(letter) != "Cf").split())
    return seen if len(seen) == 1 else seen.casefold()


def ordered(names: set[str]) -> list[str]:
    """Numbers by their value, everything else by its letters."""
    numbers = numbers_of(sorted(names))
    if numbers is None:
        return sorted(names)
    return [name for _, name in sorted(zip(numbers, sorted(names), strict=True))]
