"""The one adapter over the official `kaggle` package: nothing else imports it, and it is imported only when it is used.

The package (2.2.4) logs in when it is imported, prints to stdout, sets no time limits, ends the program when it can't
log in, and reports a failed upload as success. Here stdout is caught, every request has a time limit, and every failure
is one sentence: `UserError` for what the user can repair, `Unavailable` for what time or Kaggle must. No text that
leaves this module holds a token, a key or a signed address. Reads and the transfer of a file are tried again
(`PAUSES`); the request that makes a submission of the file never is: `look_for` asks the listing whether it has
arrived.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from featherweight.console import is_live
from featherweight.errors import Unavailable, UserError
from featherweight.kaggle import credentials as kaggle_credentials
from featherweight.kaggle.errors import explained, refusal, status
from featherweight.kaggle.responses import (
    UNEXPECTED,
    KaggleSubmission,
    LeaderboardRow,
    Limits,
    number,
    rows,
    submission,
)

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0  # for each request: to reach the server, and between two bytes of answer
PAUSES = (1.0, 3.0)  # seconds before a request is tried again after a dropped connection, a time-out or a server error
LISTING_PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before each look for a new submission in the listing, which lags behind
PAGE, PAGES = 100, 20  # submissions a page, and pages looked at
SERVICE = "competitions.CompetitionApiService"
T = TypeVar("T")


class Kaggle:
    """A logged-in connection. Raises UserError for missing or wrong credentials, Unavailable without a network."""

    def __init__(self) -> None:
        credentials = kaggle_credentials.find()
        if credentials is None:
            raise UserError(f"there are no Kaggle credentials: {kaggle_credentials.HOW_TO}")
        self._source = credentials.source
        with guarded(), explained("log in", "", self._source):
            try:
                self._api = _log_in()
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                # It asks whether the token is a file, and no file has a name of more than 255 bytes.
                raise UserError(
                    "the kaggle package takes no token this long from KAGGLE_API_TOKEN: "
                    "save it as ~/.kaggle/access_token"
                ) from None
            except SystemExit:
                raise UserError(
                    f"Kaggle does not accept the credentials from {self._source}: {kaggle_credentials.HOW_TO}"
                ) from None
            self._client = self._api.build_kaggle_client()

    def limits(self, slug: str) -> Limits:
        """Return how many submissions were made today and how many are left."""
        answer = self._read("GetSubmissionLimits", slug, "ask for the limits of")
        today, left = number(answer.get("numToday")) or 0, number(answer.get("numAllowedNow")) or 0
        # All zero is what Kaggle answers for somebody who has not made a first submission, not "none left".
        return Limits(today, None if not (today or left or answer.get("numTotal")) else left)

    def submissions(self, slug: str, pages: int = PAGES) -> list[KaggleSubmission]:
        """Return the team's submissions, newest first; an unknown status is passed on unchanged."""
        listed: list[KaggleSubmission] = []
        token = ""
        for _ in range(pages):
            answer = self._read(
                "ListSubmissions", slug, "list the submissions of", page_size=PAGE, page_token=token or None
            )
            listed += [submission(row) for row in rows(answer)]
            token = str(answer.get("nextPageToken") or "")
            if not token:
                break
        return listed

    def leaderboard(self, slug: str, count: int = 20) -> list[LeaderboardRow]:
        """Return the first `count` teams of the public leaderboard."""
        answer = self._read("GetLeaderboard", slug, "read the leaderboard of", page_size=count)
        return [
            LeaderboardRow(
                rank, str(row.get("teamName", "")), str(row.get("score", "")), str(row.get("submissionDate", ""))[:19]
            )
            for rank, row in enumerate(rows(answer)[:count], start=1)
        ]

    def submit(self, slug: str, path: Path, message: str, tag: str) -> KaggleSubmission:
        """Upload a CSV and submit it once; `tag` is a part of the message that no other submission has.

        Only requests without side effects are repeated. If the response to the submission is lost, the list of
        submissions tells whether it arrived; otherwise Unavailable is raised, and the same tag may be looked for later.
        """
        assert tag in message
        from requests import RequestException

        create = self._creating(slug, path, message)
        try:
            answer = create()
            reference = number(answer.get("ref") or 0)
            if reference is None:
                raise Unavailable(UNEXPECTED)
        except Unavailable as error:
            if isinstance(error.__cause__, RequestException) and status(error.__cause__) == 429:
                raise
            arrived = self.look_for(slug, tag)
            if arrived:
                return arrived
            raise Unavailable(
                f"{error}. Whether the submission arrived is not known: it is not in Kaggle's listing yet. "
                "Run the same command again; it looks there before it uploads anything"
            ) from None
        if reference <= 0:
            raise UserError(refusal("submit to", slug, str(answer.get("message") or "Kaggle gave no reason")))
        arrived = self.look_for(slug, tag)
        return arrived or KaggleSubmission(reference, path.name, message, "PENDING", None, None, "")

    def download(self, slug: str, path: Path) -> None:
        """Download a competition's data as one zip to `path`, continuing an earlier download."""
        from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest

        def fetch() -> None:
            with guarded(), explained("download", slug, self._source):
                request = ApiDownloadDataFilesRequest()
                request.competition_name = slug
                response = self._client.competitions.competition_api_client.download_data_files(request)
                # Its own retries would sleep for a minute over a full disk; its resuming is what is wanted.
                options = {"chunk_size": 1 << 16, "max_retries": 0, "timeout": ANSWER_SECONDS}
                quiet, client = not is_live(), self._client.http_client()
                try:
                    self._api.download_file(response, str(path), client, quiet=quiet, resume=True, **options)
                except ValueError as error:  # what it raises for the wrong size
                    raise Unavailable(f"the download of {slug} was cut off") from error

        repeated(fetch)

    def _creating(self, slug: str, path: Path, message: str) -> Callable[[], dict[str, Any]]:
        token = repeated(functools.partial(self._upload, slug, path))
        fields = {"blob_file_tokens": token, "submission_description": message}
        return functools.partial(self._call, "CreateSubmission", slug, "submit to", **fields)

    def _upload(self, slug: str, path: Path) -> str:
        """Upload the file; returns the token by which a submission names it."""
        start = self._call(
            "StartSubmissionUpload",
            slug,
            "start an upload to",
            file_name=path.name,
            content_length=path.stat().st_size,
            last_modified_epoch_seconds=int(path.stat().st_mtime),
        )
        return self._put(path, start, slug, "nothing was submitted")

    def _put(self, path: Path, start: Mapping[str, Any], reference: str, unchanged: str) -> str:
        """Upload a file to the address in Kaggle's answer `start`; returns the token in it. Errors say what is
        `unchanged`.
        """
        import requests

        if not start.get("createUrl") or not start.get("token"):
            message = str(start.get("message") or "Kaggle gave no reason")
            raise UserError(refusal("start an upload to", reference, message))
        # Not the client's own upload: it has no time limit, tries for six minutes, and reports failure as success.
        with guarded(), explained("upload to", reference, self._source), path.open("rb") as stream:
            answer = requests.put(start["createUrl"], data=stream)
        if answer.status_code not in (200, 201):
            raise Unavailable(
                f"Kaggle's storage refused {path.name} (HTTP {answer.status_code}); {unchanged}, try again later"
            )
        return str(start["token"])

    def look_for(self, slug: str, tag: str) -> KaggleSubmission | None:
        """Return the submission whose message contains `tag`, asking several times; None if it does not appear."""
        for pause in LISTING_PAUSES:
            time.sleep(pause)
            with contextlib.suppress(Unavailable):  # the next look may be answered
                for submission in self.submissions(slug, pages=1):
                    if tag in submission.message:
                        return submission
        return None

    def _read(self, name: str, slug: str, what: str, **fields: Any) -> dict[str, Any]:
        return repeated(functools.partial(self._call, name, slug, what, **fields))

    def _call(self, name: str, slug: str, what: str, **fields: Any) -> dict[str, Any]:
        """Make one request of the competition service and return its response as plain data."""
        from kagglesdk.competitions.types import competition_api_service as types

        request = getattr(types, f"Api{name}Request")()
        request.competition_name = slug
        for field, value in fields.items():
            if value is not None:
                setattr(request, field, value)
        with guarded(), explained(what, slug, self._source):
            # With the client's own answer types a status it does not know would be a traceback.
            answer = self._client.http_client().call(SERVICE, name, request, Plain)
        if not isinstance(answer, dict):
            raise Unavailable(UNEXPECTED)
        return answer


class Plain:
    """A response type whose objects are the response's own JSON."""

    @classmethod
    def prepare_from(cls, response: Any) -> Any:  # noqa: D102
        return response.json()


def _log_in() -> Any:
    # VERBOSE makes the client print every header, the authorization among them, and is read when it is imported.
    loud = {key: os.environ.pop(key) for key in ("VERBOSE", "VERBOSE_OUTPUT") if key in os.environ}
    try:
        from kaggle.api.kaggle_api_extended import KaggleApi
    except ImportError as error:
        raise UserError(f"the kaggle package cannot be imported ({error}): ./run.sh install kaggle six") from None
    finally:
        os.environ.update(loud)
    api = KaggleApi()
    api.authenticate()
    return api


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Discard what the client prints, and give every request a timeout, which the client does not set."""
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


def repeated(request: Callable[[], T]) -> T:
    """Repeat a request without side effects until Kaggle answers; a 429 is not repeated, as it states its own wait."""
    for pause in PAUSES:
        try:
            return request()
        except Unavailable as error:
            if status(error.__cause__) == 429:
                raise
            time.sleep(pause)
    return request()
