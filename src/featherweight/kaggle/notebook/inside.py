"""Code that runs inside a notebook: write the CSV with a bundled run, or with a recipe trained there."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featherweight import paths, submission
from featherweight.config import Competition, Recipe, load_competition, load_recipe
from featherweight.console import Progress, duration, say
from featherweight.errors import count_of
from featherweight.kaggle.notebook.epochs import epochs_within
from featherweight.models.custom_source import stored_sources
from featherweight.runs import bundle, fitted, pipeline
from featherweight.runs.pictures import to_predict
from featherweight.runs.predictor import Predictor, Shown
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run

TRIED = 64  # pictures that the forecast is made from
SPARE = 0.9  # of the time that there is, for what a forecast does not know


def write_submission(plan: Mapping[str, Any], data: Path, started: float) -> Path:
    """Write the CSV for the competition's images and return its path. `data` is the data set's folder; `started` is the
    value of `time.monotonic` when the notebook began.
    """
    deadline = started + 60 * SPARE * plan["minutes"]
    if plan["run"]:
        with tempfile.TemporaryDirectory() as folder:
            bundled = Path(folder) / "run.zip"
            shutil.copy(data / plan["run"], bundled)
            return _by_run(bundle.load(bundled), load_competition(str(data / "competition.yaml")), deadline)
    return _by_recipe(plan, data, deadline)


def _by_run(run: Run, competition: Competition, deadline: float) -> Path:
    images, ids = to_predict(competition, run)
    some = list(itertools.islice(images, TRIED))
    predictor = Predictor(run, device="auto")
    if not _fits(predictor, some, len(ids), deadline):
        say("with the test-time views it would not be done in time: predicting without them")
        predictor = Predictor(run, "predict.views=[]", "auto")
        _fits(predictor, some, len(ids), deadline)
    parts = []
    with Progress("predict", len(ids), "images") as bar:
        for predicted in predictor.stream(itertools.chain(some, images)):
            parts.append(predicted.probs)
            bar.advance(len(predicted.probs))
    csv = paths.submissions() / f"{run.name}.csv"
    form, probs = submission.form(competition, ids), np.concatenate(parts)
    submission.write(csv, form, ids, probs, fitted.decision(run)(probs))
    submission.check_upload(csv, form)
    return csv


def _fits(predictor: Predictor, some: Sequence[Shown], count: int, deadline: float) -> bool:
    """Report the forecast for `count` images, timed on `some` of them; True if it ends before the deadline."""
    list(predictor.stream(some))  # the first call is slower
    began = time.monotonic()
    list(predictor.stream(some))
    forecast = (time.monotonic() - began) / len(some) * count
    left = deadline - time.monotonic()
    say(f"{count_of(count, 'image')}, about {duration(forecast)}; there are {duration(left)}")
    return forecast <= left


def _by_recipe(plan: Mapping[str, Any], data: Path, deadline: float) -> Path:
    competition, recipe = load_competition(str(data / "competition.yaml")), _recipe(plan, data)
    seen = competition.seen_by(recipe)
    epochs = epochs_within(recipe, seen, seen.load(), lambda: deadline - time.monotonic()) if recipe.train.epochs else 0
    if epochs < recipe.train.epochs:
        recipe = _recipe(plan, data, [f"train.epochs={epochs}"])
    command = ["./run.sh", plan["recipe"], "--competition", plan["competition_name"]]
    task = RunRequest(plan["recipe"], recipe, plan["competition_name"], competition, command)
    run = task.start(None)
    result = pipeline.execute(run)
    say(f"holdout {competition.metric.name} {result.holdout}")
    return run.csv()


def _recipe(plan: Mapping[str, Any], data: Path, changes: Sequence[str] = ()) -> Recipe:
    """Return the bundled recipe; a custom network is loaded from its bundled source."""
    with tempfile.TemporaryDirectory() as folder, stored_sources(Path(folder)):
        if plan["sources"]:
            zipfile.ZipFile(data / plan["sources"]).extractall(Path(folder) / "source")
        return load_recipe(str(data / "recipe.yaml"), changes)
