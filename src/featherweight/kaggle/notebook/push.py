"""Sends a notebook and its data set to Kaggle by the official client, and waits until each is done.

An upload that fails is an error here; the client leaves such a file out of the data set without a word. What is created
is looked for before it is created, so that the same command may be run again after a fault.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featherweight import atomic, paths
from featherweight.console import duration, say
from featherweight.errors import Unavailable, UserError, count_of
from featherweight.kaggle.code_client import CodeKaggle
from featherweight.kaggle.errors import clean
from featherweight.kaggle.notebook.kernel import KernelRequest, write
from featherweight.kaggle.polling import polls
from featherweight.kaggle.responses import number

DATASETS, KERNELS, BLOBS = "datasets.DatasetApiService", "kernels.KernelsApiService", "blobs.BlobApiService"
PAGES = 20  # of a notebook's files, looked at
READY_MINUTES = 30  # for a data set to be unpacked by Kaggle
QUEUE_MINUTES = 60  # for a notebook to be started, beyond its own time
ENDED = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")


def push(request: KernelRequest, *, gpu: bool) -> str:
    """Write the notebook's folder with the user's name in it, send it and wait; returns the outcome in words."""
    kaggle = CodeKaggle()
    folder = write(request, gpu=gpu, owner=kaggle.user)
    reference, seconds = f"{kaggle.user}/{request.slug}", 60 * request.rules.minutes
    _send_data(kaggle, folder / "data", reference)
    version = _send_code(kaggle, folder / "code", reference, seconds)
    pushed = {
        "kernel": reference,
        "version": version,
        "run": request.run.name if request.run else "",
        "competition": request.competition_name,
    }
    atomic.write_text(folder / "pushed.json", json.dumps(pushed) + "\n")
    say(f"{reference} is version {version}: waiting for its end, up to {duration(seconds)} of its own")
    return _outcome(kaggle, request, reference, version)


def output(request: KernelRequest) -> str:
    """Wait for the notebook that was sent last and download what it wrote; returns the outcome in words."""
    sent = pushed(request.run.name if request.run else request.slug)
    return _outcome(CodeKaggle(), request, sent["kernel"], sent["version"])


def _outcome(kaggle: CodeKaggle, request: KernelRequest, reference: str, version: int) -> str:
    """Return in words how a version ended, after downloading its files."""
    what = request.run.name if request.run else request.name
    again = f"./run.sh kernel {what} --competition {request.competition_name} --output"
    state, fault = _ended(
        kaggle, reference, 60 * (request.rules.minutes + QUEUE_MINUTES), f"{again} waits on and fetches what it wrote"
    )
    if state != "COMPLETE":
        _refuse(reference, state, fault)
    files, folder = _output(kaggle, reference), paths.kernels() / request.slug / "output"
    if "submission.csv" not in files:
        raise UserError(f"{reference} has ended, and wrote no submission.csv ({', '.join(files) or 'nothing'})")
    with atomic.replaced_folder(folder) as fresh:
        for name, address in files.items():
            kaggle.download_output(reference, address, fresh / Path(name).name)
    entered = f"./run.sh submit {request.run.name if request.run else request.slug} --kernel"
    outcome = f"{reference} version {version} has ended and wrote submission.csv"
    return f"{outcome}\nfetched {', '.join(files)} into {paths.shown(folder)}\nnext: {entered}"


def _send_data(kaggle: CodeKaggle, folder: Path, reference: str) -> None:
    owner, slug = reference.split("/")
    files = sorted(path for path in folder.iterdir() if path.name != "dataset-metadata.json")
    size = sum(file.stat().st_size for file in files)
    say(f"sending the data set {reference}: {count_of(len(files), 'file')}, {size / 2**20:.1f} MB")
    tokens = [{"token": kaggle.upload_blob(BLOBS, file, reference)} for file in files]
    if _status(kaggle, reference) is None:
        about = {"ownerSlug": owner, "slug": slug, "title": slug, "licenseName": "other", "isPrivate": True}
        name, fields = "CreateDataset", {**about, "files": tokens}
    else:
        body = {"versionNotes": "by featherweight", "files": tokens}
        name, fields = "CreateDatasetVersion", {"ownerSlug": owner, "datasetSlug": slug, "body": body}
    answer = kaggle.ask(DATASETS, name, fields, "create the data set", reference)
    if answer.get("error") or str(answer.get("status", "")).lower() == "error":
        message = clean(str(answer.get("error") or "no reason given"))
        raise UserError(f"Kaggle refused the data set {reference}: {message}")
    for _ in polls(60 * READY_MINUTES):
        state = _status(kaggle, reference) or "NOT_YET_PERSISTED"
        if state == "READY":
            return
        if state in ("FAILED", "DELETED"):
            raise UserError(f"Kaggle could not unpack the data set {reference} ({state.lower()})")
    raise Unavailable(f"the data set {reference} is not ready after {READY_MINUTES} minutes; try again")


def _status(kaggle: CodeKaggle, reference: str) -> str | None:
    """Return Kaggle's state of a data set, or None if there is none of that name."""
    owner, slug = reference.split("/")
    fields = {"ownerSlug": owner, "datasetSlug": slug}
    answer = kaggle.is_there(DATASETS, "GetDatasetStatus", fields, reference)
    return None if answer is None else str(answer.get("status") or "READY").upper()


def _send_code(kaggle: CodeKaggle, folder: Path, reference: str, seconds: int) -> int:
    """Save the notebook, which starts it; returns its version number."""
    metadata = json.loads((folder / "kernel-metadata.json").read_text())
    fields = {
        "slug": reference,
        "newTitle": metadata["title"],
        "text": (folder / metadata["code_file"]).read_text(),
        "language": metadata["language"],
        "kernelType": metadata["kernel_type"],
        "isPrivate": metadata["is_private"],
        "enableGpu": metadata["enable_gpu"],
        "enableTpu": False,
        "enableInternet": metadata["enable_internet"],
        "datasetDataSources": metadata["dataset_sources"],
        "competitionDataSources": metadata["competition_sources"],
        "sessionTimeoutSeconds": seconds,
    }
    answer = kaggle.ask(KERNELS, "SaveKernel", fields, "save the notebook", reference)
    invalid = [*(answer.get("invalidDatasetSources") or []), *(answer.get("invalidCompetitionSources") or [])]
    version = number(answer.get("versionNumber")) or 0
    if answer.get("error") or invalid or version <= 0:
        unknown = f"it does not know {', '.join(invalid)}" if invalid else "it gave no version"
        message = clean(str(answer.get("error") or unknown))
        raise UserError(f"Kaggle refused the notebook {reference}: {message}")
    return version


def _ended(kaggle: CodeKaggle, reference: str, seconds: float, waits: str) -> tuple[str, str]:
    """Return how a notebook ended and Kaggle's message; if Kaggle is busy, ask again."""
    owner, slug = reference.split("/")
    fields = {"userName": owner, "kernelSlug": slug}
    for _ in polls(seconds):
        answer: Mapping[str, Any] = {}
        try:
            answer = kaggle.ask(KERNELS, "GetKernelSessionStatus", fields, "look at", reference)
        except Unavailable as error:
            say(f"  {error}; asking again")
        state = str(answer.get("status") or "QUEUED").upper()
        if state in ENDED:
            return state, clean(str(answer.get("failureMessage") or ""))
    raise Unavailable(f"{reference} has not ended in {duration(seconds)}; {waits}")


def _refuse(reference: str, state: str, fault: str) -> None:
    where = f"its log: https://www.kaggle.com/code/{reference}"
    raise UserError(f"{reference} has failed on Kaggle ({fault or state.lower()}); {where}")


def _output(kaggle: CodeKaggle, reference: str) -> dict[str, str]:
    """Return the files that a notebook wrote, with their addresses."""
    owner, slug = reference.split("/")
    addresses: dict[str, str] = {}
    token = ""
    for _ in range(PAGES):
        fields = {"userName": owner, "kernelSlug": slug, **({"pageToken": token} if token else {})}
        answer = kaggle.ask(KERNELS, "ListKernelSessionOutput", fields, "list the output of", reference)
        files = [file for file in answer.get("files") or [] if isinstance(file, dict)]
        addresses |= {str(file.get("fileName") or ""): str(file.get("url") or "") for file in files}
        token = str(answer.get("nextPageToken") or "")
        if not token:
            break
    return addresses


def pushed(name: str) -> dict[str, Any]:
    """Return what was last sent for a run or recipe: kernel, version, run. Raises UserError if nothing was."""
    files = sorted(paths.kernels().glob("*/pushed.json"), key=lambda file: (file.stat().st_mtime_ns, file))
    notes = [note for file in files if (note := _note(file)) is not None]
    mine = [each for each in notes if name in (each["run"], each["kernel"].partition("/")[2])]
    if not mine:
        raise UserError(f"no notebook of {name} was sent from here: ./run.sh kernel {name} --push")
    return dict(mine[-1])


def _note(path: Path) -> dict[str, Any] | None:
    """Return the record of a notebook that was sent; None for a damaged one, which is reported."""
    try:
        note = json.loads(path.read_text())
        return {**note, "kernel": str(note["kernel"]), "run": str(note["run"]), "version": int(note["version"])}
    except (OSError, ValueError, KeyError, TypeError):
        say(f"{path}: damaged, and ignored; ./run.sh kernel NAME --push writes it again")
        return None
