"""The main job, in the order of the flow: weigh, load, split, fit, predict, write, check, score, record.

Everything about a run is in its folder, `runs/<name>/`, and every stage that is done is skipped: resuming needs nothing
else. A run of several processes is the same in each of them up to its predictions, which they make together; only the
first one writes files.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from featherweight import atomic, budget
from featherweight.console import say
from featherweight.data.csv_file import examples
from featherweight.data.pack import LabelledPack, Pack
from featherweight.data.split import scarce
from featherweight.errors import DivergedError, ProcessLostError, UserError, count_of
from featherweight.evaluation.unlabelled import DomainFeatures
from featherweight.models import Classifier, build, start_pretrained
from featherweight.models.custom import CustomModel
from featherweight.models.custom_state import refuse_unsaved, warn_of_probabilities
from featherweight.models.pretrained_weights import starts_pretrained, weights_path
from featherweight.runs import division, fitted, ledger
from featherweight.runs.division import RegroupedImages
from featherweight.runs.evaluate import conclude, names_of, record
from featherweight.runs.metadata import DELETE_TO_CONTINUE, read_json
from featherweight.runs.predictions import augmentations, learned, probabilities, seen_as
from featherweight.runs.result import Result
from featherweight.runs.run import Run
from featherweight.runs.teachers import teachers, with_pseudo_labels
from featherweight.runtime import device as devices
from featherweight.runtime import launcher, processes
from featherweight.runtime.device import Runtime
from featherweight.runtime.processes import Processes
from featherweight.runtime.rng import derive, seed_code
from featherweight.training import checkpoint
from featherweight.training.deadline import Deadline
from featherweight.training.distillation import NO_TEACHERS
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

LOOKED_AT_SECONDS = 1.0  # that a lock is waited for: `runs` takes it for an instant, to see whether a run is going on


def execute(run: Run, deadline: Deadline | None = None) -> Result:
    """Do all stages of a run that are not yet done, from the count of parameters to the ledger, and return the result.
    A `deadline` may shorten the training of a run of one process.

    The processes of a run of several are started here, unless torchrun has started them. Raises `ProcessLostError` if
    one is killed.
    """
    if run.is_ensemble:  # made in one step; after a kill, or in a copied folder, only its row may be missing
        if ledger.has(run.name, run.metadata.started):
            raise UserError(f"{run.name} is an ensemble, which is made in one step; there is nothing to continue")
        record(run)
        return run.result
    several = run.metadata.processes
    try:
        if several > 1 and not launcher.inside():
            launcher.launch(several, ["resume", str(run.folder), "--worker", *(["--new"] if run.is_new else [])])
            return run.result
        if several != launcher.count():
            raise UserError(f"{run.name} is a run of {several} processes; torchrun has started {launcher.count()}")
        everyone = processes.join()
        with ExitStack() as until_done:
            everyone.once(lambda: _claim(run, until_done))
            result = _undone_if_refused(run, everyone, deadline)
        processes.leave()
        return result
    except ProcessLostError as error:
        raise ProcessLostError(f"{error}; continue with: ./run.sh resume {run.name}") from error


def _claim(run: Run, until_done: ExitStack) -> None:
    """Lock the run against other processes, and delete what a killed process was writing."""
    try:
        until_done.enter_context(FileLock(run.folder / "run.lock", timeout=LOOKED_AT_SECONDS))
    except Timeout:
        raise UserError(f"another process is working on the run {run.name}") from None
    for cut_off in run.folder.glob(".*.part"):
        cut_off.unlink()


def _undone_if_refused(run: Run, everyone: Processes, deadline: Deadline | None) -> Result:
    """Do the run. If this command has made its folder and the run is refused before it trains, delete the folder, so
    that its name is free; a run that is resumed is never deleted.
    """
    try:
        return _run(run, everyone, deadline)
    except (ProcessLostError, DivergedError):
        raise
    except UserError:
        if run.is_new and everyone.first and not (run.has_begun or run.is_finished):
            shutil.rmtree(run.folder)
        raise


def _run(run: Run, everyone: Processes, deadline: Deadline | None) -> Result:
    recipe, competition = run.recipe, run.competition
    metadata = run.metadata
    device = everyone.each(lambda: devices.make_runtime(run.device, recipe.train.precision, metadata.threads, everyone))
    weighed = budget.weigh(recipe, competition, run.recipe_name)
    weighed.refuse_if_over()
    say(f"{run.name}: {weighed.counted:,} of {weighed.limit:,} parameters, {weighed.macs / 1e6:,.1f} M multiply-adds")

    if starts_pretrained(recipe.model) and not run.has_begun:
        everyone.each(lambda: weights_path(recipe.model))  # downloaded, or refused, before anything takes long
    data = everyone.each(lambda: competition.load())
    fresh = not run.is_divided
    train, holdout, test = everyone.each(lambda: division.split(run, data))
    to_predict = len(data.predict) if data.predict else 0
    at_the_end = f"{len(test):,} to test at the end, " if test else ""
    trained = count_of(len(train), "image")
    say(f"  {trained} to train on, {len(holdout):,} held out, {at_the_end}{to_predict:,} to predict")
    for thin in _thin(run, data.train, holdout):
        say(f"  {thin}")
    related = None
    if everyone.first and not run.is_finished:
        if fresh and (moved := RegroupedImages.read(run)) is not None:
            say(f"  {moved}")
        faults, related = division.faults(run, data, (train, holdout, test))
        for fault in faults:
            say(f"  {fault}")

    shown = everyone.each(lambda: with_pseudo_labels(run, train, holdout, data.predict))
    model = train_model(run, shown, holdout, device, deadline=deadline)
    budget.weigh_model(model, competition, run.recipe_name).refuse_if_over()
    labelled = {"holdout": holdout} if test is None else {"holdout": holdout, "test": test}
    for part, images in {**labelled, "predict": data.predict}.items():
        if images is not None:
            probabilities(run, part, model, images, device)
    effect = RegroupedImages.read(run)
    if effect is not None and not run.is_finished and shown.labels.ndim == 1:
        effect = replace(effect, learned=learned(run, model, train, device))
        everyone.once(lambda: effect.store(run))
    features = None
    if data.predict is not None and not run.is_finished:
        features = seen_as(competition, model, holdout, data.predict, device)
    leaked = related if related is not None and related.mean() >= division.WARNED_SHARE else None
    result = everyone.once(lambda: _conclude(run, weighed, labelled, data.predict, features, leaked))
    if leaked is not None:
        say(f"  {division.without_related(run, holdout, leaked)}")
    return result


def _conclude(
    run: Run,
    weighed: budget.BudgetCheck,
    labelled: Mapping[str, LabelledPack],
    predict: Pack | None,
    features: DomainFeatures | None,
    leaked: NDArray[np.bool_] | None,
) -> Result:
    """Do the stages from the stored probabilities to the ledger."""
    if run.recipe.predict.calibrate and not run.temperature.exists():
        fitted.fit_temperature(run, labelled["holdout"].labels)
    answers = {part: (images.ids, images.labels) for part, images in labelled.items()}
    result = conclude(run, weighed, answers, None if predict is None else predict.ids, features, leaked=leaked)
    try:
        record(run)
    except UserError as error:
        raise UserError(f"{error}\n{run.name} itself is finished: ./run.sh resume {run.name} adds its row") from None
    return result


def note_pretrained(run: Run) -> None:
    """Store which weights file the run starts from. Raises UserError if that has changed since the first start."""
    path, source = weights_path(run.recipe.model)
    with path.open("rb") as file:
        facts = {"source": source, "file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    note = run.folder / "pretrained.json"
    if note.exists() and read_json(note, DELETE_TO_CONTINUE).get("sha256") != facts["sha256"]:
        raise UserError(f"{path} has changed since {run.name} was started from it; start a new run")
    atomic.write_text(note, json.dumps(facts, indent=2) + "\n")


def _thin(run: Run, train: LabelledPack, holdout: LabelledPack) -> list[str]:
    """Return in words which classes have too few images to be scored well."""
    names = run.competition.classes
    several = holdout.labels.ndim == 2
    there = set((np.flatnonzero(holdout.labels.any(0)) if several else holdout.labels).tolist())
    gone = [name for index, name in enumerate(names) if index not in there]
    words = [f"not in the holdout, so not scored: {examples(gone)}"] if gone else []
    if run.recipe.split.folds is not None:
        each = [
            name for label in names_of(train.labels, names) for name in ([label] if isinstance(label, str) else label)
        ]
        short = scarce(each, run.recipe.split.folds)
        words += [f"{short}: some folds lack them"] if short else []
    return words


def train_model(
    run: Run,
    train: LabelledPack,
    holdout: LabelledPack,
    device: Runtime,
    on_epoch: Callable[[Mapping[str, Any]], None] = lambda row: None,
    deadline: Deadline | None = None,
) -> Classifier:
    """Return the run's trained model; one that is trained already is loaded. See `Trainer.fit` for `on_epoch` and for
    how a `deadline` shortens the training, which is stored in the run's recipe.
    """
    competition, recipe = run.competition, run.recipe
    learned_from = NO_TEACHERS if run.weights.exists() else teachers(run, train, holdout, device)
    seed_code(derive(recipe.seed, "init"))
    model = build(recipe.model, competition.shape)
    if isinstance(recipe.model, CustomModel) and not run.has_begun:
        for look in (refuse_unsaved, warn_of_probabilities):
            look(lambda: build(recipe.model, competition.shape).net, competition.shape, recipe.model.name)
    if starts_pretrained(recipe.model) and not run.has_begun:
        say(f"  {device.processes.each(lambda: start_pretrained(model, recipe.model, competition.shape))}")
        device.processes.once(lambda: note_pretrained(run))
    if not run.weights.exists():
        examples = Examples(train, holdout, len(competition.classes), augmentations(recipe, competition), learned_from)
        trainer = Trainer(recipe, model, examples, device, run.folder, competition.metric)
        if deadline:
            trainer.fit(on_epoch, replace(deadline, noted=run.note_shortened))
        else:
            name = shlex.quote(run.competition_name)
            trainer.fit(on_epoch, shorter=f"./run.sh auto --competition {name} --minutes 60")
        device.processes.once(lambda: checkpoint.save_weights(run.weights, model))
    if device.processes.first:  # here too after a kill between the two
        (run.folder / "checkpoint.pt").unlink(missing_ok=True)
    checkpoint.load_weights(run.weights, model)
    return model
