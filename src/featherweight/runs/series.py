"""One recipe several times, over seeds or over folds; each run is a run like any other and is skipped if it is done."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from featherweight import paths
from featherweight.config import Recipe
from featherweight.console import duration, hushed, say
from featherweight.errors import UserError
from featherweight.evaluation import decisions
from featherweight.evaluation.metrics import Metric
from featherweight.evaluation.stratification import score_of_part
from featherweight.runs import division, ensemble, groups, pipeline
from featherweight.runs.metadata import PARTS
from featherweight.runs.request import RunRequest, cropped_as_published
from featherweight.runs.result import Result
from featherweight.runs.run import Run
from featherweight.runtime.device import NATIVE
from featherweight.training.forecast import SHORT_SECONDS

Done = list[tuple[Run, Result]]
MOST_RUNS = 1000  # of one series


def seeds(text: str) -> list[int]:
    """Return the numbers in `0-4` or `0,3,7`. Raises UserError for anything else, and for more than MOST_RUNS."""
    parts = [re.fullmatch(r" *(\d{1,18})(?:-(\d{1,18}))? *", part) for part in text.split(",")]
    ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) for part in parts if part]
    if sum(map(len, ranges)) > MOST_RUNS:
        raise UserError(f"--seeds {text}: expected {MOST_RUNS:,} seeds or fewer")
    numbers = [seed for each in ranges for seed in each]
    if not all(parts) or not all(ranges) or len(set(numbers)) < len(numbers):
        raise UserError(f"--seeds {text}: expected seeds as in 0-4 or 0,3,7")
    return numbers


def run_all(tasks: Mapping[str, RunRequest], then: Callable[[Run], None] = lambda run: None) -> Done:
    """Execute requests by the names of their runs, one after another; runs that exist are continued. `then` is called
    with each run when it is done, before the next one begins. How long the others take is printed.
    """
    done: Done = []
    for name, task in tasks.items():
        if Run.exists(name):
            run = Run.find(name)
            recipe = _as_started(task, run)
            seen = task.competition.seen_by(recipe)
            if (run.recipe, run.competition.task(), run.competition.image) != (recipe, seen.task(), seen.image):
                remedy = f"delete {paths.runs() / name}, or use another --name"
                raise UserError(f"there is a run called '{name}' already, of other settings; {remedy}")
        else:
            run = task.start(name)
        began, was_finished = time.monotonic(), run.is_finished
        done.append((run, pipeline.execute(run)))
        then(run)
        left = sum(not _is_done(other) for other in tasks) * (time.monotonic() - began)
        if left > SHORT_SECONDS and not was_finished:
            say(f"{len(done)} of {len(tasks)} runs are done; the others take about {duration(left)}")
    return done


def _as_started(task: RunRequest, run: Run) -> Recipe:
    """Return the request's recipe with what the start of that run, its memory and its deadline would change in it, and
    the run's own choice of what `native` is.
    """
    with hushed():
        recipe = cropped_as_published(task.recipe, task.competition)
    stored, asked = run.recipe.train, recipe.train
    cut, precision = asked.accumulate, asked.precision
    if "train.accumulate=" not in run.metadata.command:
        cut = max(cut, stored.accumulate)
    if precision == "native" and stored.precision in NATIVE.values():
        precision = stored.precision
    changed = {"accumulate": cut, "shortened": stored.shortened, "precision": precision}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changed)})


def _is_done(name: str) -> bool:
    return Run.exists(name) and Run.find(name).is_finished


def over_seeds(done: Done) -> list[str]:
    """Return in words the mean and standard deviation of the scores of several seeds."""
    lines = [f"{len(done)} seeds, mean ± standard deviation"]
    for part in PARTS:
        scores = [getattr(result, part) for _, result in done]
        if all(score is not None for score in scores):
            lines.append(f"  {part:<8} {_spread([score.value for score in scores], scores[0].of)}")
    return lines


def over_folds(done: Done, name: str, command: list[str]) -> list[str]:
    """Return in words the out-of-fold score of all images. If all folds together fit the limit, their mean predictions
    become a submission of that name.
    """
    runs = [run for run, _ in done]
    held, metric = ensemble.out_of_fold(runs), runs[0].competition.metric
    related = groups.of((run.folder for run in runs), held.ids)
    given = decisions.metric_input(runs[0].competition.target, metric, held.probs, held.labels, groups=related)
    score = score_of_part(metric, given, held.labels, groups=related, labelled=division.labelled(runs[0]))
    folds = [result.holdout.value for _, result in done]
    lines = [
        f"{len(done)} folds",
        f"  out of fold  {metric.name} {score}",
        f"  by fold      {_spread(folds, score.of)}",
    ]
    weighed = ensemble.weigh(runs, name)
    if not weighed.within_limit:
        over = weighed.excess
        return [*lines, f"  no averaged submission: together the folds have {over}", *_one_model(runs)]
    if Run.exists(name):
        return [*lines, f"  averaged     {_as_before(Run.find(name), runs)}"]
    averaged, result = ensemble.ensemble_of_folds(runs, held, name, command)
    return [*lines, f"  averaged     {averaged.name}: {result.unbiased or averaged.csv().name}"]


def _as_before(made: Run, runs: Sequence[Run]) -> str:
    """Return in words whether the run that is there is the mean of these folds, for today's images to predict."""
    try:
        same = [run.folder for run, _ in made.weighted_models] == [run.folder for run in runs]
        predict = made.competition.load().predict
        if same and predict is not None:
            made.probs("predict", predict.ids, predict.content)
    except UserError:
        same = False
    if same:
        return f"{made.name} (as before)"
    again = f"delete {made.folder}, and the same command makes it again"
    return f"no submission: {made.name} is of other models, or for other images, than there are now; {again}"


def _one_model(runs: Sequence[Run]) -> list[str]:
    """Return in words how the folds become one model, if there are images to score it."""
    first = runs[0]
    if first.recipe.split.test is None and first.competition.load().valid is None:
        return ["  their weights can be averaged if some images are kept for a test: --set split.test=0.1"]
    return [f"  one model of their weights: ./run.sh soup {' '.join(run.name for run in runs)}"]


def _spread(values: Sequence[float], metric: Metric) -> str:
    mean, deviation = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{metric.shown(mean)} ± {metric.shown(deviation)}"


def tell(lines: Sequence[str]) -> None:
    """Print the lines."""
    say("")
    for line in lines:
        say(line)
    say("next: ./run.sh runs --seeds")
