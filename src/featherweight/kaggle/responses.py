"""What Kaggle answers, as plain values; an answer of another form is Kaggle's fault, and is said to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from featherweight.errors import Unavailable
from featherweight.kaggle.errors import clean

UNEXPECTED = "Kaggle's answer is of a form that is not known; try again later"


@dataclass(frozen=True)
class KaggleSubmission:
    """A submission in Kaggle's list; scores may be None, and `status` is PENDING, COMPLETE, ERROR or another word."""

    reference: int
    file: str
    message: str
    status: str
    public: float | None
    private: float | None
    date: str
    fault: str = ""


@dataclass(frozen=True)
class Limits:
    """Submissions made and left; None for a user without a team."""

    today: int
    left: int | None


@dataclass(frozen=True)
class LeaderboardRow:
    """A row of a leaderboard."""

    rank: int
    team: str
    score: str
    date: str


def submission(row: dict[str, Any]) -> KaggleSubmission:
    """Return a submission from an item of the list."""
    return KaggleSubmission(
        reference=number(row.get("ref")) or 0,
        file=str(row.get("fileName") or ""),
        message=str(row.get("description") or ""),
        status=str(row.get("status") or "PENDING").upper(),
        public=score(row.get("publicScore")),
        private=score(row.get("privateScore")),
        date=str(row.get("date") or "")[:19],
        fault=clean(str(row.get("errorDescription") or "")),
    )


def rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the submissions in a response. Raises Unavailable for anything but a list of objects."""
    listed = answer.get("submissions") or []
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise Unavailable(UNEXPECTED)
    return listed


def number(value: Any) -> int | None:
    """Return an integer, also from text; None for anything else."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def score(text: Any) -> float | None:
    """Return a score from text, or None if it is empty."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
