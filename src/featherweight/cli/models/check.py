"""Weigh a recipe against a competition's limit; nothing is trained. Exit code 3 when it is over."""

from __future__ import annotations

import argparse
from pathlib import Path

from featherweight import paths
from featherweight.cli.arguments import add_configuration, add_recipe, overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `check` takes."""
    add_recipe(parser, ", or 'all'")
    add_configuration(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the weigh-in."""
    if arguments.recipe != "all":
        paths.find_config("recipes", arguments.recipe, also=["all"])

    from featherweight import budget, config
    from featherweight.models import build, start_published
    from featherweight.models.published import starts_published
    from featherweight.report import tables

    competition = config.load_competition(arguments.competition)
    if arguments.recipe == "all":
        changes = overrides(arguments)
        recipes = {name: config.load_recipe(name, changes) for name in paths.config_names("recipes")}
        tables.weigh_ins(budget.weigh_all(recipes, competition))
        print(f"next: ./run.sh RECIPE --competition {arguments.competition}, with one that makes weight")
        return 0
    recipe = config.load_recipe(arguments.recipe, overrides(arguments))
    weighed = budget.weigh(recipe, competition, Path(arguments.recipe).stem, cross_check=True)
    tables.weigh_in(weighed)
    weighed.refuse_if_over()
    shape = competition.seen_by(recipe).shape
    if starts_published(recipe.model):
        print(start_published(build(recipe.model, shape), recipe.model, shape))
    print(f"next: ./run.sh {arguments.recipe} --competition {arguments.competition}")
    return 0
