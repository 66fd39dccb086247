"""Write recipe.schema.json and competition.schema.json, which editors check YAML files against."""

from __future__ import annotations

import argparse
from pathlib import Path

from featherweight import paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `schema` takes."""
    parser.add_argument("folder", type=Path, nargs="?", help="where to (default: configs)")


def run(arguments: argparse.Namespace) -> int:
    """Write both schemas."""
    from featherweight import atomic, config

    folder = arguments.folder or paths.home() / "configs"
    for kind in (config.Recipe, config.Competition):
        path = folder / f"{kind.__name__.lower()}.schema.json"
        atomic.write_text(path, config.json_schema(kind))
        print(f"wrote {path}")
    print("next: put `# yaml-language-server: $schema=../recipe.schema.json` on top of a recipe")
    return 0
