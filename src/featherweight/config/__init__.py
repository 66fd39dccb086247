"""Recipes (what to train) and competitions (what to win).

A recipe contains neither paths nor classes; a competition contains nothing about models. Both are YAML 1.2 files under
`configs/`. They are looked for first in the workspace, then in the package; a path works too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from featherweight import atomic, yaml
from featherweight.config.competition import Competition
from featherweight.config.merge import Override, changed, load
from featherweight.config.recipe import EarlyStopping, Pseudo, Recipe, Split
from featherweight.schema import Section

__all__ = [
    "Competition",
    "EarlyStopping",
    "Pseudo",
    "Recipe",
    "Split",
    "changed",
    "json_schema",
    "load_competition",
    "load_recipe",
    "store",
]


def load_recipe(name: str, overrides: Sequence[str | Override] = ()) -> Recipe:
    """Return the recipe called `name`, or stored at that path, with parents and `key.path=value` overrides applied."""
    return load(Recipe, "recipes", name, overrides)


def load_competition(name: str, overrides: Sequence[str] = ()) -> Competition:
    """Return the competition called `name`, or stored at that path."""
    return load(Competition, "competitions", name, overrides)


def store(config: Recipe | Competition, path: Path) -> None:
    """Write the configuration with every default, so that it loads to the same values in later versions."""
    atomic.write_text(path, yaml.dump(config.model_dump(mode="json")))


def json_schema(kind: type[Section]) -> str:
    """Return the JSON schema of a recipe or competition file, for editors."""
    schema = kind.model_json_schema()
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "name of the parent file, whose keys this file changes",
    }
    schema["required"] = []  # a child file may take any key from its parent
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
