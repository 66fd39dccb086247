"""List the largest models of a family within the parameter limit, each as a line of YAML for a recipe."""

from __future__ import annotations

import argparse

from featherweight import paths
from featherweight.cli.arguments import add_competition, add_max_macs, count, how_many
from featherweight.cli.commands import typed
from featherweight.errors import UserError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fill`."""
    parser.add_argument(
        "family", metavar="FAMILY", help="wrn, cifar_resnet, efficientnet, mobilenet_v2, densenet, fastnet, timm/NAME"
    )
    add_competition(parser, text="the competition that sets classes, image size and limit")
    parser.add_argument("--limit", type=count, help="maximum number of parameters (default: the competition's limit)")
    add_max_macs(parser)
    parser.add_argument("--count", type=how_many, default=10, help="number of models to show (default: 10)")
    parser.add_argument("--write", metavar="NAME", help="write the best one as the recipe NAME")


def run(arguments: argparse.Namespace) -> int:
    """Print the models; with --write, store the best as a recipe."""
    if arguments.write is not None:
        paths.refuse_name(arguments.write, "--write")
    paths.find_config("competitions", arguments.competition)

    import time

    from featherweight import config
    from featherweight.budget import solver
    from featherweight.report import tables

    family = arguments.family
    if family not in solver.FILLABLE and not family.startswith(solver.TIMM):
        known = ", ".join((*solver.FILLABLE, "timm/NAME"))
        raise UserError(f"fill: no family '{family}'{nearest(family, solver.FILLABLE)}; choose one of {known}")
    began = time.monotonic()
    members, counted = solver.fill(
        family, config.load_competition(arguments.competition), arguments.limit, arguments.max_macs
    )
    if not members:
        raise UserError(f"fill: no {family} is that small; raise --limit or --max-macs, or choose another family")
    tables.members(members[: arguments.count], counted, time.monotonic() - began)
    if arguments.write:
        path = paths.own_recipe(arguments.write, "--write")
        solver.write(members[0], arguments.write, path)
        print(f"wrote {path}\nnext: {typed(arguments.write, '--competition', arguments.competition)}")
    else:
        print("next: paste a line into a recipe, or add --write NAME to store the first as a recipe")
    return 0
