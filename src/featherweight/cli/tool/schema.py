"""Write recipe.schema.json and competition.schema.json, with which editors check YAML files."""

from __future__ import annotations

import argparse
from pathlib import Path

from featherweight import paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `schema`."""
    parser.add_argument("folder", type=Path, nargs="?", help="output folder (default: configs)")


def run(arguments: argparse.Namespace) -> int:
    """Write both schemas."""
    from featherweight import atomic, config

    folder = arguments.folder or paths.home() / "configs"
    for kind in (config.Recipe, config.Competition):
        path = folder / f"{kind.__name__.lower()}.schema.json"
        atomic.write_text(path, config.json_schema(kind))
        print(f"wrote {path}")
    print("next: put `# yaml-language-server: $schema=../recipe.schema.json` as the first line of a recipe")
    return 0
