"""Values of a sample submission that list several classes: what separates these, and the single ones."""

from __future__ import annotations

from collections.abc import Collection

from featherweight.data.detect.sample_submission import SampleSubmission, numbers_of

MARKS = (",", "|", ";")  # besides spaces
LOOKED_AT = 500  # values


def separator(sample: SampleSubmission, classes: Collection[str]) -> str | None:
    """Return what stands between classes in the values of a sample submission, or None if no value lists several.

    A mark counts if what it separates are classes or numbers. Spaces are not looked for: they may belong to a name.
    """
    values = [value for value in sample.distinct[:LOOKED_AT] if value not in classes]
    for mark in MARKS:
        lists = [value for value in values if mark in value]
        parts = {part.strip() for value in lists for part in value.split(mark)}
        if lists and (parts <= set(classes) or numbers_of(sorted(parts)) is not None):
            spaced = mark == "," and all(value.count(",") == value.count(", ") for value in lists)
            return ", " if spaced else mark
    return None


def written(sample: SampleSubmission, classes: Collection[str], several: bool) -> list[str]:
    """Return what a sample submission writes for single classes: its columns, or its values, those of lists apart.

    `several`: an image has a set of classes, so that spaces separate them too.
    """
    if len(sample.columns) > 1:
        return sample.columns
    mark = separator(sample, classes)
    return parts(sample, mark or (" " if several else None))


def parts(sample: SampleSubmission, mark: str | None) -> list[str]:
    """Return the different classes that the values list, in their order; the values themselves without a `mark`."""
    if mark is None:
        return sample.distinct
    lists = [value.split(mark.strip() or None) for value in sample.distinct]
    return list(dict.fromkeys(name.strip() for names in lists for name in names if name.strip()))
