"""What a run learns from others: a teacher's probabilities, and pseudo-labels of images to predict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from featherweight import atomic, paths
from featherweight.config import Pseudo
from featherweight.console import say
from featherweight.data.csv_file import examples
from featherweight.data.image import Image
from featherweight.data.pack import LabelledPack, Pack, decode_alike
from featherweight.errors import UserError
from featherweight.evaluation.calibration import temper
from featherweight.models import Classifier
from featherweight.models.input_sizes import refuse_other_sizes
from featherweight.runs import fitted, stored_probs
from featherweight.runs.ensemble import out_of_fold
from featherweight.runs.members import are_folds
from featherweight.runs.metadata import DAMAGED, read_json
from featherweight.runs.predictions import probabilities
from featherweight.runs.run import Run
from featherweight.runtime.device import Runtime
from featherweight.training.distillation import Teachers, read_saved
from featherweight.untrusted_files import explained


def teachers(run: Run, train: Pack, holdout: Pack, device: Runtime) -> Teachers:
    """Return the models that a recipe learns from, and the stored probabilities of others."""
    models: list[Classifier] = []
    saved: list[NDArray[np.float32]] = []
    distill = run.recipe.distill
    names = distill.teachers if distill else []
    if folds := _folds(names):
        say(f"  taught by {len(folds)} folds, each image by the one that held it out: {', '.join(names)}")
        saved.append(_out_of_fold(run, folds, train, holdout))
        names = []
    for name in names:
        assert distill is not None
        if name.endswith(".npz"):
            saved.append(read_saved(paths.home() / name, train.ids, run.competition.classes))
            say(f"  taught by {name}: make sure that it was not trained on the held-out images; that cannot be checked")
            continue
        where = f"distill.teachers: {name}"
        teacher = _known_run(run, name, where, holdout)
        if teacher.is_ensemble:
            raise UserError(f"{where} is an ensemble; name its members instead: {', '.join(teacher.members)}")
        _refuse_other_images(where, teacher.competition.image, run.competition.image)
        if run.recipe.progressive is not None and not distill.once:
            if teacher.recipe.train.normalize == "pixel":
                raise UserError(f"{where} subtracts the mean of every pixel, so it takes one size only (progressive)")
            refuse_other_sizes(where, run.recipe.progressive.scales, teacher.recipe.model, run.competition.shape)
        model = teacher.load_model()
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


def _refuse_other_images(where: str, theirs: Image, ours: Image) -> None:
    """Raise UserError unless a teacher was trained on images that are prepared like these.

    The crop that is scored may differ: a teacher predicts what its student is shown.
    """
    if theirs.size == ours.size and decode_alike(theirs, ours):
        return
    other = theirs.model_dump(exclude={"mirror", "crop", "interpolation"})
    differ = [key for key, value in other.items() if value != getattr(ours, key)]
    one, two = (", ".join(f"image.{key}={getattr(image, key)}" for key in differ) for image in (theirs, ours))
    raise UserError(f"{where} is trained with {one}, and this recipe has {two}; give both the same image section")


def _folds(names: Sequence[str]) -> list[Run]:
    """Return the runs of those names if all are folds of one division, else none."""
    if len(names) < 2 or not all(Run.exists(name) for name in names):
        return []
    runs = [Run.find(name) for name in names]
    return runs if are_folds(runs) else []


def _out_of_fold(run: Run, folds: Sequence[Run], train: Pack, holdout: Pack) -> NDArray[np.float32]:
    """Return the probabilities [N, K] of the training images, each by the fold that was not trained on it.

    Raises UserError for folds that were trained on the holdout, or that lack an image.
    """
    for fold in folds:
        _known_run(run, fold.name, f"distill.teachers: {fold.name}", holdout)
    held = out_of_fold(folds)
    row = {id: index for index, id in enumerate(held.ids)}
    lacking = [id for id in train.ids if id not in row]
    if lacking:
        raise UserError(
            f"distill.teachers: {len(lacking):,} of the {len(train):,} training images were held out by none of the "
            f"folds ({lacking[0]}); name all folds, and give this run the same split.seed and split.subset"
        )
    answers: NDArray[np.float32] = held.probs[[row[id] for id in train.ids]]
    return answers


def _known_run(run: Run, name: str, where: str, holdout: Pack) -> Run:
    """Return a run that this one learns from. Raises UserError if it is not trained, has other classes, or was trained
    on the holdout.
    """
    teacher = Run.find(name)
    if not teacher.weights.exists():
        raise UserError(f"{where} is not trained yet: ./run.sh resume {name}")
    if run.competition.classes != teacher.competition.classes:
        raise UserError(f"{where} has other classes than {run.competition_name}")
    known = _trained_on(teacher).intersection(holdout.ids)
    if known:
        raise UserError(
            f"{where} was trained on {len(known)} of the {len(holdout)} images held out here, so their score would be "
            f"meaningless; give both the same split section"
        )
    return teacher


def _trained_on(teacher: Run) -> set[str]:
    """Return the ids of all training images of a run, of its members, and of the runs that these have learned from."""
    left, seen, known = [teacher], set[str](), set[str]()
    while left:
        run = left.pop()
        if run.name in seen:
            continue
        seen.add(run.name)
        known.update(run.split.train if run.is_divided else ())
        taught = [*(run.recipe.distill.teachers if run.recipe.distill else ()), *run.members]
        taught += [run.recipe.pseudo.run] if run.recipe.pseudo else []
        left += [Run.find(name) for name in taught if Run.exists(name)]
    return known


def with_pseudo_labels(run: Run, train: LabelledPack, holdout: LabelledPack, predict: Pack | None) -> LabelledPack:
    """Return the training images and, if the recipe asks for them, images to predict with the classes that another run
    is confident of.

    The choice is stored in the run's folder when it starts. Their true classes are never read.
    """
    wanted = run.recipe.pseudo
    if wanted is None or run.weights.exists():
        return train
    if predict is None:
        raise UserError(f"pseudo: {run.competition.title} has no images to predict")
    stored = run.folder / "pseudo.json"
    if not stored.exists():
        atomic.write_text(stored, json.dumps(_confident(run, wanted, holdout, predict)) + "\n")
    labelled = _stored_labels(run, stored)
    chosen = [index for index, id in enumerate(predict.ids) if id in labelled]
    if len(chosen) < len(labelled):
        gone = examples(sorted(set(labelled) - set(predict.ids)))
        raise UserError(f"pseudo: images to predict that {run.name} learns from are no longer there: {gone}")
    joining = predict.take(np.array(chosen, dtype=np.int64))
    index_of = {name: index for index, name in enumerate(run.competition.classes)}
    labels = np.array([index_of[labelled[id]] for id in joining.ids], dtype=np.int64)
    say(
        f"  {len(joining):,} of {len(predict):,} images to predict, pseudo-labelled by {wanted.run} with a confidence "
        f"of {wanted.confidence:g} or more, are added to the training set; none of them is held out"
    )
    return train.and_more(joining.ids, joining.images, labels)


def _stored_labels(run: Run, path: Path) -> dict[str, str]:
    """Return the class of each image that joins the training set, by id. Raises UserError for a damaged file."""
    again = f"delete it, and ./run.sh resume {run.name} labels the images again"
    with explained(path, f"{DAMAGED}; {again}"):
        labelled = TypeAdapter(dict[str, str]).validate_python(read_json(path, again))
        if not set(labelled.values()) <= set(run.competition.classes):
            raise ValueError("expected classes of the competition")
    return labelled


def _confident(run: Run, wanted: Pseudo, holdout: Pack, predict: Pack) -> dict[str, str]:
    """Return the class of each image to predict that the labelling run is confident of, by id."""
    where = f"pseudo.run: {wanted.run}"
    labeller = _known_run(run, wanted.run, where, holdout)
    if stored_probs.read(labeller, "predict") is None:
        raise UserError(f"{where} has not predicted the competition's images yet: ./run.sh resume {wanted.run}")
    probs = stored_probs.read(labeller, "predict", predict.ids, predict.content)
    if labeller.competition.source != run.competition.source or probs is None:
        raise UserError(f"{where} has predicted other images than those of {run.competition_name}")
    probs = fitted.calibrated(labeller, probs)
    sure = np.flatnonzero(probs.max(1) >= wanted.confidence)
    if not len(sure):
        most = f"its highest is {probs.max():.3g}; lower pseudo.confidence"
        raise UserError(f"{where} is confident of no image to predict at {wanted.confidence:g}: {most}")
    return {predict.ids[index]: run.competition.classes[probs[index].argmax()] for index in sure}
