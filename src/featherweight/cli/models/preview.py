"""The common part of `schedule` and `augment`: a figure of a part of a recipe, without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from featherweight import paths
from featherweight.cli.arguments import add_configuration, add_recipe, output_file, overrides
from featherweight.cli.commands import typed


def add_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare the arguments of a command that draws `what`."""
    add_recipe(parser)
    add_configuration(parser)
    parser.add_argument("--out", type=output_file, help=f"output file (default: reports/RECIPE.{what}.png)")


def run(arguments: argparse.Namespace, what: str) -> int:
    """Draw `what`, a function of `report.preview`."""
    paths.find_config("recipes", arguments.recipe)

    from featherweight import config
    from featherweight.report import preview

    path = arguments.out or paths.reports() / f"{Path(arguments.recipe).stem}.{what}.png"
    recipe = config.load_recipe(arguments.recipe, overrides(arguments))
    competition = config.load_competition(arguments.competition)
    print(getattr(preview, what)(recipe, competition, path))
    print(f"wrote {paths.shown(path)}")
    print(f"next: {typed(arguments.recipe, '--competition', arguments.competition)}")
    return 0
