"""The competition around the model: a checked submission out, its score back into the ledger.

What is about to be uploaded stands in the ledger before it is sent, under a tag made of its bytes that also stands in
the submission's message. So a lost answer, a kill or a ledger on another machine never leads to a second upload of the
same bytes: the tag is looked for in Kaggle's own listing first.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice

import pandas as pd
from filelock import FileLock, Timeout

from featherweight import paths
from featherweight.console import say
from featherweight.errors import Unavailable, UserError
from featherweight.kaggle import credentials as kaggle_credentials
from featherweight.kaggle.client import Kaggle
from featherweight.kaggle.download import kaggle_name, slug_and_folder
from featherweight.kaggle.entry import Entry, find, of_notebook
from featherweight.kaggle.errors import SITE
from featherweight.kaggle.polling import polls
from featherweight.kaggle.responses import KaggleSubmission, LeaderboardRow
from featherweight.runs import ledger

SENDING, LOST, REFUSED = "SENDING", "LOST", "REFUSED"  # what the ledger knows beside Kaggle's own words
LONGEST_MESSAGE = 400


def submit(
    what: str,
    *,
    competition: str | None = None,
    message: str | None = None,
    again: bool = False,
    wait_minutes: float = 0,
    by_kernel: bool = False,
) -> str:
    """Upload a run's submission, any CSV, or the notebook that was sent for a run; returns the outcome in words.

    Refuses what exceeds the limit, what the checker refuses, and what was submitted before (unless `again`).
    """
    entry = of_notebook(what) if by_kernel else find(what, competition)
    target = paths.submissions()
    try:
        with FileLock(target / "submit.lock", timeout=0):
            kaggle = entry.connect()
            submission = _upload(kaggle, entry, message or entry.message, again)
    except Timeout:
        raise UserError("another submission is being made from this workspace; wait for it to end") from None
    if wait_minutes > 0 and submission.status == "PENDING":
        submission = _wait(kaggle, entry.slug, submission, 60 * wait_minutes)
    return _in_words(entry, submission)


def refuse_if_impossible(name: str) -> None:
    """Raise UserError before training if its result could not be submitted: no Kaggle name, no credentials."""
    from featherweight.config import load_competition

    kaggle_name(name, load_competition(name))
    if kaggle_credentials.find() is None:
        raise UserError(f"there are no Kaggle credentials: {kaggle_credentials.HOW_TO}")


def scores() -> pd.DataFrame:
    """Ask Kaggle about every submission in the ledger, add what is new, and return them all."""
    known = ledger.submissions()
    open_ones = known[known["status"] != REFUSED]
    if not len(open_ones):
        return known
    kaggle = Kaggle()
    for slug, group in open_ones.groupby("kaggle"):
        listed = kaggle.submissions(str(slug))
        for row in ledger.records(group):
            submission = next(
                (s for s in listed if row["tag"] in s.message or str(s.reference) == row["reference"]), None
            )
            if submission:
                _record(row, submission)
    return ledger.submissions()


def leaderboard(name: str, count: int) -> list[LeaderboardRow]:
    """Return the first teams of a competition, named as here or as on Kaggle."""
    return Kaggle().leaderboard(slug_and_folder(name)[0], count)


def _upload(kaggle: Kaggle, entry: Entry, message: str, again: bool) -> KaggleSubmission:
    listed = kaggle.submissions(entry.slug)
    prefix = f"fw-{entry.sha256[:12]}"
    known = ledger.submissions()
    mine = ledger.records(known[(known["csv_sha256"] == entry.sha256) & (known["kaggle"] == entry.slug)])
    earlier = next((s for s in listed if prefix in s.message), None)
    for row in mine:
        if row["status"] == SENDING:
            arrived = kaggle.look_for(entry.slug, row["tag"])
            _record(row, arrived or LOST)
            if arrived:
                say("the last attempt had arrived: nothing is uploaded again")
                return arrived
        elif row["status"] not in (REFUSED, LOST) and earlier is None:
            earlier = KaggleSubmission(
                int(row["reference"] or 0), "", "", row["status"], row.get("public"), None, row["date"]
            )
    if earlier and not again:
        score = f", public score {earlier.public}" if earlier.public is not None else ""
        raise UserError(
            f"{entry.identity} submitted on {earlier.date[:16].replace('T', ' ')} as {earlier.reference}{score}; "
            "--again submits them all the same"
        )
    limits = kaggle.limits(entry.slug)
    if limits.left == 0:
        raise UserError(
            f"the team has no submissions left today in {entry.slug} ({limits.today} made); "
            "the count starts anew at midnight UTC"
        )
    tags = {row["tag"] for row in mine} | {s.message.rpartition("[")[2].rstrip("]") for s in listed}
    tag = next(f"{prefix}-{n}" for n in range(1, len(tags) + 2) if f"{prefix}-{n}" not in tags)
    text = f"{message[:LONGEST_MESSAGE]} [{tag}]"
    left = "" if limits.left is None else f" ({limits.left} left today)"
    say(f"submitting {entry.name} to {SITE}/{entry.slug}{left}; by hand this would be")
    say(f"  {entry.by_hand(text)}")
    row = _row(entry, tag, text)
    ledger.record_submission(row)
    try:
        submission = kaggle.submit(entry.slug, entry.csv, text, tag)
    except UserError as error:
        if not isinstance(error, Unavailable):  # else it may have arrived: the row stays as it is, to be looked for
            _record(row, REFUSED)
        raise
    try:
        _record(row, submission)
    except OSError as error:
        raise UserError(
            f"it was submitted as {submission.reference}, and that could not be written into {error.filename}: "
            f"{error.strerror}; make room, then the same command adds it, and uploads nothing"
        ) from None
    return submission


def _wait(kaggle: Kaggle, slug: str, submission: KaggleSubmission, seconds: float) -> KaggleSubmission:
    """Wait until Kaggle has scored it or the time is up; if Kaggle is busy, ask again."""
    say("waiting for the score")
    rows = ledger.submissions()
    row = ledger.records(rows[rows["reference"] == str(submission.reference)])[-1]
    for _ in islice(polls(seconds), 1, None):  # at first it is pending
        with suppress(Unavailable):
            listed = kaggle.submissions(slug, pages=1)
            submission = next((s for s in listed if s.reference == submission.reference), submission)
        if submission.status != "PENDING":
            break
    _record(row, submission)
    return submission


def _in_words(entry: Entry, submission: KaggleSubmission) -> str:
    name = f"{entry.name} is submission {submission.reference} of {entry.slug}"
    if submission.status == "ERROR":
        raise UserError(f"{name}, and Kaggle could not score it: {submission.fault or 'no reason given'}")
    if submission.public is None:
        return f"{name}: {submission.status.lower()}\nnext: ./run.sh scores"
    holdout = f", holdout {entry.run['holdout']:.5f}" if entry.run else ""
    return f"{name}: public score {submission.public:.5f}{holdout}\nnext: ./run.sh runs --plot"


COPIED = ("run", "recipe", "seed", "parameters", "limit", "metric", "holdout", "holdout_low", "holdout_high", "commit")


def _row(entry: Entry, tag: str, message: str) -> dict[str, object]:
    """Return the ledger's row for a submission about to be sent: its run, and how it will be found again."""
    own = {"kaggle": entry.slug, "tag": tag, "status": SENDING, "message": message, "csv_sha256": entry.sha256}
    of_run = {key: entry.run[key] for key in COPIED if key in entry.run}
    return {"competition": entry.competition_name, **of_run, **own, "date": _now()}


def _record(row: Mapping[str, object], news: KaggleSubmission | str) -> None:
    """Add to the ledger what is now known about a submission."""
    if isinstance(news, str):
        learned: dict[str, object] = {"status": news}
    else:
        scored = {"public": news.public, "private": news.private}
        learned = {"status": news.status, "reference": news.reference}
        learned |= {key: value for key, value in scored.items() if value is not None}
    ledger.record_submission({**row, **learned, "date": _now()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
