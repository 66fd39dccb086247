"""Download a Kaggle competition's data into data/, unpack, check and describe them."""

from __future__ import annotations

import argparse

from featherweight import paths
from featherweight.cli.arguments import COMPETITIONS, completed
from featherweight.cli.data.init import describe
from featherweight.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `download`."""
    text = "a competition's name here, or on Kaggle (the end of its address)"
    completed(parser.add_argument("name", metavar="NAME", help=text), COMPETITIONS)


def run(arguments: argparse.Namespace) -> int:
    """Download, unpack and describe the data."""
    from featherweight.kaggle import download as kaggle_download

    name = arguments.name
    folder = kaggle_download.download(name)
    print(f"{folder} is ready")
    if name in paths.config_names("competitions"):
        print(f"next: ./run.sh auto --competition {name} --minutes 20")
        return 0
    try:
        describe(folder, kaggle=name)
    except UserError as error:
        print(f"no competition file was written: {error}")
        print(f"next: ./run.sh init {folder} --kaggle {name}, when that is fixed")
    return 0
