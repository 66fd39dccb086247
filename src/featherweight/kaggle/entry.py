"""What is submitted to Kaggle: a run's CSV, any other CSV, or a notebook's version, once it is counted and checked."""

from __future__ import annotations

import hashlib
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherweight.console import say
from featherweight.errors import UserError, count_of
from featherweight.kaggle.client import Kaggle
from featherweight.kaggle.download import kaggle_name
from featherweight.runs import ledger, stored_probs

if TYPE_CHECKING:  # torch, without which scores and downloads come sooner
    from featherweight.config import Competition
    from featherweight.runs.run import Run


@dataclass(frozen=True)
class Entry:
    """What is to be uploaded, and the run it comes from, if the ledger knows one."""

    csv: Path
    sha256: str
    competition_name: str
    slug: str
    run: dict[str, Any]
    kernel: str = ""  # the notebook, owner/name, whose version is entered, where no CSV is uploaded
    version: int = 0

    @property
    def name(self) -> str:
        """The name used in messages."""
        return str(self.run.get("run") or self.kernel or self.csv.name)

    @property
    def identity(self) -> str:
        """What must not be submitted twice."""
        return f"version {self.version} of {self.kernel} was" if self.kernel else "these very bytes were"

    def by_hand(self, message: str) -> str:
        """The equivalent command of Kaggle's client."""
        what = ["-k", self.kernel, "-v", str(self.version)] if self.kernel else []
        return shlex.join(["kaggle", "competitions", "submit", self.slug, "-f", str(self.csv), *what, "-m", message])

    def connect(self) -> Kaggle:
        """Return the connection that submits this entry."""
        if not self.kernel:
            return Kaggle()
        from featherweight.kaggle.code_client import CodeKaggle

        return CodeKaggle(self.kernel, self.version)

    @property
    def message(self) -> str:
        """The default message: the run with its score, or the file's name."""
        run = self.run
        if not run:
            return self.csv.name
        commit = f", commit {run['commit']}" if run["commit"] else ""
        score = f"{run['holdout']:.4f} [{run['holdout_low']:.4f}, {run['holdout_high']:.4f}]"
        return f"{run['run']}: holdout {score}{commit}"


def find(what: str, competition: str | None) -> Entry:
    """Find what is meant, check the size of the model that made it, and check its CSV."""
    from featherweight.runs.run import Run
    from featherweight.submission import grading

    if what.endswith(".csv") or Path(what).is_file():
        csv = Path(what)
        if not csv.is_file():
            raise UserError(f"there is no file {csv}")
        run = ledger.maker(csv)
        if not run and competition is None:
            raise UserError(f"{csv} is of no run in the ledger: name its competition with --competition")
        name = competition or str(run["competition"])
        origin = Run.find(run["run"]) if run and Run.exists(run["run"]) else None
    else:
        origin = Run.find(what)
        csv, name = origin.csv(), origin.competition_name
        if not csv.is_file():
            if origin.is_finished and not stored_probs.path(origin, "predict").exists():
                raise UserError(f"{what} has no submission: {name} has no images to predict")
            there = "its CSV is not here" if origin.is_finished else "it has none yet"
            raise UserError(f"{what} has no submission, {there}: ./run.sh resume {what}")
        rows = ledger.read()
        mine = ledger.records(rows[(rows["run"] == origin.name) & (rows["csv_sha256"] == ledger.sha256(csv))])
        if not mine and not ledger.has(origin.name, origin.metadata.started):
            raise UserError(f"{what} is not in the ledger (a copied folder?): ./run.sh resume {what} adds it")
        if not mine:
            as_it_is = shlex.join(["./run.sh", "submit", str(csv), "--competition", name])
            raise UserError(
                f"{csv} is not what {what} wrote: it was changed later, for example by hand. To submit it as it is: "
                f"{as_it_is}\nTo have the run's own again: delete the file, then ./run.sh resume {what}"
            )
        run = mine[-1]
    if origin is not None:
        origin.weigh()
    declared = _competition(name, origin)
    if declared.kernel is not None:
        raise UserError(
            f"{name} takes a notebook, not a CSV: ./run.sh kernel {what} --push, then ./run.sh submit {what} --kernel"
        )
    count = grading.check_csv(csv, declared)
    slug = kaggle_name(name, declared)
    say(f"{csv}: {count_of(count, 'row')}, checked")
    return Entry(csv, ledger.sha256(csv), name, slug, run)


def of_notebook(what: str) -> Entry:
    """Return the notebook last sent for a run or recipe; its version stands for the CSV's bytes."""
    from featherweight.kaggle.notebook.push import pushed
    from featherweight.runs.run import Run

    sent = pushed(what)
    origin = Run.find(sent["run"]) if sent["run"] else None
    if origin is not None:
        origin.weigh()
    name, rows = sent["competition"], ledger.read()
    mine = ledger.records(rows[rows["run"] == sent["run"]]) if sent["run"] else []
    identity = hashlib.sha256(f"{sent['kernel']}@{sent['version']}".encode()).hexdigest()
    slug = kaggle_name(name, _competition(name, origin))
    run = mine[-1] if mine else {}
    return Entry(Path("submission.csv"), identity, name, slug, run, sent["kernel"], sent["version"])


def _competition(name: str, run: Run | None) -> Competition:
    """Return the competition from its file, which may have gained a Kaggle name since; else as the run stored it."""
    from featherweight.config import load_competition

    with suppress(UserError):
        return load_competition(name)
    return load_competition(name) if run is None else run.competition  # which raises what was suppressed
