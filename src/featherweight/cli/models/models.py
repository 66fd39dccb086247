"""List the recipes with their purpose and parameters, the keys of one family, or networks with pretrained weights."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from featherweight import paths
from featherweight.cli.arguments import add_competition, how_many, output_file
from featherweight.errors import UserError, nearest

if TYPE_CHECKING:
    from featherweight.config import Competition


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `models`."""
    parser.add_argument("family", metavar="FAMILY", nargs="?", help="show the keys of this family")
    add_competition(parser)
    parser.add_argument(
        "--pretrained",
        action="store_true",
        help="list timm's networks with pretrained weights that fit the limit, the most accurate on ImageNet first",
    )
    parser.add_argument("--count", type=how_many, default=25, help="number of these to show (default: 25)")
    parser.add_argument(
        "--plot",
        type=output_file,
        metavar="PNG",
        nargs="?",
        const=paths.reports() / "models.png",
        help="draw parameters against multiply-adds (default: reports/models.png)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the recipes, one family's keys, or pretrained networks."""
    paths.find_config("competitions", arguments.competition)

    from featherweight import budget, config
    from featherweight.config import purpose
    from featherweight.models import MODELS
    from featherweight.report import model_summary, tables

    family = arguments.family
    if family:
        if family not in MODELS:
            known = ", ".join(MODELS)
            raise UserError(f"models: there is no family '{family}'{nearest(family, MODELS)}; choose one of {known}")
        tables.family(model_summary.summary(family), model_summary.arguments(family))
        print("next: ./run.sh check RECIPE --set model.KEY=VALUE")
        return 0
    if arguments.pretrained:
        return _pretrained(config.load_competition(arguments.competition), arguments)
    groups: dict[str, list[str]] = {"best": [], "yours": [], "networks": []}
    for name in paths.config_names("recipes"):
        groups.setdefault(purpose.group(name), []).append(name)
    rows = groups.pop("logbook", [])
    recipes = {name: config.load_recipe(name) for names in groups.values() for name in names}
    weighed = budget.weigh_all(recipes, config.load_competition(arguments.competition))
    tables.families(weighed, {name: recipe.model.name for name, recipe in recipes.items()}, groups)
    used = {recipe.model.name for recipe in recipes.values()}
    if unused := [family for family in MODELS if family not in used]:
        print(f"families without a recipe: {', '.join(unused)}")
    print(f"{len(rows)} more recipes are experiments of the logbook: see docs/logbook.md")
    if arguments.plot:
        model_summary.plot(weighed, arguments.plot)
        print(f"wrote {paths.shown(arguments.plot)}")
    print("next: ./run.sh models FAMILY for its keys, ./run.sh fill FAMILY to fill the limit")
    return 0


def _pretrained(competition: Competition, arguments: argparse.Namespace) -> int:
    from featherweight.models import pretrained_nets
    from featherweight.report import tables

    limit, classes = competition.limit, len(competition.classes)
    nets = pretrained_nets.fitting(limit.parameters, classes)
    if not nets:
        raise UserError(f"models: no network with pretrained weights has {limit.parameters:,} parameters or fewer")
    tables.pretrained_nets(nets[: arguments.count], classes, limit.parameters)
    print(f"{len(nets)} fit the limit; accuracy, as published by timm, is top-1 on ImageNet-1k at the size shown")
    if competition.image.channels == 1:
        print("parameters are counted for colour; for grey images the first layer has a third of its weights")
    if not limit.allow_pretrained:
        print(f"{competition.title} does not allow pretrained weights (limit.allow_pretrained in its file)")
    there = shlex.quote(arguments.competition)
    print(f"next: ./run.sh check finetune --competition {there} --set model.variant={nets[0].model}")
    return 0
