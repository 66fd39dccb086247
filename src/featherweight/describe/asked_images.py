"""Fit a source to the sample submission: how images without ids are counted, and which images are to be predicted."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featherweight.data import file_matching
from featherweight.data.csv_file import examples
from featherweight.data.detect.sample_submission import SampleSubmission
from featherweight.data.detect.scan import relative
from featherweight.data.listing import numbered
from featherweight.data.sources import SOURCES


def fit(sample: SampleSubmission, source: dict[str, Any], ids: Sequence[str], root: Path, assumed: list[str]) -> bool:
    """Change `source` where the sample submission names the images `ids` to predict otherwise, or fewer of them.

    Adds to what was assumed. Returns True if that changed the source, which must then be read again.
    """
    keys = inspect.signature(SOURCES[source["name"]]).parameters
    if "first_id" in keys and _count_from(sample, source, ids):
        assumed.append(f"  source.first_id: {source['first_id']}: images have no ids, and {sample.path.name} counts so")
        return True
    if "test_table" in keys and "test_table" not in source and "test" in source and len(sample.ids) < len(ids):
        return _leave_out_others(sample, source, ids, root, assumed)
    return False


def _count_from(sample: SampleSubmission, source: dict[str, Any], ids: Sequence[str]) -> bool:
    """If images have no ids, number them from where the sample submission starts."""
    listed = sample.ids
    if len(listed) != len(ids) or not all(id.isdecimal() for id in (*listed, *ids)):
        return False
    ours, first = min(map(int, ids)), min(map(int, listed))
    if ours == first or {*ids} != {*numbered(len(ids), ours)} or {*listed} != {*numbered(len(ids), first)}:
        return False
    source["first_id"] = first
    return True


def _leave_out_others(
    sample: SampleSubmission, source: dict[str, Any], ids: Sequence[str], root: Path, assumed: list[str]
) -> bool:
    """Leave out the images for which the sample submission does not ask, if it names all others."""
    place_of, _ = file_matching.match(sample.ids, [("", id) for id in ids])
    asked = set(place_of.values())
    if len(asked) < len(sample.ids):
        return False
    source["test_table"] = relative(sample.path, root)
    others = [id for place, id in enumerate(ids) if place not in asked]
    assumed.append(
        f"  source.test_table: {sample.path.name} asks for {len(asked):,} of {len(ids):,} images to predict; left out: "
        f"{examples(others, 3)}"
    )
    return True
