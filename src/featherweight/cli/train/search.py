"""Search a space of recipes: each candidate within the limit is trained briefly and scored."""

from __future__ import annotations

import argparse
import shlex
import sys

from featherweight import paths
from featherweight.cli.arguments import SPACES, add_competition, add_machine, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `search`."""
    text = "a space's name, or the path of a space file; see configs/spaces"
    completed(parser.add_argument("space", metavar="SPACE", help=text), SPACES)
    parser.add_argument("--trials", type=int, help="stop when the study has this many trained trials, of all workers")
    parser.add_argument("--hours", type=float, help="start no new trial after this many hours")
    add_competition(parser, default=None, text="a competition's name, or its file (default: the space's)")
    parser.add_argument("--name", help="name of the study and of the best recipe (default: the space's)")
    parser.add_argument(
        "--storage",
        metavar="WHERE",
        help="storage shared by several workers: a database address for optuna, redis://, or a journal file "
        "(default: a database file in studies/)",
    )
    add_machine(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search; print how to train the best recipe."""
    paths.find_config("spaces", arguments.space)
    if arguments.competition:
        paths.find_config("competitions", arguments.competition)

    from featherweight.search import command

    names = ("space", "trials", "hours", "competition", "name", "storage", "device", "threads")
    try:
        print(f"next: {command.search(**{name: getattr(arguments, name) for name in names})}")
    except KeyboardInterrupt:
        print(f"\nstopped; continue with: {shlex.join(arguments.command_line)}", file=sys.stderr)
        return 130
    return 0
