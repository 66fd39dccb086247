"""A soup: the mean of the weights of several finished runs of one model, which is one model again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight.augment.table import WHOLE
from featherweight.config import Competition, Recipe
from featherweight.console import say
from featherweight.data.pack import LabelledPack
from featherweight.data.parts import divide
from featherweight.errors import UserError
from featherweight.evaluation import decisions
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import metric_of, value
from featherweight.models import Classifier, build
from featherweight.runs import members, predictions, selection
from featherweight.runs.comparison import holdout_predictions
from featherweight.runs.metadata import Soup
from featherweight.runs.paired_tests import HoldoutPredictions
from featherweight.runs.run import Run
from featherweight.runtime import device as devices
from featherweight.runtime.device import Runtime
from featherweight.training import checkpoint
from featherweight.training.batches import Batches
from featherweight.training.norm_stats import renew

State = Mapping[str, Tensor]


def soup(names: Sequence[str], *, greedy: bool, name: str | None, command: list[str]) -> Run:
    """Make a run whose weights are the mean of several runs' of one model, with batch-norm statistics computed again.

    Averages work for runs in the same loss basin: fine-tuned from the same weights, or epochs of one training; runs
    from different seeds rarely are. `greedy` starts from the best on the holdout and adds each next one that does not
    make it worse there (arXiv:2203.05482); the holdout's score is then too good by about the `optimism` in soup.json.
    Folds, each trained on what the others held out, become a run that holds out their test part, or the validation part
    that came with the data. The run is made, not yet predicted or scored.
    """
    runs = members.finished(names)
    first = runs[0]
    _refuse_different_models(runs)
    device = devices.make_runtime(first.device, first.recipe.train.precision, first.metadata.threads)
    data = first.competition.load()
    if len({run.recipe.split.fold for run in runs}) > 1:
        if greedy:
            raise UserError("a greedy soup is picked by the holdout, and folds share none; leave --greedy out")
        recipe, answered = members.recipe_of_folds(runs, data), []
    else:
        recipe, answered = first.recipe, holdout_predictions(runs)
    train, holdout, _ = divide(recipe.split, first.competition, data)
    for run in runs:
        seen = not set(holdout.ids).isdisjoint(run.split.train)
        if seen or (answered and run.split.holdout != holdout.ids):
            raise UserError(f"the images are not those that {run.name} was trained on ({run.folder / 'split.json'})")

    def blend(indices: Sequence[int]) -> Classifier:
        blended = [runs[index] for index in indices]
        states = [safetensors.torch.load_file(run.weights) for run in blended]
        # Frozen statistics are the same in all, and the layers after them were trained with these.
        seen = None if all(run.recipe.train.freeze_norms for run in blended) else train
        return _blend(recipe, first.competition, states, seen, device)

    chosen, optimism, compared = list(range(len(runs))), 0.0, 1
    if greedy:
        chosen, optimism, compared = _greedy(runs, answered, blend, holdout, device)
    model = blend(chosen)
    names = [runs[index].name for index in chosen]
    with replace(members.task("soup", first, command), recipe=recipe).new_folder(name) as combined:
        Soup(names, [run.name for run in runs], greedy, optimism, compared).write(combined.folder)
        members.write_history(combined.folder, runs)
        checkpoint.save_weights(combined.weights, model)
    say(f"{combined.name}: the mean of {', '.join(names)}")
    if greedy:
        metric = metric_of(first.competition.metric)
        say(
            f"  the holdout chose these of the {len(runs)} and scores {combined.name} too, so its holdout score is "
            f"about {metric.number(optimism)} {metric.unit} too good; the expected score is without these"
        )
    return Run.find(combined.name)


def far_below(combined: Run) -> str:
    """Return in words that a finished soup is significantly worse than every member; empty if it is not."""
    scores = [(Run.find(name).result.holdout, name) for name in combined.members]
    soup = combined.result.holdout
    worst, name = scores[0]
    for score, other in scores[1:]:
        if soup.of.better(worst.value, score.value):
            worst, name = score, other
    rises = soup.of.better(1.0, 0.0)
    if soup.high >= worst.low if rises else soup.low <= worst.high:
        return ""
    return (
        f"warning: {combined.name} is far worse than its worst member, {name} ({worst}): the weights are not in the "
        "same loss basin, so averaging them fails; average the predictions instead: "
        f"./run.sh ensemble {' '.join(combined.members)}"
    )


def _refuse_different_models(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs:
        if run.recipe.model != first.recipe.model:
            raise UserError(f"{run.name} and {first.name} are different models; their weights cannot be averaged")
        if run.recipe.train.normalize != first.recipe.train.normalize:
            names = f"{run.name} and {first.name}"
            raise UserError(f"{names} have different train.normalize; their weights cannot be averaged")
        if run.competition.image != first.competition.image:
            raise UserError(
                f"{run.name} and {first.name} are trained on images of different sizes; their weights cannot be "
                f"averaged; average their predictions: ./run.sh ensemble"
            )


def _greedy(
    runs: Sequence[Run],
    answered: Sequence[HoldoutPredictions],
    blend: Callable[[Sequence[int]], Classifier],
    holdout: LabelledPack,
    device: Runtime,
) -> tuple[list[int], float, int]:
    """Return the indices of the chosen runs, and the optimism of the choice with the number of models compared."""
    recipe, competition = runs[0].recipe, runs[0].competition
    labels, choice, metric = holdout.labels, competition.metric, metric_of(competition.metric)
    groups = answered[0].groups

    def metric_input(probs: NDArray[np.float32]) -> Answers:
        return decisions.metric_input(competition.target, choice, probs, labels, groups=groups)

    tried = [metric_input(each.probs) for each in answered]
    scores = [value(choice, each, labels) for each in tried]
    order = sorted(range(len(runs)), key=lambda index: -metric.sign * scores[index])
    chosen, best, winner = [order[0]], scores[order[0]], order[0]
    for index in order[1:]:
        probs = predictions.holdout_probs(recipe, competition, blend([*chosen, index]), holdout, device, groups)
        tried.append(metric_input(probs))
        reached = value(choice, tried[-1], labels)
        shown, before = metric.shown(reached), metric.shown(best)
        say(f"  with {runs[index].name}: {metric.name} {shown} on the holdout, without {before}")
        if not metric.better(best, reached):
            chosen, best, winner = [*chosen, index], reached, len(tried) - 1
    others = [each for place, each in enumerate(tried) if place != winner]
    optimism = selection.of_the_best([tried[winner], *others], labels, choice, groups=groups)
    return chosen, optimism, len(tried)


def _blend(
    recipe: Recipe, competition: Competition, states: Sequence[State], train: LabelledPack | None, device: Runtime
) -> Classifier:
    """Return the mean of several states of one model, with batch-norm statistics from `train` if it is given."""
    model = build(recipe.model, competition.shape)
    model.load_state_dict(mean(states))
    device.place(model)
    if train is None:
        return model
    classes = len(competition.classes)
    whole = any(choice.name == WHOLE for choice in recipe.augment)
    batches = Batches(train, classes, recipe.train.batch_size, recipe.seed, device, recipe.sampling, whole)
    renew(model, batches, predictions.augmentations(recipe, competition), device)
    return model


def mean(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the mean of every tensor, computed in float64; integer counts are the first's."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }
