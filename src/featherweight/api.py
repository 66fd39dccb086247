"""The interface of `import featherweight as fw`: the main commands as functions, which return what the commands print.

A run is given by its name, as on the command line, or as an object from `train` or `find`. Errors that the user can
correct are raised as `UserError`; a model over the limit as `OverBudget`. Keys of a recipe are keyword arguments, with
two underscores for each dot: `train__epochs=10`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from torch import Tensor

from featherweight import budget, config, paths
from featherweight.config import Competition, Recipe
from featherweight.config.merge import Override
from featherweight.console import hushed
from featherweight.errors import UserError
from featherweight.runs import pipeline, predictor, weigh_run
from featherweight.runs.predictor import Predictions, Predictor
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

AnyRun = str | Path | Run


class Comparison(NamedTuple):
    """One row per run, the best first, and sentences that say which run is better than which."""

    table: pd.DataFrame
    verdicts: list[str]


@overload
def weigh(what: str | Recipe, competition: str | Competition, **settings: Any) -> budget.BudgetCheck: ...


@overload
def weigh(
    what: nn.Module | Mapping[str, Any] | str | Path | Recipe | Run,
    competition: Tensor | None = None,
    *,
    example: Tensor | None = None,
) -> budget.BudgetCheck | budget.ModelSize: ...


def weigh(
    what: Any, competition: Any = None, *, example: Tensor | None = None, **settings: Any
) -> budget.BudgetCheck | budget.ModelSize:
    """Count the parameters of a recipe against a competition's limit (`weigh("wrn16_4", "cifar10")`), or of any model.

    A recipe, by name or as an object, returns a BudgetCheck: `.counted`, `.limit`, `.room` (negative if it is over),
    `.macs`, `.groups`; `.refuse_if_over()` raises OverBudget. The competition is digits by default; settings are
    keyword arguments. A module, its state, a file, a run, `timm/NAME`, `torchvision/NAME` or `FILE.py:NAME` returns a
    ModelSize: `.parameters`, `.zeros`, `.bits`, `.bytes`, ...; with an `example` [B, C, H, W], which may also be the
    second argument, `.macs` and `.folded` too. Raises UserError for what cannot be counted. No code in files of weights
    is executed.
    """
    if isinstance(competition, Tensor):
        competition, example = None, competition
    for one in (example, None if isinstance(competition, str | Competition) else competition):
        if one is not None and not isinstance(one, Tensor):
            raise UserError(f"weigh: the example must be a tensor of images [B, C, H, W], not a {type(one).__name__}")
    recipes = paths.config_names("recipes")
    is_recipe = isinstance(what, Recipe) or (
        isinstance(what, str) and (what in recipes or what.endswith((".yaml", ".yml")))
    )
    if is_recipe or competition is not None or settings:
        return budget.weigh(_recipe(what, settings), _competition(competition or "digits"), _name(what, "recipe"))
    return weigh_run.weigh_anything(what, example)


def train(
    recipe: str | Recipe,
    competition: str | Competition = "digits",
    *,
    name: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Train, score, predict and write a checked CSV, as `./run.sh RECIPE` does; return the finished run.

    Its `.result` has the scores with their intervals, `.history` the losses by epoch, `.probs("predict")` the
    probabilities float32 [N, K], `.csv()` the path of the submission. `name` is the name of the run, by default
    recipe-competition-seed. An interrupted run can be continued with `resume`.
    """
    words = [_name(recipe, "recipe"), "--competition", _name(competition, "competition")]
    words += [f"--set={_key(key)}={json.dumps(value)}" for key, value in settings.items()]
    task = RunRequest(
        words[0],
        _recipe(recipe, settings),
        words[2],
        _competition(competition),
        ["./run.sh", *words, *([f"--name={name}"] if name else [])],
        device,
        threads,
    )
    with hushed() if quiet else nullcontext():
        return _done(task.start(name))


def resume(run: AnyRun) -> Run:
    """Continue a run that was stopped, to the same bytes. A finished run is returned unchanged."""
    return _done(find(run))


def find(run: AnyRun) -> Run:
    """Return the run with that name, or in that folder. Raises UserError with the nearest name."""
    return run if isinstance(run, Run) else Run.find(str(run))


def load(run: AnyRun, device: str | None = None) -> Predictor:
    """Return a finished run, soup or ensemble as a torch module, with `.classes` and `.predict(pictures)`.

    `module(images)` takes float32 [B, C, H, W] in [0, 1] and returns log-probabilities float32 [B, K].
    """
    return Predictor(find(run), device=device)


def predict(run: AnyRun, pictures: predictor.Picture | Sequence[predictor.Picture]) -> Predictions:
    """Return a finished run's predictions for pictures: files, a folder, or arrays uint8 [H, W, C];
    see `Predictions`.
    """
    from featherweight.data import listing

    if isinstance(pictures, str | Path) and Path(pictures).is_dir():
        pictures = [Path(pictures) / name for name in listing.walk(Path(pictures))]
    return load(run).predict(pictures)


def compare(*runs: AnyRun, picture: str | Path | None = None) -> Comparison:
    """Compare finished runs on their held-out images, and draw their curves to `picture` (default:
    reports/compare.png).
    """
    from featherweight.runs import comparison

    names = [str(find(run).folder) for run in runs]
    path = Path(picture) if picture else paths.reports() / "compare.png"
    return Comparison(*comparison.compare(comparison.chosen(names, None, []), path))


def soup(*runs: AnyRun, greedy: bool = False, name: str | None = None) -> Run:
    """Average the weights of several runs of one model; return the result, scored like a run."""
    from featherweight.runs import soup as soups

    names = [str(find(run).folder) for run in runs]
    return _done(soups.soup(names, greedy=greedy, name=name, command=["./run.sh", "soup", *names]))


def ensemble(*runs: AnyRun, fit: bool = False, name: str | None = None) -> Run:
    """Average the probabilities of several runs. Raises OverBudget if their parameters together are over the limit."""
    from featherweight.runs import ensemble as ensembles

    names = [str(find(run).folder) for run in runs]
    averaged, _ = ensembles.ensemble(names, fit=fit, name=name, command=["./run.sh", "ensemble", *names])
    return averaged


def list_runs(competition: str | None = None, where: str | Sequence[str] = ()) -> pd.DataFrame:
    """Return one row per finished run, the best first, that meets all conditions: `list_runs(where="seed=1")`.

    Conditions are those of `./run.sh runs --where`, such as `optimizer.lr>0.1`.
    """
    from featherweight.runs import query

    return query.ordered(query.chosen(competition, [where] if isinstance(where, str) else where), None)


def write_report(run: AnyRun) -> Path:
    """Write a finished run's report, one HTML file that needs no network; return its path."""
    from featherweight.report import write

    return write.write(find(run))


def init(folder: str | Path, **options: Any) -> str:
    """Describe a folder or archive of images as a competition, with the options of `./run.sh init`; return its name."""
    from featherweight.describe import competition_file

    report = competition_file.init(Path(folder), competition_file.Options(**options))
    print("\n".join([*report.found, *report.assumed]))
    return report.path.stem


def submit(run: AnyRun, *, message: str | None = None, again: bool = False, wait_minutes: float = 0) -> str:
    """Upload a run's checked submission to Kaggle; return the result as a sentence."""
    from featherweight.kaggle import submit_and_score

    return submit_and_score.submit(str(find(run).folder), message=message, again=again, wait_minutes=wait_minutes)


def _done(run: Run) -> Run:
    if not (run.is_finished and run.is_ensemble):
        pipeline.execute(run)
    return run


def _key(name: str) -> str:
    return name.replace("__", ".")


def _recipe(recipe: str | Recipe, settings: dict[str, Any]) -> Recipe:
    changes = [Override(_key(name), value, f"{name}={value!r}") for name, value in settings.items()]
    if isinstance(recipe, str):
        return config.load_recipe(recipe, changes)
    return config.changed(recipe, changes)


def _competition(competition: str | Competition) -> Competition:
    return competition if isinstance(competition, Competition) else config.load_competition(competition)


def _name(source: str | Recipe | Competition, default: str) -> str:
    return Path(source).stem if isinstance(source, str) else default
