"""The trials of a search: check, train and score one candidate after another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from featherweight import budget
from featherweight.budget.memory import within_memory
from featherweight.config import Competition, Recipe
from featherweight.console import hushed, say
from featherweight.data import parts
from featherweight.data.pack import Data, LabelledPack
from featherweight.errors import DivergedError, UserError
from featherweight.evaluation import decisions
from featherweight.evaluation.bootstrap import Groups
from featherweight.evaluation.class_metrics import Answers
from featherweight.evaluation.metrics import Score
from featherweight.evaluation.stratification import score_of_part
from featherweight.models import Classifier
from featherweight.runs import pipeline, predictions, teachers
from featherweight.runs.metadata import Metadata
from featherweight.runs.request import cropped_as_published, refuse_what_does_not_fit
from featherweight.runs.run import Run
from featherweight.runtime.device import Runtime
from featherweight.runtime.interrupts import interruptible
from featherweight.runtime.rng import derive
from featherweight.search import trial_answers
from featherweight.search.space import SearchSpace, spelled
from featherweight.search.study import Worker, candidate, counted

SEEDS = 10**6  # seeds are below this, so that they are short to type
MOST_UNTRAINED = 100  # untrainable candidates in a row after which the search ends


@dataclass(frozen=True)
class Search:
    """What all trials of a study share."""

    space: SearchSpace
    competition_name: str
    competition: Competition
    data: Data
    device: Runtime
    study: Study
    storage: str | None
    folder: Path

    def seen_by(self, recipe: Recipe) -> tuple[Competition, Data]:
        """Return the competition and its images at a candidate's image size."""
        competition = self.competition.seen_by(recipe)
        return competition, self.data if competition.image == self.competition.image else competition.load()

    def recipe(self, trial: Trial | FrozenTrial) -> Recipe:
        """Return the recipe of a trial. Raises UserError for values that cannot be combined."""
        recipe = self.space.recipe(self.space.draw(trial))
        seed = derive(self.space.file.seed, "trial", candidate(self.study, trial)) % SEEDS
        return recipe.model_copy(update={"seed": seed})


def work(search: Search, trials: int | None, hours: float | None) -> str:
    """Train candidates until `trials` are trained or the `hours` are over; return a sentence that says why it ended.

    Raises KeyboardInterrupt after Ctrl-C, between two steps of a training, with the current trial queued again, or
    after it: a storage that is interrupted while it writes may stay locked.
    """
    began, refused = time.monotonic(), 0
    with Worker(search.study, search.storage, search.folder) as worker, interruptible() as interrupted:
        while hours is None or time.monotonic() - began < hours * 3600:
            if interrupted.is_set():
                raise KeyboardInterrupt
            trial = worker.claim(trials, search.space.draw)
            if trial is None:
                return ""
            try:
                with worker.alive(trial):
                    trained = _attempt(search, trial)
            except BaseException:  # stopped, or an error: leave the candidate to the next worker
                worker.put_back(trial)
                raise
            refused = 0 if trained else refused + 1
            if refused == MOST_UNTRAINED:
                failed = f"the last {MOST_UNTRAINED} candidates could not be trained or were repeats"
                return f"{failed}: the space has no new ones"
    return f"{hours:g} hours are over"


def _attempt(search: Search, trial: Trial) -> bool:
    """Check, train and score a candidate; return True if it was trained."""
    study, number = search.study, candidate(search.study, trial)
    twin = _twin(study, trial)
    if twin is not None:
        trial.set_user_attr("refused", f"as candidate {twin}")
        study.tell(trial, state=TrialState.FAIL)  # the sampler does not learn from failed trials
        return False
    refused = _refusal(search, trial)
    if refused is not None:
        trial.set_user_attr("refused", refused)
        study.tell(trial, state=TrialState.PRUNED)
        say(f"  {number:>4}  refused: {refused}")
        return False
    recipe = search.recipe(trial)
    began = time.monotonic()
    try:
        score = _train(search, recipe, trial)
        trial.set_user_attr("interval", [score.low, score.high])
        outcome = score.of.shown(score.value)
    except optuna.TrialPruned as pruned:
        score, outcome = None, str(pruned)
    except DivergedError as diverged:
        trial.set_user_attr("diverged", str(diverged).split(". ")[0])
        score, outcome = None, str(diverged).split(". ")[0]
    except UpdateFinishedTrialError:  # given to another worker, who took this one for dead
        say(f"  {number:>4}  another worker has it")
        return True
    except torch.AcceleratorError as error:  # nothing more can be computed by this process
        why = str(error).strip().split("\n")[0]
        raise UserError(f"the GPU failed: {why}\nthe same command continues the search") from error
    except (RuntimeError, UserError) as error:  # mostly a lack of memory, which the next worker would meet too
        why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        trial.set_user_attr("refused", f"could not be trained: {why}")
        study.tell(trial, state=TrialState.PRUNED)
        say(f"  {number:>4}  could not be trained: {why}")
        return False
    seconds = time.monotonic() - began
    trial.set_user_attr("seconds", seconds)
    if score is None:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        best = _best(study)
        study.tell(trial, score.value)
        outcome += "  the best so far" if best is None or score.of.better(score.value, best) else ""
    for path in (search.folder / "trials" / str(number)).glob("*"):
        if path.name not in ("history.csv", trial_answers.FILE):  # weights, which are not needed any more
            path.unlink()
    say(f"  {number:>4}  {outcome}  ({seconds:.0f} s)  {_words(search.space.draw(trial))}")
    return True


def _twin(study: Study, trial: Trial) -> int | None:
    """Return an earlier candidate with exactly the same values; None if there is none."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    for other in study.get_trials(deepcopy=False, states=states):
        if other.number < trial.number and other.params == trial.params:
            return candidate(study, other)
    return None


def _refusal(search: Search, trial: Trial) -> str | None:
    """Return why a candidate may not be trained, or None. Its distance to the limit is stored as a constraint for the
    sampler.
    """
    try:
        recipe = search.recipe(trial)
        weighed = budget.weigh(recipe, search.competition, "the candidate")
        refuse_what_does_not_fit(recipe, search.competition)
    except UserError as error:
        trial.set_constraint("weight", 1.0)
        return str(error).splitlines()[0]
    beyond = [one.value / one.limit - 1 for one in weighed.measures]
    trial.set_constraint("weight", max([-weighed.room / weighed.limit, *beyond]))
    trial.set_user_attr("parameters", weighed.counted)
    return weighed.excess or None


def _train(search: Search, recipe: Recipe, trial: Trial) -> Score:
    """Train and score a candidate as a run would be. Raises TrialPruned if the trial is stopped early."""
    folder = search.folder / "trials" / str(candidate(search.study, trial))
    folder.mkdir(parents=True, exist_ok=True)
    seen = set(search.study.get_trials(deepcopy=False)[trial.number].intermediate_values)  # before it was queued again

    def report(row: Mapping[str, Any]) -> None:
        epoch, score = row["epoch"], row["holdout_score"]
        if math.isnan(score):
            return
        if epoch not in seen:
            trial.report(score, epoch)
        if epoch < recipe.train.epochs and trial.should_prune():
            raise optuna.TrialPruned(f"stopped early, after epoch {epoch} of {recipe.train.epochs}")

    done = trained(search, recipe, folder, report)
    given, labels, groups = done.metric_input(search.device), done.holdout.labels, done.groups
    trial_answers.store(folder, given, done.holdout, groups)
    return score_of_part(search.competition.metric, given, labels, groups=groups, labelled=done.labelled)


@dataclass(frozen=True)
class Trained:
    """A trained candidate, the competition as its recipe sees it, and the held-out images.

    `groups` int64 [N]: held-out images with the same number are related; None if none are. `labelled`: the number of
    images they were split off from class by class; None if they came with the data.
    """

    recipe: Recipe
    competition: Competition
    model: Classifier
    holdout: LabelledPack
    groups: Groups | None
    labelled: int | None

    def metric_input(self, device: Runtime) -> Answers:
        """Return its answers or probabilities of the holdout, as a run of its recipe is scored by."""
        recipe, competition, labels = self.recipe, self.competition, self.holdout.labels
        probs = predictions.holdout_probs(recipe, competition, self.model, self.holdout, device, self.groups)
        return decisions.metric_input(competition.target, competition.metric, probs, labels, groups=self.groups)


def trained(
    search: Search, recipe: Recipe, folder: Path, on_epoch: Callable[[Mapping[str, Any]], None] = lambda row: None
) -> Trained:
    """Train a candidate in that folder, with the changes that the start of a run makes to its recipe."""
    with hushed():
        recipe = cropped_as_published(recipe, search.competition)
        recipe = within_memory(recipe, search.competition.seen_by(recipe), search.device)
    competition, data = search.seen_by(recipe)
    run = Run(folder, recipe, competition, Metadata(search.space.file.base, search.competition_name))
    known = parts.labelled_groups(competition, data)
    related = known if recipe.split.grouped else None
    train, holdout, test = parts.divide_knowing(recipe.split, competition, data, related)
    came_divided = parts.provided_holdout(recipe.split, data) is not None
    labelled = None if came_divided else len(train) + len(holdout) + len(test or [])
    with hushed():
        train = teachers.with_pseudo_labels(run, train, holdout, data.predict)
        model = pipeline.train_model(run, train, holdout, search.device, on_epoch)
    place = {id: place for place, id in enumerate(id for part in data.labelled for id in part.ids)}
    groups = known.group[[place[id] for id in holdout.ids]]
    together = groups if len(np.unique(groups)) < len(groups) else None
    return Trained(recipe, competition, model, holdout, together, labelled)


def _best(study: Study) -> float | None:
    done = [trial for trial in counted(study) if trial.state == TrialState.COMPLETE]
    values = [trial.value for trial in done if trial.value is not None]
    lower = study.direction == optuna.study.StudyDirection.MINIMIZE
    return (min if lower else max)(values, default=None)


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={spelled(value)}" for key, value in values.items())
