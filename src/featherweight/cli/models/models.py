"""List the families of models with their recipes, weighed; or the keys of one family."""

from __future__ import annotations

import argparse
from pathlib import Path

from featherweight import paths
from featherweight.cli.arguments import add_competition
from featherweight.errors import UserError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `models` takes."""
    parser.add_argument("family", metavar="FAMILY", nargs="?", help="show this family's keys")
    add_competition(parser)
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="PNG",
        nargs="?",
        const=paths.reports() / "models.png",
        help="draw parameters against multiply-adds, as reports/models.png or another file",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the families, or one family's keys."""
    paths.find_config("competitions", arguments.competition)

    from featherweight import budget, config
    from featherweight.models import MODELS
    from featherweight.report import model_summary, tables

    family = arguments.family
    if family:
        if family not in MODELS:
            known = ", ".join(MODELS)
            raise UserError(f"models: there is no family '{family}'{nearest(family, MODELS)}; there are {known}")
        tables.family(model_summary.summary(family), model_summary.arguments(family))
        print("next: ./run.sh check RECIPE --set model.KEY=VALUE")
        return 0
    competition = config.load_competition(arguments.competition)
    recipes = {name: config.load_recipe(name) for name in paths.config_names("recipes")}
    weighed = budget.weigh_all(recipes, competition)
    tables.families(
        model_summary.by_family(recipes, weighed), {family: model_summary.summary(family) for family in MODELS}
    )
    if arguments.plot:
        model_summary.plot(weighed, arguments.plot)
        print(f"wrote {paths.shown(arguments.plot)}")
    print("next: ./run.sh models FAMILY for its keys, ./run.sh fill FAMILY to fill the limit")
    return 0
