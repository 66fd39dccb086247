"""Draw a recipe's model: its stages to reports/RECIPE.model.png, its graph to reports/RECIPE.model.html."""

from __future__ import annotations

import argparse
from pathlib import Path

from featherweight import paths
from featherweight.cli.arguments import add_configuration, add_recipe, overrides
from featherweight.cli.commands import typed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `draw`."""
    add_recipe(parser)
    add_configuration(parser)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="output folder (default: reports/)")


def run(arguments: argparse.Namespace) -> int:
    """Write both drawings."""
    paths.find_config("recipes", arguments.recipe)

    from featherweight import config
    from featherweight.report import model_summary

    recipe = config.load_recipe(arguments.recipe, overrides(arguments))
    competition = config.load_competition(arguments.competition)
    name = Path(arguments.recipe).stem
    path = (arguments.out or paths.reports()) / f"{name}.model.png"
    model_summary.draw(recipe, competition, name, path)
    print(f"wrote {paths.shown(path)}")
    model_summary.graph(recipe, competition, path.with_suffix(".html"))
    print(f"wrote {paths.shown(path.with_suffix('.html'))}")
    print(f"next: {typed('check', arguments.recipe, '--competition', arguments.competition)}")
    return 0
