"""Which credentials the `kaggle` package will use, found without importing it (a second, and a log-in), never shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOW_TO = (
    "make a token at https://www.kaggle.com/settings/api and export KAGGLE_API_TOKEN=..., "
    "or save it as ~/.kaggle/access_token"
)


@dataclass(frozen=True)
class Credentials:
    """The source of the credentials, never the credentials; `warning` says what is wrong with the file, if anything."""

    source: str
    warning: str = ""


def find() -> Credentials | None:
    """Return the credentials that the client will send, the first in its own order; None if there are none."""
    return next((Credentials(source, warning) for source, _, warning in _candidates()), None)


def secrets() -> list[str]:
    """Return every text that must never be shown, whichever is in use, longest first."""
    known = {secret for _, secret, _ in _candidates()} | {os.environ.get("KAGGLE_KEY", "")}
    oauth = _json(Path.home() / ".kaggle" / "credentials.json")
    known |= {str(oauth.get(key) or "") for key in ("access_token", "refresh_token")}
    return sorted((secret for secret in known if len(secret) >= 4), key=len, reverse=True)


def _candidates() -> Iterator[tuple[str, str, str]]:
    """Yield (source, secret, warning) for all credentials: a token precedes a name and key, which precede a browser
    log-in.

    A wrong token before a right key is still the one that is sent.
    """
    home = Path.home() / ".kaggle"
    token = os.environ.get("KAGGLE_API_TOKEN", "")
    files = [home / "access_token", home / "access_token.txt"]
    if {"KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_DATA_PROXY_URL", "KAGGLE_API_V1_TOKEN"} <= os.environ.keys():
        yield from _from_file(Path(os.environ["KAGGLE_API_V1_TOKEN"]))
    if token and not _exists(token):
        yield "KAGGLE_API_TOKEN", token, ""
    elif token:
        files = [Path(token)]  # the client looks no further, even if that file is empty
    for file in files:
        yield from _from_file(file)

    file = _config_folder() / "kaggle.json"
    stored = _json(file)
    user = os.environ.get("KAGGLE_USERNAME") or stored.get("username")
    key = os.environ.get("KAGGLE_KEY") or stored.get("key")
    if user and key:
        from_environment = bool(os.environ.get("KAGGLE_KEY"))
        yield (
            "KAGGLE_USERNAME and KAGGLE_KEY" if from_environment else str(file),
            str(key),
            "" if from_environment else _warning(file),
        )
    oauth = _json(home / "credentials.json")
    if oauth.get("refresh_token"):
        yield str(home / "credentials.json"), str(oauth["refresh_token"]), _warning(home / "credentials.json")


def _from_file(path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return
    if secret:
        yield str(path), secret, _warning(path)


def _config_folder() -> Path:
    if os.environ.get("KAGGLE_CONFIG_DIR"):
        return Path(os.environ["KAGGLE_CONFIG_DIR"])
    folder = Path.home() / ".kaggle"
    if sys.platform.startswith("linux") and not folder.exists():
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"
    return folder


def _json(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # a token may be longer than a file's name can be
        return False


def _warning(path: Path) -> str:
    if os.name == "posix" and path.stat().st_mode & 0o044:
        return f"{path} can be read by other users of this machine: chmod 600 {path}"
    return ""
