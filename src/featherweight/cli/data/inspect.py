"""Check a competition's data for problems: duplicates, wrong labels, leakage between train and holdout, shift."""

from __future__ import annotations

import argparse

from featherweight import paths
from featherweight.cli.arguments import COMPETITIONS, completed, output_file
from featherweight.cli.commands import typed
from featherweight.errors import count_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `inspect`."""
    text = "a competition's name, or the path of its file"
    completed(parser.add_argument("competition", metavar="COMPETITION", help=text), COMPETITIONS)
    parser.add_argument(
        "--list",
        type=output_file,
        metavar="FILE.csv",
        help="only write a list of the images: id, path, class, group and part",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page about the data, or the list of images."""
    paths.find_config("competitions", arguments.competition)

    if arguments.list is not None:
        from featherweight.inspection import listing_csv

        print(f"wrote {arguments.list}: {count_of(listing_csv.write(arguments.competition, arguments.list), 'image')}")
        print(f"next: {typed('inspect', arguments.competition)}")
        return 0

    from featherweight.inspection import command

    print(f"wrote {command.inspect(arguments.competition)}")
    print(f"next: {typed('auto', '--competition', arguments.competition, '--minutes', '20')}")
    return 0
