"""Recipes (what to train) and competitions (what to win), declared.

A recipe never knows paths or classes; a competition never knows models. Both are YAML 1.2 files under `configs/`, found
first in the workspace and then beside the package, or named by a path.
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
    """The recipe called `name` (or stored at that path), parents merged under it, `key.path=value` overrides on top."""
    return load(Recipe, "recipes", name, overrides)


def load_competition(name: str, overrides: Sequence[str] = ()) -> Competition:
    """The competition called `name` (or stored at that path)."""
    return load(Competition, "competitions", name, overrides)


def store(config: Recipe | Competition, path: Path) -> None:
    """Write the resolved configuration, every default spelled out, so that it loads to the same thing for good."""
    atomic.write_text(path, yaml.dump(config.model_dump(mode="json")))


def json_schema(kind: type[Section]) -> str:
    """The JSON schema of a recipe or competition file, for editors."""
    schema = kind.model_json_schema()
    schema["properties"]["extends"] = {"type": "string", "description": "the parent whose keys this file changes"}
    schema["required"] = []  # a child may leave to its parent what it does not change
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
