"""What a run learns from others: a teacher's probabilities, and the classes of test images that a run is sure of."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from featherweight import atomic, paths
from featherweight.config import Pseudo
from featherweight.console import say
from featherweight.data.pack import Pack
from featherweight.errors import UserError
from featherweight.evaluation.calibration import temper
from featherweight.models import Classifier
from featherweight.models.input_sizes import refuse_other_sizes
from featherweight.runs.predictions import calibrated, probabilities
from featherweight.runs.run_folder import Run, find, shipped
from featherweight.runtime.device import Runtime
from featherweight.training.distillation import Teachers, read_saved


def teachers(run: Run, train: Pack, holdout: Pack, device: Runtime) -> Teachers:
    """The models a recipe learns from, and what is saved of others."""
    models: list[Classifier] = []
    saved: list[NDArray[np.float32]] = []
    distill = run.recipe.distill
    for name in distill.teachers if distill else []:
        assert distill is not None
        if name.endswith(".npz"):
            saved.append(read_saved(paths.home() / name, train.ids, run.competition.classes))
            say(f"  taught by {name}, which must not know the images held out; that cannot be seen from here")
            continue
        where = f"distill.teachers: {name}"
        teacher = _elder(run, name, where, holdout)
        if members := teacher.facts.get("members"):
            raise UserError(f"{where} is an ensemble; name its members: {', '.join(members)}")
        if run.recipe.growth is not None and not distill.once:
            if teacher.recipe.train.normalize == "pixel":
                raise UserError(f"{where} subtracts the mean of every pixel, so it cannot be shown what grows (growth)")
            classes, image = len(run.competition.classes), run.competition.image
            refuse_other_sizes(where, run.recipe.growth.scales, teacher.recipe.model, classes, image)
        model = shipped(teacher)
        count = sum(parameter.numel() for parameter in model.parameters())
        say(f"  taught by {name}: {count:,} parameters, which do not ship and do not count")
        if distill.once:
            saved.append(probabilities(run, f"taught-{name}", model, train, device, plain=True))
        else:
            models.append(model)
    if not (distill and saved):
        return Teachers(models)
    mean = np.mean([temper(probs, distill.temperature) for probs in saved], axis=0, dtype=np.float64)
    return Teachers(models, torch.from_numpy(mean.astype(np.float32)), len(saved))


def _elder(run: Run, name: str, where: str, holdout: Pack) -> Run:
    """A run that this one learns from. Raises UserError for one that is not trained, knows other classes, or knows the
    holdout.
    """
    elder = find(name)
    if not elder.weights.exists():
        raise UserError(f"{where} is not trained yet: ./run.sh resume {name}")
    ours, theirs = run.competition, elder.competition
    if (ours.classes, ours.image) != (theirs.classes, theirs.image):
        raise UserError(f"{where} knows other classes, or images of another size, than {run.competition_name} has")
    trained = [elder, *(find(member) for member in elder.facts.get("members", []))]
    known = _trained_on(trained).intersection(holdout.ids)
    if known:
        raise UserError(
            f"{where} was trained on {len(known)} of the {len(holdout)} images held out here, whose score would "
            f"mean nothing; give both the same split section"
        )
    return elder


def _trained_on(runs: Iterable[Run]) -> set[str]:
    """The ids of all training images of these runs."""
    splits = (run.folder / "split.json" for run in runs)
    return {id for split in splits if split.exists() for id in json.loads(split.read_text())["train"]}


def with_pseudo_labels(run: Run, train: Pack, holdout: Pack, test: Pack | None) -> Pack:
    """The training images and, where the recipe asks for them, test images by the classes another run is sure of.

    Which these are is kept in the run's folder when it starts. What the test images truly are is not looked at.
    """
    wanted = run.recipe.pseudo
    if wanted is None or run.weights.exists():
        return train
    if test is None:
        raise UserError(f"pseudo: {run.competition.title} has no test images")
    stored = run.folder / "pseudo.json"
    if not stored.exists():
        given = _sure_of(run, wanted, holdout, test)
        atomic.write_text(stored, json.dumps(given) + "\n")
    given = json.loads(stored.read_text())
    joining = test.take(np.array([place for place, id in enumerate(test.ids) if id in given], dtype=np.int64))
    index = {name: place for place, name in enumerate(run.competition.classes)}
    labels = np.array([index[given[id]] for id in joining.ids], dtype=np.int64)
    say(
        f"  {len(joining):,} of {len(test):,} test images join, by the class that {wanted.run} gives them with a "
        f"confidence of {wanted.confidence:g} or more; none of them is held out"
    )
    return train.and_more(joining.ids, joining.images, labels)


def _sure_of(run: Run, wanted: Pseudo, holdout: Pack, test: Pack) -> dict[str, str]:
    """The class of each test image that the labelling run is confident of, by id."""
    where = f"pseudo.run: {wanted.run}"
    elder = _elder(run, wanted.run, where, holdout)
    stored = elder.folder / "test_probs.npy"
    if not stored.exists():
        raise UserError(f"{where} has not predicted the test set yet: ./run.sh resume {wanted.run}")
    probs = calibrated(elder, np.load(stored))
    if elder.competition.source != run.competition.source or len(probs) != len(test):
        raise UserError(f"{where} has predicted other test images than those of {run.competition_name}")
    sure = np.flatnonzero(probs.max(1) >= wanted.confidence)
    if not len(sure):
        most = f"its surest is {probs.max():.3g}; lower pseudo.confidence"
        raise UserError(f"{where} is sure of no test image at {wanted.confidence:g}: {most}")
    return {test.ids[place]: run.competition.classes[probs[place].argmax()] for place in sure}
