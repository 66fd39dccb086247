"""A study kept in a storage that outlives its workers: which candidate is next, whose trial is stale, what is done.

A worker says on every trial who it is and, every BEAT seconds, that it is alive. A trial whose worker died is noticed
by the next one that looks, at once on the same machine (a dead process holds no lock) and after SILENCE elsewhere, and
is put back: a new trial of the same candidate, with the same values and the same seed.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from featherweight.errors import UserError
from featherweight.randomness import derive
from featherweight.schema import Choice
from featherweight.scoring import LOWER_IS_BETTER
from featherweight.search.space import Plan

BEAT = 15.0  # seconds
SILENCE = 300.0  # seconds without a beat after which a worker elsewhere is taken for dead; clocks may differ a little
BUSY = 60  # seconds to wait for a database file that another worker writes to

optuna.logging.set_verbosity(optuna.logging.ERROR)


class PerCandidate(BaseSampler):
    """A sampler made anew for each candidate, with a seed of its own.

    So workers that share a space's seed do not draw the same, and a search that was stopped goes on as it would have.
    """

    def __init__(self, make: Choice, seed: int) -> None:
        self.make, self.seed = make, seed
        self.sampler: BaseSampler = make(seed)
        self.study: Study | None = None  # all of it: Hyperband hands over a part

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
    """The number of what a trial tries: a trial that was put back has another number, and is the same candidate."""
    if "candidate" in trial.user_attrs:
        return int(trial.user_attrs["candidate"])
    before = study.get_trials(deepcopy=False)[: trial.number]
    return sum("again" not in other.user_attrs and not _died_early(other) for other in before)


def _died_early(trial: FrozenTrial) -> bool:
    """Was its worker killed while the trial was being drawn? Then it is nobody's candidate."""
    return trial.state == TrialState.FAIL and "candidate" not in trial.user_attrs


def open_study(name: str, where: str | None, folder: Path, plan: Plan, competition: Competition) -> Study:
    """The study of that name, made if there is none. Raises UserError for a storage that cannot be used, and for a
    study of another space, recipe or competition.
    """
    said = {"base": plan.recipe({}), "space": plan.space, "competition": competition}
    told = {key: section.model_dump(mode="json") for key, section in said.items()}
    asked = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    direction = StudyDirection.MINIMIZE if competition.metric.name in LOWER_IS_BETTER else StudyDirection.MAXIMIZE
    folder.mkdir(parents=True, exist_ok=True)
    sampler = PerCandidate(plan.space.sampler, plan.space.seed)
    with FileLock(folder / "study.lock"):
        try:
            study = optuna.create_study(
                storage=_storage(where, folder),
                study_name=name,
                direction=direction,
                sampler=sampler,
                pruner=plan.space.pruner(plan.epochs),
                load_if_exists=True,
            )
            sampler.study = study
            if "asked" not in study.user_attrs:
                study.set_user_attr("asked", asked)
        except (SQLAlchemyError, ImportError, OSError, ValueError, RuntimeError) as error:
            why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(f"--storage {where or folder}: this storage cannot be used: {why}") from None
    if study.user_attrs["asked"] != asked:
        raise UserError(
            f"the study {name} was begun with another space, base recipe or competition, with which its trials cannot "
            f"be compared; take another --name, or delete {folder}"
        )
    return study


def _storage(where: str | None, folder: Path) -> BaseStorage:
    """By its address: a database's, redis://, or the path of a journal file; by default a file of the study's own."""
    where = where or f"sqlite:///{folder / 'study.db'}"
    if where.startswith("redis://"):
        return JournalStorage(JournalRedisBackend(where))
    if "://" in where and not where.startswith("journal://"):
        options = {"connect_args": {"timeout": BUSY}} if where.startswith("sqlite") else {}
        return RDBStorage(where, engine_kwargs=options)
    path = Path(where.removeprefix("journal://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def counted(study: Study) -> list[FrozenTrial]:
    """The trials that were trained, to the end or until they were given up; what the gate refused is not among them."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [trial for trial in trials if "refused" not in trial.user_attrs]


class Worker:
    """One process at work on a study. Workers of one workspace, or of one database file, take turns at claiming."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        self.name = f"{os.getpid()}-{time.time_ns()}"
        self.host = socket.gethostname()
        self.turn = FileLock(folder / "study.lock")
        self.life = FileLock(self._life(self.name))

    def __enter__(self) -> Worker:
        self.life.acquire()
        return self

    def __exit__(self, *fault: object) -> None:
        self.life.release()
        self._life(self.name).unlink(missing_ok=True)

    def claim(self, most: int | None, draw: Callable[[Trial], Mapping[str, Any]]) -> Trial | None:
        """The next trial, its values drawn; None when `most` are trained or being trained."""
        with self.turn:
            self._put_back_what_is_stale()
            running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if most is not None and len(counted(self.study)) + len(running) >= most:
                return None
            trial = self.study.ask()
            trial.set_user_attr("candidate", candidate(self.study, trial))
            trial.set_user_attr("worker", [self.host, self.name])
            trial.set_user_attr("alive", time.time())
            draw(trial)
            return trial

    @contextmanager
    def alive(self, trial: Trial) -> Iterator[None]:
        """Say on the trial, now and then, that somebody is at work on it."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                trial.set_user_attr("alive", time.time())

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def put_back(self, trial: FrozenTrial | Trial) -> None:
        """End a trial without an outcome, and queue its candidate again, with what was seen of it."""
        with self.turn:
            frozen = self.study.get_trials(deepcopy=False)[trial.number]
            if frozen.state == TrialState.RUNNING:
                self._put_back(frozen)

    def _put_back(self, trial: FrozenTrial) -> None:
        self.study.tell(trial.number, state=TrialState.FAIL)
        self.study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={"candidate": trial.user_attrs["candidate"], "again": trial.number},
                intermediate_values=trial.intermediate_values,
            )
        )

    def _put_back_what_is_stale(self) -> None:
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "alive" not in trial.user_attrs:  # killed while it was drawn, or, elsewhere, being drawn at this moment
                if time.time() - (trial.datetime_start.timestamp() if trial.datetime_start else 0) > BEAT:
                    self.study.tell(trial.number, state=TrialState.FAIL)
            elif self._is_stale(trial):
                self._put_back(trial)

    def _is_stale(self, trial: FrozenTrial) -> bool:
        host, worker = trial.user_attrs["worker"]
        life = self._life(worker)
        if host != self.host or not life.exists():
            return bool(time.time() - trial.user_attrs["alive"] > SILENCE)
        if worker == self.name:
            return False
        try:
            with FileLock(life, timeout=0):
                life.unlink()
                return True
        except Timeout:
            return False

    def _life(self, worker: str) -> Path:
        """The file that a living worker holds locked."""
        return self.folder / f"worker-{worker}.lock"
