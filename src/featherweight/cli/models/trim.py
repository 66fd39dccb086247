"""Cut a network that is over the limit to at most 0.5 % below it, keeping the most important weights.

WHAT is a recipe, a run, timm/NAME or torchvision/NAME; --set model.weights=FILE (or package:NAME) gives the weights.
This command needs torch-pruning. It writes a recipe and, beside it, a file of weights; the recipe is trained and
exported like any other, without torch-pruning.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from featherweight import paths
from featherweight.cli.arguments import add_competition, count
from featherweight.cli.commands import typed

if TYPE_CHECKING:
    from featherweight.config import Competition, Recipe
    from featherweight.runs.run import Run

LIBRARIES = ("timm/", "torchvision/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `trim`."""
    parser.add_argument("what", metavar="WHAT", help="a recipe, a run, timm/NAME or torchvision/NAME")
    parser.add_argument(
        "--limit", type=count, metavar="N", help="maximum number of parameters (default: the competition's limit)"
    )
    add_competition(
        parser, None, "the competition that sets classes, image size and limit (default: the run's, or digits)"
    )
    text = "change a key: model.weights=FILE"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=text)
    parser.add_argument("--name", metavar="NAME", help="the new recipe's name (default: WHAT_N)")


def run(arguments: argparse.Namespace) -> int:
    """Write the recipe and the weights; print the parameters."""
    from featherweight import budget
    from featherweight.budget import trim
    from featherweight.errors import UserError
    from featherweight.report import tables

    recipe, name, competition, trained = _subject(arguments)
    limit = competition.limit.parameters if arguments.limit is None else arguments.limit
    last = arguments.what.rstrip("/").rpartition("/")[2].removesuffix(".yaml")
    stem = arguments.name or paths.plain(f"{last}_{limit}")
    paths.refuse_name(stem, "--name")
    path = paths.own_recipe(stem, "--name")
    if path.exists():
        raise UserError(f"--name {stem}: there is already a recipe {path}; choose another name")
    trim.refuse_uncuttable(recipe.model)
    seen = competition.seen_by(recipe)
    model, fresh = (trained.load_model(), ()) if trained else trim.started(recipe.model, seen)
    cut = trim.trim(model, recipe.model, seen, limit)
    trimmed = trim.as_recipe(cut, recipe, path, bool(trained))
    weighed = budget.weigh(trimmed, competition, stem)
    trim.write(cut, trimmed, path, fresh)
    tables.weigh_in(weighed)
    below = (limit - cut.after) / limit
    print(f"{arguments.what}: {cut.before:,} parameters cut to {cut.after:,}, {below:.2%} below {limit:,}")
    print(f"wrote {paths.shown(path)}" + (" and its weights beside it" if trimmed.model.arguments["weights"] else ""))
    print(f"next: {typed(stem, '--competition', name)}")
    return 0


def _subject(arguments: argparse.Namespace) -> tuple[Recipe, str, Competition, Run | None]:
    """Return the recipe of the model to cut, the competition's name and object, and the run that trained it, if any."""
    from featherweight import config
    from featherweight.errors import UserError
    from featherweight.models.pretrained_weights import starts_pretrained
    from featherweight.runs.run import Run
    from featherweight.runs.weigh_run import is_run

    what, changes = arguments.what, arguments.set
    if is_run(what):
        run = Run.find(what)
        if arguments.competition:
            raise UserError(f"--competition: the run {run.name} has its own, {run.competition_name}; remove the option")
        if run.is_ensemble:
            raise UserError(f"{run.name} is an ensemble; cut one of {', '.join(run.members)}")
        return run.recipe_with(changes), run.competition_name, run.competition, run
    name = arguments.competition or "digits"
    competition = config.load_competition(name)
    if not what.startswith(LIBRARIES):
        return config.load_recipe(what, changes), name, competition, None
    changes = [f"model={what}", *changes]
    recipe = config.load_recipe("_base", changes)
    if starts_pretrained(recipe.model):
        recipe = config.load_recipe("_finetune", changes)
    return recipe, name, competition, None
