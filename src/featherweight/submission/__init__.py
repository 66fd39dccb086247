"""The CSV that is uploaded: one layout, one writer, one checker, one scorer."""

from featherweight.submission.checker import check, check_upload
from featherweight.submission.csv_format import Form, form, holdout_form, match, separator, spelled_classes
from featherweight.submission.scorer import score, score_parts, solution
from featherweight.submission.writer import write

__all__ = [
    "Form",
    "check",
    "check_upload",
    "form",
    "holdout_form",
    "match",
    "score",
    "score_parts",
    "separator",
    "solution",
    "spelled_classes",
    "write",
]
