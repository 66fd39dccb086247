"""A column that says which images belong together: of one patient, one plant, one video."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from featherweight.data.detect.folder_roles import words

NAMED = re.compile(
    r"patient|subject|person|participant|lesion|driver|sequence|^seq_?id|^track|video|session|^site$|^location|plot|"
    r"^case|specimen|study_?(id|instance)|^slide|^plant_?id|^animal|^group|^observation_?id",
    re.IGNORECASE,
)
PROPERTIES = {"age", "sex", "gender", "weight", "height", "size", "position", "view", "orientation"}  # of a patient


def fits(heading: str, values: Sequence[str]) -> bool:
    """True if a column is called as groups are (patient, not patient age), and its values put images into groups.

    There are at least five groups, and not one per image.
    """
    if not NAMED.search(heading) or not PROPERTIES.isdisjoint(word.lower() for word in words(heading)):
        return False
    sizes = Counter(value for value in values if value.strip())
    together = sum(size for size in sizes.values() if size > 1)
    return len(sizes) >= 5 and together >= len(values) / 4 and max(sizes.values()) <= len(values) / 2
