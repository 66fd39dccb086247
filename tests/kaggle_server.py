"""A simulated Kaggle on 127.0.0.1 for the real client package, which can fail in every way that we know of."""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

SIGNATURE = "X-Goog-Signature=5ec2e75169"  # a signed URL is as secret as a password
TOKEN = "KGAT_5ec2e7_t0ken"


def archive(files: dict[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for name, content in (
            files or {"train/a/1.png": bytes(range(256)) * 2400, "sample.csv": b"id,label\n"}
        ).items():
            target.writestr(name, content)
    return buffer.getvalue()


@dataclass
class Fault:
    """What happens to one request instead of its answer: a status and body, a delay, or a closed connection."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: str = ""  # close the connection "before" or "after" the request has its effect
    seconds: float = 0
    cut: int | None = None  # send only this many bytes of the answer


class FakeKaggle(ThreadingHTTPServer):
    """Store submissions, uploads and data; `faults[name]` lists the faults of the next requests of that name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults: dict[str, list[Fault | None]] = {}
        self.asked: list[str] = []
        self.submissions: list[dict[str, Any]] = []
        self.uploads: dict[str, bytes] = {}
        self.data = archive()
        self.left, self.made = 5, 1
        self.authorizations: list[str | None] = []
        self.ranges: list[str | None] = []
        self.hidden = False  # if True, submissions are accepted but not yet listed
        self.datasets: dict[str, dict[str, Any]] = {}  # by owner/name: the request that created it, and its versions
        self.kernels: dict[str, dict[str, Any]] = {}  # by owner/name: the saved notebook, and its versions
        self.outcomes = ["COMPLETE"]  # the status at each query of a notebook; the last one is repeated
        self.output, self.page = ["submission.csv"], 1  # names of the output files, and how many are on the first page
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that direct the client to this server, and all other traffic nowhere."""
        address = f"http://127.0.0.1:{self.server_port}"
        return {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "HTTP_PROXY": address, "HTTPS_PROXY": "http://127.0.0.1:9"}

    def handle_error(self, request: Any, address: Any) -> None:
        """Ignore errors: clients that close the connection are part of the tests."""

    def answer(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        if name == "IntrospectToken":
            return {"active": asked["token"] == TOKEN, "username": "somebody"}
        if name == "GetSubmissionLimits":
            return {"numToday": self.made, "numTotal": self.made, "numAllowedNow": self.left}
        if name == "StartSubmissionUpload":
            token = f"blob{len(self.uploads)}"
            self.uploads[token] = b""
            return {"token": token, "createUrl": f"http://localhost/upload/{token}?{SIGNATURE}"}
        if name == "CreateSubmission":
            reference = 1000 + len(self.submissions)
            self.submissions.insert(
                0,
                {
                    "ref": reference,
                    "fileName": "submission.csv",
                    "date": "2026-11-22T12:00:00.000Z",
                    "description": asked.get("submissionDescription", ""),
                    "status": "PENDING",
                    "content": asked["blobFileTokens"],
                },
            )
            return {"message": "Successfully submitted", "ref": reference}
        if name == "ListSubmissions":
            return {"submissions": [] if self.hidden else self.submissions}
        if name == "GetLeaderboard":
            rows = [("Ada", "0.99"), ("Grace", "0.98"), ("Barbara", "0.97")]
            dated = "2026-11-20T10:00:00.000Z"
            return {
                "submissions": [
                    {"teamId": i, "teamName": n, "score": s, "submissionDate": dated} for i, (n, s) in enumerate(rows)
                ]
            }
        if name == "CreateCodeSubmission":
            made = {"ref": 1000 + len(self.submissions), "fileName": asked["fileName"], "status": "PENDING"}
            told = {"date": "2026-11-22T12:00:00.000Z", "description": asked["submissionDescription"], "asked": asked}
            self.submissions.insert(0, {**made, **told})
            return {"message": "Successfully submitted", "ref": made["ref"]}
        return self.answer_about_code(name, asked)

    def answer_about_code(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        if name == "StartBlobUpload":
            token = f"{asked['name']}#{len(self.uploads)}"
            self.uploads[token] = b""
            return {"token": token, "createUrl": f"http://localhost/upload/{token.replace('#', '%23')}?{SIGNATURE}"}
        if name in ("CreateDataset", "CreateDatasetVersion"):
            body = asked.get("body", asked)
            known = self.datasets.setdefault(f"{asked['ownerSlug']}/{asked.get('slug') or asked['datasetSlug']}", {})
            known["files"] = [file["token"].split("#")[0] for file in body["files"]]
            known["versions"] = known.get("versions", 0) + 1
            return {"status": "ok", "ref": "/somebody/data"}
        if name == "SaveKernel":
            known = self.kernels.setdefault(asked["slug"], {"versions": 0})
            known |= {**asked, "versions": known["versions"] + 1}
            return {"versionNumber": known["versions"], "ref": asked["slug"], "url": "https://www.kaggle.com/code/x"}
        if name == "GetKernelSessionStatus":
            state = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
            return {"status": state, "failureMessage": "out of memory" if state == "ERROR" else ""}
        if name == "ListKernelSessionOutput":
            pages = [self.output[: self.page], self.output[self.page :]]
            told = [{"fileName": file, "url": f"http://localhost/output/{file}?{SIGNATURE}"} for file in pages[0]]
            if asked.get("pageToken"):
                return {"files": [{"fileName": f, "url": f"http://localhost/output/{f}?{SIGNATURE}"} for f in pages[1]]}
            return {"files": told, "nextPageToken": "more" if pages[1] else ""}
        raise AssertionError(name)


class _Handler(BaseHTTPRequestHandler):
    server: FakeKaggle
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body of each answer waits 40 ms for the receipt of its head

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        name = self.path.rsplit("/", 1)[-1]
        self.server.authorizations.append(self.headers.get("Authorization"))
        fault = self._fault(name)
        if fault and self._befalls(fault, lambda: self.server.answer(name, asked)):
            return
        if name == "DownloadDataFiles":
            self._send(302, b"", {"Location": f"http://localhost/files/data.zip?{SIGNATURE}"})
            return
        if name == "GetDatasetStatus":
            known = f"{asked['ownerSlug']}/{asked['datasetSlug']}" in self.server.datasets
            self._json(200 if known else 403, {"status": "READY"} if known else {"code": 403, "message": "denied"})
            return
        self._json(200, self.server.answer(name, asked))

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self._fault("PUT")
        if fault and self._befalls(fault, lambda: None):
            return
        self.server.uploads[unquote(self.path.split("/")[-1].split("?")[0])] = content
        self._send(200, b"", {})

    def do_GET(self) -> None:
        fault = self._fault("GET")
        if fault and self._befalls(fault, lambda: None):
            return
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        file = unquote(self.path.split("/")[-1].split("?")[0])
        whole = f"what {file} holds\n".encode() if "/output/" in self.path else self.server.data
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        headers = {"Accept-Ranges": "bytes", "ETag": '"v1"', "Last-Modified": formatdate(0, usegmt=True)}
        if asked:
            headers["Content-Range"] = f"bytes {first}-{len(whole) - 1}/{len(whole)}"
        self._send(206 if asked else 200, whole[first:], headers, fault.cut if fault else None)

    def _fault(self, name: str) -> Fault | None:
        self.server.asked.append(name)
        waiting = self.server.faults.get(name, [])
        return waiting.pop(0) if waiting else None

    def _befalls(self, fault: Fault, effect: Any) -> bool:
        """Apply the fault; return False if the normal answer follows."""
        time.sleep(fault.seconds)
        if fault.drop == "after":
            effect()
        if fault.drop:
            self.close_connection = True
            self.connection.shutdown(2)
            return True
        if fault.status != 200 or fault.body is not None:
            if isinstance(fault.body, bytes):
                self._send(fault.status, fault.body, {"Content-Type": "text/html", **fault.headers})
            else:
                self._json(fault.status, fault.body or {}, fault.headers)
            return True
        return False

    def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True
