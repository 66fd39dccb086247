"""The CSV that is uploaded: one writer, one checker, one scorer."""

from featherweight.submission.csv_file import (
    Form,
    check,
    form,
    holdout_form,
    match,
    score,
    score_parts,
    solution,
    spelled_classes,
    write,
)

__all__ = [
    "Form",
    "check",
    "form",
    "holdout_form",
    "match",
    "score",
    "score_parts",
    "solution",
    "spelled_classes",
    "write",
]
