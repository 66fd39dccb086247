"""Draw a recipe's learning rate over the epochs."""

from __future__ import annotations

import argparse

from featherweight.cli.models import preview


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `schedule`."""
    preview.add_arguments(parser, "schedule")


def run(arguments: argparse.Namespace) -> int:
    """Write the figure."""
    return preview.run(arguments, "schedule")
