"""A study in a storage that all its workers share: which candidate is next, which trial was abandoned, what is done.

A worker writes its name on each of its trials and, every BEAT seconds, that it is alive. When a worker dies, the next
worker that reads the study notices it: at once if it ran on the same machine, since a dead process holds no lock,
otherwise after SILENCE seconds. The trial is then queued again as a new trial of the same candidate, with the same
values and the same seed.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalRedisBackend
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from featherweight.config import Competition
from featherweight.console import say
from featherweight.errors import UserError
from featherweight.evaluation.metrics import metric_of
from featherweight.runtime.rng import derive
from featherweight.schema import Choice
from featherweight.search.space import SearchSpace

BEAT = 15.0  # seconds
SILENCE = 300.0  # seconds without a beat after which a worker on another machine counts as dead; clocks may differ
MOST_LOST = 3  # workers that may die on one candidate before it is abandoned
BUSY = 60  # seconds to wait while another worker writes to the database file


class PerCandidate(BaseSampler):
    """A sampler that is created anew for each candidate, with a seed of its own.

    So workers with the same seed do not draw the same values, and a search that is stopped and continued draws the same
    values as one that is not.
    """

    def __init__(self, make: Choice, seed: int) -> None:
        self.make, self.seed = make, seed
        self.sampler: BaseSampler = make(seed)
        self.study: Study | None = None  # the whole study: Hyperband passes a part of it

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:  # noqa: D102
        number = candidate(self.study or study, trial)
        self.sampler = self.make(derive(self.seed, "candidate", number) % 2**32)
        self.sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: D102
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(  # noqa: D102
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(  # noqa: D102
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(  # noqa: D102
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.sampler.after_trial(study, trial, state, values)


def candidate(study: Study, trial: FrozenTrial | Trial) -> int:
    """Return the number of a trial's candidate: a trial that was queued again has a new number, but
    the same candidate.
    """
    if "candidate" in trial.user_attrs:
        return int(trial.user_attrs["candidate"])
    before = study.get_trials(deepcopy=False)[: trial.number]
    return sum("again" not in other.user_attrs and not _died_early(other) for other in before)


def _died_early(trial: FrozenTrial) -> bool:
    """True if its worker died while drawing the values, so that the trial has no candidate."""
    return trial.state == TrialState.FAIL and "candidate" not in trial.user_attrs


def open_study(name: str, where: str | None, folder: Path, space: SearchSpace, competition: Competition) -> Study:
    """Return the study of that name, created if necessary.

    Raises UserError if the storage cannot be used, or if the study has another space, base recipe or competition.
    """
    sections = {"base": space.recipe({}), "space": space.file, "image": competition.image}
    asks = {key: section.model_dump(mode="json") for key, section in sections.items()}
    asks["competition"] = competition.task()
    asks["competition"]["image"]["mirror"] = competition.image.mirror  # images seen otherwise: other candidates
    fingerprint = hashlib.sha256(json.dumps(asks, sort_keys=True).encode()).hexdigest()[:16]
    direction = StudyDirection.MINIMIZE if metric_of(competition.metric).lower_is_better else StudyDirection.MAXIMIZE
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # only once a study is opened, not on import
    folder.mkdir(parents=True, exist_ok=True)
    sampler = PerCandidate(space.file.sampler, space.file.seed)
    try:
        with FileLock(f"{_beside(where, folder)}.turn.lock"):
            study = optuna.create_study(
                storage=_storage(where, folder),
                study_name=name,
                direction=direction,
                sampler=sampler,
                pruner=space.file.pruner(space.epochs),
                load_if_exists=True,
            )
            sampler.study = study
            if "asked" not in study.user_attrs:
                study.set_user_attr("asked", fingerprint)
    except (SQLAlchemyError, ImportError, OSError, ValueError, RuntimeError) as error:
        why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"--storage {where or folder}: the storage cannot be used: {why}") from None
    if study.user_attrs["asked"] != fingerprint:
        raise UserError(
            f"the study {name} was started with another space, base recipe or competition, so its trials cannot be "
            f"compared with new ones; choose another --name, or delete {folder}"
        )
    return study


def file_of(where: str | None, folder: Path) -> Path | None:
    """Return the file that the study is stored in; None if it is on a server."""
    if where is None:
        return folder / "study.db"
    for prefix in ("sqlite:///", "journal://"):
        if where.startswith(prefix):
            return Path(where.removeprefix(prefix))
    return None if "://" in where else Path(where)


def _beside(where: str | None, folder: Path) -> Path:
    """Return the beginning of the names of the lock files of a study's workers."""
    return file_of(where, folder) or folder / "study"


def _storage(where: str | None, folder: Path) -> BaseStorage:
    """Return the storage at an address (a database, redis://, or the path of a journal file), by default a file in
    `folder`.
    """
    file = file_of(where, folder)
    if where is None or where.startswith("sqlite"):
        return RDBStorage(where or f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": BUSY}})
    if file is not None:
        return JournalStorage(JournalFileBackend(str(file)))
    return JournalStorage(JournalRedisBackend(where)) if where.startswith("redis://") else RDBStorage(where)


def counted(study: Study) -> list[FrozenTrial]:
    """Return the trials that were trained to the end or stopped early, without those that the limit check refused."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [trial for trial in trials if "refused" not in trial.user_attrs]


class Worker:
    """One process that works on a study. Workers that share a file take turns in claiming trials."""

    def __init__(self, study: Study, where: str | None, folder: Path) -> None:
        self.study, self.file = study, file_of(where, folder)
        self.beside = _beside(where, folder)
        self.name = f"{os.getpid()}-{time.time_ns()}"
        self.host = socket.gethostname()
        self.turn = FileLock(f"{self.beside}.turn.lock")  # optuna locks a journal with .lock
        self.life = FileLock(self._life(self.name))

    def __enter__(self) -> Worker:
        with self.turn:
            self.life.acquire()
        return self

    def __exit__(self, *fault: object) -> None:
        self.life.release()
        self._life(self.name).unlink(missing_ok=True)

    def claim(self, most: int | None, draw: Callable[[Trial], Mapping[str, Any]]) -> Trial | None:
        """Return the next trial, with drawn values; None if `most` trials are trained or running."""
        with self.turn:
            self._put_back_what_is_stale()
            running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if most is not None and len(counted(self.study)) + len(running) >= most:
                return None
            trial = self.study.ask()
            draw(trial)
            trial.set_user_attr("worker", [self.host, self.name])
            trial.set_user_attr("alive", time.time())
            trial.set_user_attr(
                "candidate", candidate(self.study, trial)
            )  # must be the last: it marks a complete candidate
            return trial

    @contextmanager
    def alive(self, trial: Trial) -> Iterator[None]:
        """Regularly write on the trial that its worker is alive."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                with suppress(Exception):  # a lost connection and the end of the trial are harmless
                    trial.set_user_attr("alive", time.time())

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def put_back(self, trial: FrozenTrial | Trial) -> None:
        """End a trial without a result, and queue its candidate again with the scores so far."""
        with self.turn:
            frozen = self.study.get_trials(deepcopy=False)[trial.number]
            if frozen.state == TrialState.RUNNING:
                self._put_back(frozen)

    def _put_back(self, trial: FrozenTrial, lost: int = 0) -> None:
        self.study.tell(trial.number, state=TrialState.FAIL)
        self.study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={"candidate": trial.user_attrs["candidate"], "again": trial.number, "lost": lost},
                intermediate_values=trial.intermediate_values,
            )
        )

    def _put_back_what_is_stale(self) -> None:
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "alive" not in trial.user_attrs or "candidate" not in trial.user_attrs:
                # Its worker died while drawing; with a file this is certain, since this worker now has its turn.
                began = trial.datetime_start.timestamp() if trial.datetime_start else 0
                if self.file is None and time.time() - began < SILENCE:
                    continue
                if "candidate" in trial.user_attrs:  # queued again before
                    self._put_back(trial)
                else:
                    self.study.tell(trial.number, state=TrialState.FAIL)
            elif self._is_stale(trial):
                lost = int(trial.user_attrs.get("lost", 0)) + 1
                if lost < MOST_LOST:
                    self._put_back(trial, lost)
                else:
                    self.study.tell(trial.number, state=TrialState.PRUNED)
                    words = f"candidate {trial.user_attrs['candidate']}: {lost} workers were killed while training it"
                    say(f"  {words}, perhaps for lack of memory: it is not tried again")

    def _is_stale(self, trial: FrozenTrial) -> bool:
        host, worker = trial.user_attrs["worker"]
        life = self._life(worker)
        if worker == self.name:
            return False
        if host != self.host or (self.file is None and not life.exists()):
            return bool(time.time() - trial.user_attrs["alive"] > SILENCE)
        try:
            with FileLock(life, timeout=0):
                life.unlink()
                return True
        except Timeout:
            return False

    def _life(self, worker: str) -> Path:
        """Return the file that a living worker keeps locked."""
        return Path(f"{self.beside}.{worker}.lock")
