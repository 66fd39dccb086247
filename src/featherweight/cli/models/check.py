"""Count the parameters of a recipe against a competition's limit; nothing is trained. Exit code 3 if it is over."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from featherweight import paths
from featherweight.cli.arguments import add_configuration, add_recipe, overrides, repeated
from featherweight.cli.commands import typed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `check`."""
    add_recipe(parser, ", or 'all'")
    add_configuration(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the count."""
    own = is_own(arguments.recipe)
    if arguments.recipe != "all" and not own:
        paths.find_config("recipes", arguments.recipe, also=["all"])

    from featherweight import budget, config
    from featherweight.config.contradictions import say_contradictions
    from featherweight.models import build, start_pretrained
    from featherweight.models.pretrained_weights import starts_pretrained
    from featherweight.report import tables
    from featherweight.runs.request import refuse_what_does_not_fit

    competition = config.load_competition(arguments.competition)
    if arguments.recipe == "all":
        changes = overrides(arguments)
        recipes = {name: config.load_recipe(name, changes) for name in paths.config_names("recipes")}
        tables.weigh_ins(budget.weigh_all(recipes, competition))
        print(f"next: ./run.sh RECIPE --competition {shlex.quote(arguments.competition)}, with one within the limit")
        return 0
    changes = [f"model={arguments.recipe}", *overrides(arguments)] if own else overrides(arguments)
    recipe = config.load_recipe("_base" if own else arguments.recipe, changes)
    name = arguments.recipe if own else Path(arguments.recipe).stem
    weighed = budget.weigh(recipe, competition, name, cross_check=True)
    tables.weigh_in(weighed)
    weighed.refuse_if_over()
    refuse_what_does_not_fit(recipe, competition)
    say_contradictions(recipe)
    shape = competition.seen_by(recipe).shape
    if starts_pretrained(recipe.model):
        print(start_pretrained(build(recipe.model, shape), recipe.model, shape))
    what = ["RECIPE", "--set", f"model={arguments.recipe}"] if own else [arguments.recipe]
    print(f"next: {typed(*what, '--competition', arguments.competition, *repeated(arguments))}")
    return 0


def is_own(name: str) -> bool:
    """True for a network (FILE.py:NAME, PACKAGE.MODULE:NAME, timm/NAME or torchvision/NAME), false for a recipe."""
    return (":" in name or name.startswith(("timm/", "torchvision/"))) and not Path(name).is_file()
