"""Show training images as a recipe augments and mixes them."""

from __future__ import annotations

import argparse

from featherweight.cli.models import preview


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `augment`."""
    preview.add_arguments(parser, "augment")


def run(arguments: argparse.Namespace) -> int:
    """Write the figure."""
    return preview.run(arguments, "augment")
