"""Several finished runs into one that still makes weight: a soup of their weights, or an ensemble of their answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherweight import atomic, budget, submission
from featherweight.config import Competition, Recipe
from featherweight.console import say
from featherweight.data import pack
from featherweight.data.pack import Data, Pack
from featherweight.data.parts import divide
from featherweight.errors import UserError
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.metrics import Score
from featherweight.models import Classifier, build
from featherweight.runs import predictions, run_folder
from featherweight.runs.comparison import Answers, answers, true_classes
from featherweight.runs.run_folder import Result, Run, Task
from featherweight.runtime import device as devices
from featherweight.runtime.device import Runtime
from featherweight.submission import grading
from featherweight.training import checkpoint
from featherweight.training.batches import Batches
from featherweight.training.norm_stats import renew

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Held:
    """Images that were held out: their ids, probabilities float32 [N, K] and true classes int64 [N]."""

    ids: list[str]
    probs: NDArray[np.float32]
    labels: NDArray[np.int64]


def soup(names: Sequence[str], *, greedy: bool, name: str | None, command: list[str]) -> Run:
    """A run whose weights are the mean of several runs' of one model, batch-norm statistics taken anew.

    Averages what was trained from one start or along one valley; models from different seeds rarely meet there.
    `greedy` starts from the best on the holdout and takes in each next one that does not make it worse there
    (arXiv:2203.05482); the holdout's score is then a little too good. Folds, of which each was trained on what the
    others held out, come to a run that holds out what they kept for the end, or the validation part that came with the
    data. The run is made, not yet predicted or scored.
    """
    runs = _finished(names)
    first = runs[0]
    for run in runs:
        if run.recipe.model != first.recipe.model:
            raise UserError(f"{run.name} and {first.name} are different models; their weights have no mean")
        if run.recipe.train.normalize != first.recipe.train.normalize:
            raise UserError(f"{run.name} and {first.name} have different train.normalize; their weights have no mean")
    device = devices.start(first.facts["device"], first.recipe.train.precision, first.facts["threads"])
    data = pack.load(first.competition.source, first.competition.image, first.competition.classes)
    if len({run.recipe.split.fold for run in runs}) > 1:
        if greedy:
            raise UserError("a greedy soup is picked by the holdout, and folds share none; leave --greedy out")
        recipe, given = _of_no_fold(runs, data), []
    else:
        recipe, given = first.recipe, answers(runs)
    train, holdout, _ = divide(recipe.split, first.competition, data)
    for run in runs:
        stored = json.loads((run.folder / "split.json").read_text())
        if not set(holdout.ids).isdisjoint(stored["train"]) or (given and stored["holdout"] != holdout.ids):
            raise UserError(f"the images are not those that {run.name} was trained on ({run.folder / 'split.json'})")
    states = [safetensors.torch.load_file(run.weights) for run in runs]

    def blend(places: Sequence[int]) -> Classifier:
        return _blend(recipe, first.competition, [states[place] for place in places], train, device)

    chosen = _greedy(runs, given, blend, holdout, device) if greedy else list(range(len(runs)))
    model = blend(chosen)
    kept = [runs[place].name for place in chosen]
    with run_folder.making(replace(_task("soup", first, command), recipe=recipe), name) as made:
        told = {"members": kept, "asked": [run.name for run in runs], "greedy": greedy}
        atomic.write_text(made.folder / "soup.json", json.dumps(told) + "\n")
        _write_history(made.folder, runs)
        checkpoint.save_weights(made.weights, model)
    say(f"{made.name}: the mean of {', '.join(kept)}")
    if greedy:
        say(
            f"  the holdout chose these of the {len(runs)} and scores {made.name} too, so its score there is a little "
            f"too good; believe the test set's, or that of images kept for the end (split.test)"
        )
    return run_folder.find(made.name)


def _of_no_fold(runs: Sequence[Run], data: Data) -> Recipe:
    """The recipe of what runs of several folds come to: it holds out what none of them has seen.

    Raises UserError where they are not folds of one division, or have seen everything between them.
    """
    first = runs[0]
    for run in runs:
        if not run.competition.same_task(first.competition):
            raise UserError(f"{run.name} and {first.name} are of different competitions")
        if run.recipe.split.model_copy(update={"fold": 0}) != first.recipe.split.model_copy(update={"fold": 0}):
            raise UserError(f"{run.name} and {first.name} are not folds of one division; compare their split sections")
    kept = first.recipe.split.test
    if kept is None and data.valid is None:
        names = ", ".join(run.name for run in runs)
        raise UserError(
            f"{names} are folds: each held out what the others were trained on, which leaves no image to score the "
            f"mean of their weights; train them with some kept for the end: --set split.test=0.1"
        )
    unseen = {"folds": None, "fold": 0, "test": None, **({} if kept is None else {"holdout": kept})}
    return first.recipe.model_copy(update={"split": first.recipe.split.model_copy(update=unseen)})


def _greedy(
    runs: Sequence[Run],
    given: Sequence[Answers],
    blend: Callable[[Sequence[int]], Classifier],
    holdout: Pack,
    device: Runtime,
) -> list[int]:
    recipe, competition = runs[0].recipe, runs[0].competition
    order = sorted(range(len(runs)), key=lambda place: -given[place].right.mean())
    chosen, best = [order[0]], float(given[order[0]].right.mean())
    for place in order[1:]:
        probs = predict_probs(
            [blend([*chosen, place])],
            holdout.images,
            runtime=device,
            views=predictions.views(recipe, competition),
            augment=predictions.augmentations(recipe, competition),
            seed=recipe.seed,
        )
        right = float((probs.argmax(1) == holdout.labels).mean())
        say(f"  with {runs[place].name}: {right:.2%} on the holdout, without {best:.2%}")
        if right >= best:
            chosen, best = [*chosen, place], right
    return chosen


def _blend(
    recipe: Recipe, competition: Competition, states: Sequence[State], train: Pack, device: Runtime
) -> Classifier:
    """The mean of several states of one model, its batch-norm statistics from `train`."""
    classes, image = len(competition.classes), competition.image
    model = build(recipe.model, classes, image.channels, image.size)
    model.load_state_dict(mean(states))
    device.place(model)
    batches = Batches(train, classes, recipe.train.batch_size, recipe.seed, device, recipe.sampling)
    renew(model, batches, predictions.augmentations(recipe, competition), device)
    return model


def mean(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of every tensor, taken in float64; counts are the first's."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }


def ensemble(names: Sequence[str], *, fit: bool, name: str | None, command: list[str]) -> tuple[Run, Result]:
    """A run whose probabilities are the mean of several runs', of any models. Raises OverBudget when, together, they
    are over the limit.

    `fit` weighs the members by their likelihood on the holdout, which none of them was trained on; the holdout's score
    is then that of weights fitted to one half of it and judged on the other, both ways.
    """
    runs = _finished(names)
    given = answers(runs)
    weights = fit_weights(given) if fit else np.full(len(runs), 1 / len(runs))
    held = _crossed(given) if fit else _averaged([each.probs for each in given], weights)
    ids = json.loads((runs[0].folder / "split.json").read_text())["holdout"]
    return _together(runs, weights, Held(ids, held, given[0].labels), name, command)


def weigh(runs: Sequence[Run], name: str) -> budget.WeighIn:
    """What several runs weigh when they ship together."""
    return budget.weigh_ensemble({run.name: run_folder.shipped(run) for run in runs}, runs[0].competition, name)


def ensemble_of_folds(runs: Sequence[Run], held: Held, name: str, command: list[str]) -> tuple[Run, Result]:
    """A run whose test probabilities are the mean over the runs of all folds; its holdout is every image out of fold,
    answered by the one member that was not trained on it.
    """
    return _together(runs, np.full(len(runs), 1 / len(runs)), held, name, command)


def out_of_fold(runs: Sequence[Run]) -> Held:
    """Each image of all folds with what the run that held it out says of it."""
    ids: list[str] = []
    for run in runs:
        ids += json.loads((run.folder / "split.json").read_text())["holdout"]
    probs = np.concatenate([predictions.of_finished(run, "holdout") for run in runs])
    return Held(ids, probs, true_classes(runs[0], ids))


def _task(what: str, first: Run, command: list[str]) -> Task:
    """What several runs come to, in the first one's words."""
    device, threads = first.facts["device"], first.facts["threads"]
    return Task(what, first.recipe, first.competition_name, first.competition, command, device, threads)


def _together(
    runs: Sequence[Run], weights: NDArray[np.float64], held: Held, name: str | None, command: list[str]
) -> tuple[Run, Result]:
    first, competition = runs[0], runs[0].competition
    weighed = weigh(runs, name or "ensemble")
    weighed.refuse_if_over()
    told = ", ".join(f"{run.name} {weight:.3f}" for run, weight in zip(runs, weights, strict=True))
    say(f"{weighed.name}: {weighed.counted:,} of {weighed.limit:,} parameters; {told}")

    more = {"members": [run.name for run in runs], "weights": weights.tolist()}
    with run_folder.making(_task("ensemble", first, command), name, more=more) as made:
        kept = _kept_for_the_end(runs)
        split = {"train": [], "holdout": held.ids, **({"test": kept} if kept else {})}
        atomic.write_text(made.folder / "split.json", json.dumps(split) + "\n")
        _write_history(made.folder, runs)
        tensors = {f"{place}.{key}": t for place, run in enumerate(runs) for key, t in _weights(run).items()}
        atomic.write_bytes(made.weights, safetensors.torch.save(tensors))

        _keep(made.folder / "holdout_probs.npy", held.probs)
        holdout, ended = _score(made, "holdout", held), None
        if kept:
            probs = _averaged([predictions.of_finished(run, "kept") for run in runs], weights)
            ended = _score(made, "kept", Held(kept, probs, true_classes(first, kept)))
        tested = _hand_in(made, runs, weights) or ended
        minutes = sum(run_folder.minutes(run) for run in runs)
        result = Result(weighed.counted, weighed.limit, holdout, tested, minutes)
        run_folder.record(made, result, sum(budget.weigh(run.recipe, competition, run.name).macs for run in runs))
    return run_folder.find(made.name), result


def fit_weights(given: Sequence[Answers], places: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """The weights of a mixture of the members' probabilities that make the true classes likeliest, by EM (convex)."""
    chosen = slice(None) if places is None else places
    true = np.stack([each.probs[np.arange(len(each.labels)), each.labels][chosen] for each in given]).astype(np.float64)
    true = true.clip(1e-12)
    weights = np.full(len(given), 1 / len(given))
    for _ in range(1000):
        shares = weights[:, None] * true
        weights = (shares / shares.sum(0)).mean(1)
    return weights


def _crossed(given: Sequence[Answers]) -> NDArray[np.float32]:
    """The holdout's mixture, each half of it by the weights fitted to the other."""
    half = np.random.default_rng(0).permutation(len(given[0].labels)) % 2 == 0
    mixed = np.empty_like(given[0].probs)
    for part in (half, ~half):
        mixed[part] = _averaged([each.probs[part] for each in given], fit_weights(given, ~part))
    return mixed


def _averaged(probs: Sequence[NDArray[np.float32]], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    total: NDArray[np.float32] = sum(
        (each.astype(np.float64) * weight for each, weight in zip(probs, weights, strict=True)),
        start=np.zeros(probs[0].shape),
    ).astype(np.float32)
    return total


def _kept_for_the_end(runs: Sequence[Run]) -> list[str]:
    """The ids of the images that none of the runs was to see before the end, where they kept the same."""
    kept = [json.loads((run.folder / "split.json").read_text()).get("test", []) for run in runs]
    return kept[0] if all(ids == kept[0] for ids in kept) else []


def _score(made: Run, part: str, held: Held) -> Score:
    form, path = submission.holdout_form(made.competition, held.ids), made.folder / f"{part}.csv"
    submission.write(path, form, held.ids, held.probs)
    truth = dict(zip(held.ids, (made.competition.classes[label] for label in held.labels), strict=True))
    return submission.score(path, form, truth, made.competition)


def _hand_in(made: Run, runs: Sequence[Run], weights: NDArray[np.float64]) -> Score | None:
    competition = made.competition
    test = pack.load(competition.source, competition.image, competition.classes).test
    if test is None:
        return None
    probs = _averaged([predictions.of_finished(run, "test") for run in runs], weights)
    _keep(made.folder / "test_probs.npy", probs)
    form = submission.form(competition, test.ids)
    submission.write(made.csv, form, test.ids, probs)
    submission.check(made.csv, form)
    known, _ = grading.answers(competition, form)
    return submission.score(made.csv, form, known, competition) if known else None


def _finished(names: Sequence[str]) -> list[Run]:
    """The finished runs of those names."""
    if len(set(names)) < len(names) or len(names) < 2:
        raise UserError("name at least two runs, each once: ./run.sh runs shows them")
    runs = [run_folder.find(name) for name in names]
    for run in runs:
        if not (run.folder / "result.json").exists():
            raise UserError(f"{run.name} is not finished: ./run.sh resume {run.name}")
        if run.facts.get("members"):
            raise UserError(f"{run.name} is an ensemble already; name its members: {', '.join(run.facts['members'])}")
    return runs


def _weights(run: Run) -> State:
    return safetensors.torch.load_file(run.weights)


def _write_history(folder: Path, runs: Sequence[Run]) -> None:
    """No epochs, since nothing was trained here; the time that the runs took together."""
    atomic.write_text(folder / "history.csv", f"seconds\n{60 * sum(run_folder.minutes(run) for run in runs)}\n")


def _keep(path: Path, probs: NDArray[np.float32]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, probs)
    atomic.write_bytes(path, buffer.getvalue())
