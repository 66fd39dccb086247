"""Download a Kaggle competition's data into data/, unpack, check and describe them, with the options of `init`."""

from __future__ import annotations

import argparse
import shlex

from featherweight import paths
from featherweight.cli.arguments import COMPETITIONS, completed
from featherweight.cli.data.init import add_description, describe, description
from featherweight.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `download`."""
    text = "a competition's name here, or on Kaggle (the end of its address)"
    completed(parser.add_argument("competition", metavar="NAME", help=text), COMPETITIONS)
    add_description(parser)


def run(arguments: argparse.Namespace) -> int:
    """Download, unpack and describe the data."""
    from featherweight.kaggle import download as kaggle_download

    name, options = arguments.competition, description(arguments, arguments.competition)
    stated = list(arguments.command_line[2:])
    stated.remove(name)
    described = name in paths.config_names("competitions")
    if described and stated:
        raise UserError(
            f"{' '.join(stated)}: the competition {name} is described already: change "
            f"{paths.find_config('competitions', name)}, or delete it and repeat this command"
        )
    if stated:
        from featherweight.describe import competition_file

        competition_file.planned(options, name)
    folder = kaggle_download.download(name)
    print(f"{folder} is ready")
    if described:
        print(f"next: ./run.sh auto --competition {name} --minutes 20")
        return 0
    try:
        describe(folder, options)
    except UserError as error:
        print(f"no competition file was written: {error}")
        print(f"next: ./run.sh init {shlex.join([str(folder), '--kaggle', name, *stated])}, when that is fixed")
    return 0
