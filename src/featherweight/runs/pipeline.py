"""The main job, in the order of the flow: weigh, load, split, fit, predict, write, check, score, record.

Everything a run is lies in its folder, `runs/<name>/`, and every stage that is done is found done: that is all there is
to resuming. A run of several processes is the same in each of them up to its predictions, which they make together;
what is written, the first one writes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from filelock import FileLock, Timeout

from featherweight import atomic, budget, submission
from featherweight.console import say
from featherweight.data import pack
from featherweight.data.csv_file import examples
from featherweight.data.pack import Data, Pack
from featherweight.data.parts import divide
from featherweight.data.split import scarce
from featherweight.errors import Diverged, Lost, UserError
from featherweight.evaluation.calibration import fit_temperature
from featherweight.evaluation.metrics import Score
from featherweight.models import Classifier, build
from featherweight.runs.predictions import augmentations, calibrated, probabilities
from featherweight.runs.run_folder import Result, Run, minutes, record, result_of
from featherweight.runs.teachers import teachers, with_pseudo_labels
from featherweight.runtime import device as devices
from featherweight.runtime import launcher, processes
from featherweight.runtime.device import Runtime
from featherweight.runtime.processes import Processes
from featherweight.runtime.rng import derive
from featherweight.submission import grading
from featherweight.training import checkpoint
from featherweight.training.distillation import NOBODY
from featherweight.training.trainer import fit


def run(run: Run) -> Result:
    """Do what of a run is not yet done, from the weigh-in to the ledger; a run already finished is told again.

    The processes of a run of several are started here, unless torchrun has done so. Raises `Lost` when one is killed.
    """
    if "members" in run.facts:
        raise UserError(f"{run.name} is an ensemble, made at once; there is nothing to go on with")
    several = run.facts.get("processes", 1)
    try:
        if several > 1 and not launcher.inside():
            launcher.launch(several, ["resume", str(run.folder), "--worker"])
            return result_of(run)
        if several != launcher.count():
            raise UserError(f"{run.name} is a run of {several} processes; torchrun has started {launcher.count()}")
        everyone = processes.join()
        with ExitStack() as until_done:
            everyone.once(lambda: _claim(run, until_done))
            result = _undone_if_refused(run, everyone)
        processes.leave()
        return result
    except Lost as error:
        raise Lost(f"{error}; go on with: ./run.sh resume {run.name}") from error


def _claim(run: Run, until_done: ExitStack) -> None:
    """Keep others off the run, and clear away what a killed process was writing."""
    try:
        until_done.enter_context(FileLock(run.folder / "run.lock", timeout=0))
    except Timeout:
        raise UserError(f"the run {run.name} is being worked on by another process") from None
    for cut_off in run.folder.glob(".*.part"):
        cut_off.unlink()


def _undone_if_refused(run: Run, everyone: Processes) -> Result:
    """Do the run; of one that is refused before it has trained no folder is left, so that its name is free."""
    try:
        return _run(run, everyone)
    except (Lost, Diverged):
        raise
    except UserError:
        if everyone.first and not any(file.exists() for file in (run.weights, run.folder / "checkpoint.pt")):
            shutil.rmtree(run.folder)
        raise


def _run(run: Run, everyone: Processes) -> Result:
    recipe, competition = run.recipe, run.competition
    facts = run.facts
    device = everyone.each(lambda: devices.start(facts["device"], recipe.train.precision, facts["threads"], everyone))
    weighed = budget.weigh(recipe, competition, run.recipe_name)
    weighed.refuse_if_over()
    say(f"{run.name}: {weighed.counted:,} of {weighed.limit:,} parameters, {weighed.macs / 1e6:,.1f} M multiply-adds")

    data = everyone.each(lambda: pack.load(competition.source, competition.image, competition.classes))
    train, holdout, kept = everyone.each(lambda: split(run, data))
    to_predict = len(data.test) if data.test else 0
    aside = f"{len(kept):,} kept for the end, " if kept else ""
    say(f"  {len(train):,} images to train on, {len(holdout):,} held out, {aside}{to_predict:,} to predict")
    for thin in _thin(run, data.train, holdout):
        say(f"  {thin}")

    shown = everyone.each(lambda: with_pseudo_labels(run, train, holdout, data.test))
    model = train_model(run, shown, holdout, device)
    budget.weigh_model(model, competition, run.recipe_name).refuse_if_over()
    for part, images in (("holdout", holdout), ("kept", kept), ("test", data.test)):
        if images is not None:
            probabilities(run, part, model, images, device)
    return everyone.once(lambda: _conclude(run, weighed, model, data, holdout, kept, device))


def _conclude(
    run: Run,
    weighed: budget.WeighIn,
    model: Classifier,
    data: Data,
    holdout: Pack,
    kept: Pack | None,
    device: Runtime,
) -> Result:
    """From the probabilities, which are all there, to the ledger."""
    if run.recipe.predict.calibrate and not run.temperature.exists():
        assert holdout.labels is not None
        fitted = fit_temperature(probabilities(run, "holdout", model, holdout, device), holdout.labels)
        atomic.write_text(run.temperature, f"{fitted}\n")
    held = _scored(run, "holdout", model, holdout, device)
    ended = _scored(run, "kept", model, kept, device) if kept else None

    tested = _submit(run, model, data, device) or ended
    result = Result(weighed.counted, weighed.limit, held, tested, minutes(run))
    record(run, result, weighed.macs)
    return result


def _scored(run: Run, part: str, model: Classifier, images: Pack, device: Runtime) -> Score:
    """A labelled part goes the way of the test set: predicted, written, checked and scored as a CSV of its own."""
    competition, path = run.competition, run.folder / f"{part}.csv"
    form = submission.holdout_form(competition, images.ids)
    submission.write(path, form, images.ids, calibrated(run, probabilities(run, part, model, images, device)))
    assert images.labels is not None
    truth = dict(zip(images.ids, (competition.classes[label] for label in images.labels), strict=True))
    return submission.score(path, form, truth, competition)


def _thin(run: Run, train: Pack, holdout: Pack) -> list[str]:
    """In words, what there is too little of to be scored well."""
    assert holdout.labels is not None
    there, names = set(holdout.labels.tolist()), run.competition.classes
    gone = [name for place, name in enumerate(names) if place not in there]
    told = [f"not in the holdout, so not scored: {examples(gone)}"] if gone else []
    if run.recipe.split.folds is not None:
        assert train.labels is not None
        short = scarce([names[label] for label in train.labels], run.recipe.split.folds)
        told += [f"{short}: some folds lack them"] if short else []
    return told


def split(run: Run, data: Data) -> tuple[Pack, Pack, Pack | None]:
    """The parts of `divide`, stored as ids. Raises UserError if they are not those of the run's start."""
    train, holdout, kept = divide(run.recipe.split, run.competition, data)
    told = {"train": train.ids, "holdout": holdout.ids, **({"test": kept.ids} if kept else {})}
    text = json.dumps(told) + "\n"
    stored = run.folder / "split.json"
    if not stored.exists():
        atomic.write_text(stored, text)
    elif stored.read_text() != text:
        raise UserError(f"the images are not those that {run.name} was started with ({stored}); start a new run")
    return train, holdout, kept


def train_model(
    run: Run,
    train: Pack,
    holdout: Pack,
    device: Runtime,
    watching: Callable[[Mapping[str, Any]], None] = lambda row: None,
) -> Classifier:
    """The run's model, trained; one that is trained is found so. See `fit` for who is `watching`."""
    competition, recipe = run.competition, run.recipe
    known = NOBODY if run.weights.exists() else teachers(run, train, holdout, device)
    torch.manual_seed(derive(recipe.seed, "init"))
    model = build(recipe.model, len(competition.classes), competition.image.channels, competition.image.size)
    if not run.weights.exists():
        augment = augmentations(recipe, competition)
        fit(
            recipe,
            model,
            train,
            holdout,
            len(competition.classes),
            augment,
            device,
            run.folder,
            known,
            competition.metric,
            watching,
        )
        device.processes.once(lambda: checkpoint.save_weights(run.weights, model))
        if device.processes.first:
            (run.folder / "checkpoint.pt").unlink(missing_ok=True)
    checkpoint.load_weights(run.weights, model)
    return model


def _submit(run: Run, model: Classifier, data: Data, device: Runtime) -> Score | None:
    """Write and check the submission; score it where the answers are known."""
    if data.test is None:
        return None
    form = submission.form(run.competition, data.test.ids)
    submission.write(
        run.csv, form, data.test.ids, calibrated(run, probabilities(run, "test", model, data.test, device))
    )
    submission.check(run.csv, form)
    known, _ = grading.answers(run.competition, form)
    return submission.score(run.csv, form, known, run.competition) if known else None
