"""What can go wrong between here and Kaggle, each as one sentence without secrets."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from featherweight.errors import Unavailable, UserError
from featherweight.kaggle import credentials as kaggle_credentials

SITE = "https://www.kaggle.com/competitions"


@contextlib.contextmanager
def explained(what: str, slug: str, source: str) -> Iterator[None]:
    """Turn every failure of a request inside, made to do `what` with the competition `slug`, into one sentence."""
    import requests
    import urllib3

    try:
        yield
    except requests.HTTPError as error:
        raise _from_status(error, what, slug, source) from error
    except requests.Timeout as error:
        raise Unavailable(f"Kaggle did not answer in time while trying to {what} {slug}".rstrip()) from error
    except requests.JSONDecodeError as error:
        raise Unavailable("Kaggle's answer is not JSON; is there a login page in front of the network?") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        through = " through the proxy" if isinstance(error, requests.exceptions.ProxyError) else ""
        raise Unavailable(f"the connection to Kaggle{through} failed while trying to {what} {slug}".rstrip()) from error


def status(error: BaseException | None) -> int | None:
    """Return the HTTP status of an error, also if it is inside a response with status 200."""
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
    code, message = status(error), clean(str(_body(error.response).get("message") or ""))
    if code == 401:
        return UserError(f"Kaggle refused the credentials from {source}: {kaggle_credentials.HOW_TO}")
    if code == 429:
        wait = clean(error.response.headers.get("Retry-After", ""))
        when = f"in {wait} seconds" if wait.isdigit() else f"after {wait}" if wait else "in some minutes"
        return Unavailable(f"Kaggle says that there were too many requests; try again {when}")
    if code is None or code >= 500:
        return Unavailable(f"Kaggle has trouble of its own (HTTP {code}); try again later")
    if code == 404:
        return UserError(
            f"Kaggle has no competition called '{slug}', or it is not open to you; the name is the end of {SITE}/NAME"
        )
    return UserError(refusal(what, slug, message or f"HTTP {code}"))


REASONS = (
    (r"\brules?\b", "you have not accepted the competition's rules: open {site}/{slug}/rules, accept them, try again"),
    (r"deadline|has ended|is over|closed|no longer accept", "the deadline of {slug} has passed"),
    (
        r"daily|per day|submission limit|limit reached|maximum number|too many submissions",
        "the team has no submissions left today in {slug}; the count starts anew at midnight UTC",
    ),
)


def refusal(what: str, slug: str, message: str) -> str:
    """Return what Kaggle refused and, if its words are known, what to do."""
    message = clean(message).rstrip(".")
    reason = next((text for pattern, text in REASONS if re.search(pattern, message, re.IGNORECASE)), None)
    if reason:
        return f"{reason.format(site=SITE, slug=slug)} (Kaggle: {message})"
    return f"Kaggle refused to {what} {slug}: {message}".replace("  ", " ")


def clean(text: str) -> str:
    """Return external text on one line, without secrets and without addresses, which may be signed."""
    for secret in kaggle_credentials.secrets():
        text = text.replace(secret, "***")
    text = re.sub(r"\w+://\S+", "(address)", text)
    return " ".join(text.split())[:300]
