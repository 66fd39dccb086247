"""The client's other services: data sets, notebooks, and submissions by the version of a notebook."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from featherweight import atomic
from featherweight.errors import Unavailable, UserError
from featherweight.kaggle.client import SERVICE, Kaggle, Plain, guarded, repeated
from featherweight.kaggle.errors import explained, status
from featherweight.kaggle.responses import UNEXPECTED

READS = ("GetDatasetStatus", "GetKernelSessionStatus", "ListKernelSessionOutput", "StartBlobUpload")  # leave no trace


class CodeKaggle(Kaggle):
    """A connection that also sends data sets and notebooks; `submit` submits the notebook it was created with."""

    def __init__(self, notebook: str = "", version: int = 0) -> None:
        super().__init__()
        self.notebook, self.version = notebook, version

    @property
    def user(self) -> str:
        """The user's name on Kaggle. Raises UserError if the credentials do not contain it."""
        name = str(self._api.config_values.get("username") or "")
        if not name:
            raise UserError("Kaggle's client does not say whose credentials these are: export KAGGLE_USERNAME=NAME too")
        return name

    def ask(self, service: str, name: str, fields: Mapping[str, Any], what: str, reference: str) -> dict[str, Any]:
        """Make a request and return its response as plain data. Raises UserError and Unavailable as others do."""
        one = functools.partial(self._ask, service, name, fields, what, reference)
        return repeated(one) if name in READS else one()

    def _ask(self, service: str, name: str, fields: Mapping[str, Any], what: str, reference: str) -> dict[str, Any]:
        try:
            with guarded(), explained(what, reference, self._source):
                answer = self._client.http_client().call(service, name, _Fields(fields), Plain)
        except UserError as error:
            if status(error.__cause__) == 404:
                raise UserError(f"Kaggle does not know {reference}, or it is not yours ({what})") from error.__cause__
            raise
        if not isinstance(answer, dict):
            raise Unavailable(UNEXPECTED)
        return answer

    def is_there(self, service: str, name: str, fields: Mapping[str, Any], reference: str) -> dict[str, Any] | None:
        """Return the response, or None for 403 and 404, which Kaggle does not distinguish."""
        try:
            return self.ask(service, name, fields, "look for", reference)
        except UserError as error:
            if status(error.__cause__) in (403, 404):
                return None
            raise

    def upload_blob(self, service: str, path: Path, reference: str) -> str:
        """Upload a file of a data set; returns the token by which the data set names it."""
        about = {
            "type": "DATASET",
            "name": path.name,
            "contentLength": path.stat().st_size,
            "lastModifiedEpochSeconds": int(path.stat().st_mtime),
        }

        def upload() -> str:
            start = self.ask(service, "StartBlobUpload", about, "start an upload to", reference)
            return self._put(path, start, reference, f"{reference} is as it was")

        return repeated(upload)

    def download_output(self, reference: str, address: str, path: Path) -> None:
        """Download a file that a notebook wrote, complete or not at all."""
        import requests

        def fetch() -> None:
            with guarded(), explained("download the output of", reference, self._source):
                answer = requests.get(address)
                answer.raise_for_status()
            atomic.write_bytes(path, answer.content)

        repeated(fetch)

    def _creating(self, slug: str, path: Path, message: str) -> Callable[[], dict[str, Any]]:
        owner, notebook = self.notebook.split("/")
        fields = {
            "competitionName": slug,
            "kernelOwner": owner,
            "kernelSlug": notebook,
            "kernelVersion": self.version,
            "fileName": "submission.csv",
            "submissionDescription": message,
        }
        return functools.partial(self.ask, SERVICE, "CreateCodeSubmission", fields, "submit to", slug)


class _Fields:
    """A request in the terms of Kaggle's JSON, sent as the client sends its own."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = dict(fields)

    @classmethod
    def to_dict(cls, request: _Fields) -> dict[str, Any]:
        return request.fields
