"""What Kaggle answers, as plain values; an answer of another form is Kaggle's fault, and is said to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from featherweight.errors import Unavailable
from featherweight.kaggle.errors import clean

UNEXPECTED = "Kaggle's answer is of a form that is not known; try again later"


@dataclass(frozen=True)
class KaggleSubmission:
    """A line of Kaggle's listing; scores are None until there are any, `status` is PENDING, COMPLETE, ERROR or new."""

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
    """Submissions the team has made and may still make; None for somebody who is on no team yet."""

    today: int
    left: int | None


@dataclass(frozen=True)
class LeaderboardRow:
    """A line of a leaderboard."""

    rank: int
    team: str
    score: str
    date: str


def submission(row: dict[str, Any]) -> KaggleSubmission:
    """A line of the listing."""
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
    """The submissions in an answer. Raises Unavailable for anything but a list of objects."""
    listed = answer.get("submissions") or []
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise Unavailable(UNEXPECTED)
    return listed


def number(value: Any) -> int | None:
    """A whole number, also where it comes as text; None for anything else."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def score(text: Any) -> float | None:
    """Scores come as text, empty while there is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
