"""The one adapter over the official `kaggle` package: nothing else imports it, and it is imported only when it is used.

The package logs in when it is imported, prints to stdout, sets no time limits, ends the program when it can't log in,
and reports a failed upload as success (FACTS 5). Here stdout is caught, every request has a time limit, and every
failure is one sentence: `UserError` for what the user can mend, `Unavailable` for what time or Kaggle must. No text
that leaves this module holds a token, a key or a signed address.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from featherweight import kaggle_credentials
from featherweight.errors import Unavailable, UserError
from featherweight.progress import console

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0  # for each request: to reach the server, and between two bytes of answer
PAUSES = (1.0, 3.0)  # seconds before a read is tried again after a dropped connection, a time-out or a server error
LOOKS = (1.0, 2.0, 4.0, 8.0)  # seconds before each look for a new submission in the listing, which lags behind
PAGE, PAGES = 100, 20  # submissions a page, and pages looked at
SERVICE = "competitions.CompetitionApiService"
SITE = "https://www.kaggle.com/competitions"
T = TypeVar("T")


@dataclass(frozen=True)
class Submission:
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
class Place:
    """A line of a leaderboard."""

    rank: int
    team: str
    score: str
    date: str


class Kaggle:
    """A logged-in connection. Raises UserError without credentials or with wrong ones, Unavailable without network."""

    def __init__(self) -> None:
        self.credentials = kaggle_credentials.find()
        if self.credentials is None:
            raise UserError(f"there are no Kaggle credentials: {kaggle_credentials.HOW_TO}")
        with _guarded(), self._explained("log in", ""):
            try:
                self._api = _log_in()
            except SystemExit:
                raise UserError(
                    f"Kaggle does not accept the credentials from {self.credentials.source}: "
                    f"{kaggle_credentials.HOW_TO}"
                ) from None
            self._client = self._api.build_kaggle_client()

    def limits(self, slug: str) -> Limits:
        """How many submissions were made today and how many are left."""
        given = self._read("GetSubmissionLimits", slug, "ask for the limits of")
        today, left = int(given.get("numToday") or 0), int(given.get("numAllowedNow") or 0)
        # All zero is what Kaggle answers for somebody who has not made a first submission, not "none left".
        return Limits(today, None if not (today or left or given.get("numTotal")) else left)

    def submissions(self, slug: str, pages: int = PAGES) -> list[Submission]:
        """The team's submissions, newest first. A status this program has never heard of is passed on as it is."""
        found: list[Submission] = []
        token = ""
        for _ in range(pages):
            given = self._read(
                "ListSubmissions", slug, "list the submissions of", page_size=PAGE, page_token=token or None
            )
            found += [_submission(row) for row in given.get("submissions") or []]
            token = given.get("nextPageToken") or ""
            if not token:
                break
        return found

    def leaderboard(self, slug: str, count: int = 20) -> list[Place]:
        """The first `count` teams of the public leaderboard."""
        given = self._read("GetLeaderboard", slug, "read the leaderboard of", page_size=count)
        rows = (given.get("submissions") or [])[:count]
        return [
            Place(
                rank, str(row.get("teamName", "")), str(row.get("score", "")), str(row.get("submissionDate", ""))[:19]
            )
            for rank, row in enumerate(rows, start=1)
        ]

    def submit(self, slug: str, path: Path, message: str, tag: str) -> Submission:
        """Upload a CSV and make a submission of it, once; `tag` is the part of the message no other submission has.

        Only what leaves no trace is repeated. When the answer to the one request that counts is lost, the listing tells
        whether it arrived; Unavailable is raised where it can't be told, and the same tag may then be looked for later.
        """
        assert tag in message
        from requests import RequestException

        token = _repeated(functools.partial(self._upload, slug, path))
        request: dict[str, Any] = {"blob_file_tokens": token, "submission_description": message}
        try:
            answer = self._call("CreateSubmission", slug, "submit to", **request)
        except Unavailable as error:
            if isinstance(error.__cause__, RequestException) and _status(error.__cause__) == 429:
                raise
            found = self._look_for(slug, tag)
            if found:
                return found
            raise Unavailable(
                f"{error}. Whether the submission arrived is not known: it is not in Kaggle's listing yet. "
                "Run the same command again; it looks there before it uploads anything"
            ) from None
        reference = int(answer.get("ref") or 0)
        if reference <= 0:
            raise UserError(_refusal("submit to", slug, str(answer.get("message") or "Kaggle gave no reason")))
        found = self._look_for(slug, tag)
        return found or Submission(reference, path.name, message, "PENDING", None, None, "")

    def download(self, slug: str, path: Path) -> None:
        """Fetch a competition's data as one zip to `path`, going on where an earlier download was cut off."""
        from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

        def fetch() -> None:
            with _guarded(), self._explained("download", slug):
                request = ApiDownloadDataFilesRequest()
                request.competition_name = slug
                response = self._client.competitions.competition_api_client.download_data_files(request)
                # Its own retries would sleep for a minute over a full disk; its resuming is what is wanted.
                self._api.download_file(
                    response,
                    str(path),
                    self._client.http_client(),
                    quiet=not console.is_terminal,
                    resume=True,
                    chunk_size=1 << 16,  # what a broken connection loses at most
                    max_retries=0,
                    timeout=ANSWER_SECONDS,
                )

        _repeated(fetch)

    def _upload(self, slug: str, path: Path) -> str:
        """Put the file into Kaggle's storage; returns the token by which a submission names it."""
        import requests

        start = self._call(
            "StartSubmissionUpload",
            slug,
            "start an upload to",
            file_name=path.name,
            content_length=path.stat().st_size,
            last_modified_epoch_seconds=int(path.stat().st_mtime),
        )
        if not start.get("createUrl") or not start.get("token"):
            raise UserError(_refusal("start an upload to", slug, str(start.get("message") or "Kaggle gave no reason")))
        # Not the client's own upload: it has no time limit, tries for six minutes, and reports failure as success.
        with _guarded(), self._explained("upload to", slug), path.open("rb") as stream:
            answer = requests.put(start["createUrl"], data=stream)
        if answer.status_code not in (200, 201):
            raise Unavailable(
                f"Kaggle's storage refused the upload (HTTP {answer.status_code}); "
                "nothing was submitted, try again later"
            )
        return str(start["token"])

    def _look_for(self, slug: str, tag: str) -> Submission | None:
        """The submission whose message holds `tag`, looked for several times; None where it does not appear."""
        for pause in LOOKS:
            time.sleep(pause)
            with contextlib.suppress(Unavailable):  # the next look may be answered
                for submission in self.submissions(slug, pages=1):
                    if tag in submission.message:
                        return submission
        return None

    def _read(self, name: str, slug: str, what: str, **fields: Any) -> dict[str, Any]:
        return _repeated(functools.partial(self._call, name, slug, what, **fields))

    def _call(self, name: str, slug: str, what: str, **fields: Any) -> dict[str, Any]:
        """One request of the competition service, its answer as plain data."""
        from kagglesdk.competitions.types import competition_api_service as types

        request = getattr(types, f"Api{name}Request")()
        request.competition_name = slug
        for field, value in fields.items():
            if value is not None:
                setattr(request, field, value)
        with _guarded(), self._explained(what, slug):
            # With the client's own answer types a status it does not know would be a traceback.
            answer: dict[str, Any] = self._client.http_client().call(SERVICE, name, request, _Plain)
        return answer

    @contextlib.contextmanager
    def _explained(self, what: str, slug: str) -> Iterator[None]:
        """Every failure of a request as one sentence."""
        import requests
        import urllib3

        assert self.credentials is not None
        try:
            yield
        except requests.HTTPError as error:
            raise _from_status(error, what, slug, self.credentials.source) from error
        except requests.Timeout as error:
            raise Unavailable(f"Kaggle did not answer in time while trying to {what} {slug}".rstrip()) from error
        except requests.JSONDecodeError as error:
            raise Unavailable("Kaggle's answer is not JSON; is there a login page in front of the network?") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            through = " through the proxy" if isinstance(error, requests.exceptions.ProxyError) else ""
            raise Unavailable(
                f"the connection to Kaggle{through} failed while trying to {what} {slug}".rstrip()
            ) from error
        except ValueError as error:  # what the client raises for a download of the wrong size
            raise Unavailable(f"the download of {slug} was cut off") from error


class _Plain:
    """An answer type whose objects are the answer's own JSON."""

    @classmethod
    def prepare_from(cls, response: Any) -> Any:
        return response.json()


def _log_in() -> Any:
    # VERBOSE makes the client print every header, the authorization among them, and is read when it is imported.
    loud = {key: os.environ.pop(key) for key in ("VERBOSE", "VERBOSE_OUTPUT") if key in os.environ}
    try:
        from kaggle.api.kaggle_api_extended import KaggleApi
    except ImportError as error:
        raise UserError(f"the kaggle package cannot be imported ({error}): pip install kaggle six") from None
    finally:
        os.environ.update(loud)
    api = KaggleApi()
    api.authenticate()
    return api


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """What is printed is dropped, and every request gets a time limit, which `requests` and the client leave out."""
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    @functools.wraps(send)
    def limited(self: HTTPAdapter, request: Any, **options: Any) -> Any:
        options["timeout"] = options.get("timeout") or (CONNECT_SECONDS, ANSWER_SECONDS)
        return send(self, request, **options)

    HTTPAdapter.send = limited  # type: ignore[method-assign,assignment]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]


def _repeated(read: Callable[[], T]) -> T:
    """Do what leaves no trace until Kaggle is there, some times; 429 is not asked again, it names its own wait."""
    for pause in PAUSES:
        try:
            return read()
        except Unavailable as error:
            if _status(error.__cause__) == 429:
                raise
            time.sleep(pause)
    return read()


def _status(error: BaseException | None) -> int | None:
    """The HTTP status of an error, also where it stands inside a reply of status 200."""
    response = getattr(error, "response", None)
    if response is None:
        return None
    inside = _body(response).get("code")
    return inside if isinstance(inside, int) and inside >= 400 else int(response.status_code)


def _body(response: Any) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _from_status(error: Any, what: str, slug: str, source: str) -> UserError:
    status, said = _status(error), _clean(str(_body(error.response).get("message") or ""))
    if status == 401:
        return UserError(f"Kaggle refused the credentials from {source}: {kaggle_credentials.HOW_TO}")
    if status == 429:
        wait = _clean(error.response.headers.get("Retry-After", ""))
        when = f"in {wait} seconds" if wait.isdigit() else f"after {wait}" if wait else "in some minutes"
        return Unavailable(f"Kaggle says that there were too many requests; try again {when}")
    if status is None or status >= 500:
        return Unavailable(f"Kaggle has trouble of its own (HTTP {status}); try again later")
    if status == 404:
        return UserError(
            f"Kaggle has no competition called '{slug}', or it is not open to you; the name is the end of {SITE}/NAME"
        )
    return UserError(_refusal(what, slug, said or f"HTTP {status}"))


REASONS = (
    (r"\brules?\b", "you have not accepted the competition's rules: open {site}/{slug}/rules, accept them, try again"),
    (r"deadline|has ended|is over|closed|no longer accept", "the deadline of {slug} has passed"),
    (
        r"daily|per day|submission limit|limit reached|maximum number|too many submissions",
        "the team has no submissions left today in {slug}; the count starts anew at midnight UTC",
    ),
)


def _refusal(what: str, slug: str, said: str) -> str:
    said = _clean(said).rstrip(".")
    reason = next((text for pattern, text in REASONS if re.search(pattern, said, re.IGNORECASE)), None)
    if reason:
        return f"{reason.format(site=SITE, slug=slug)} (Kaggle: {said})"
    return f"Kaggle refused to {what} {slug}: {said}".replace("  ", " ")


def _clean(text: str) -> str:
    """A text from outside on one line, without secrets and without addresses, which may be signed."""
    for secret in kaggle_credentials.secrets():
        text = text.replace(secret, "***")
    text = re.sub(r"\w+://\S+", "(address)", text)
    return " ".join(text.split())[:300]


def _submission(row: dict[str, Any]) -> Submission:
    return Submission(
        reference=int(row.get("ref") or 0),
        file=str(row.get("fileName") or ""),
        message=str(row.get("description") or ""),
        status=str(row.get("status") or "PENDING").upper(),
        public=_score(row.get("publicScore")),
        private=_score(row.get("privateScore")),
        date=str(row.get("date") or "")[:19],
        fault=_clean(str(row.get("errorDescription") or "")),
    )


def _score(text: Any) -> float | None:
    """Scores come as text, empty while there is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
