"""The README is the front door: what it names exists, and what it quotes is so."""

import re

import pytest

from conftest import ROOT
from featherweight import paths
from featherweight.cli.commands import COMMANDS
from featherweight.paths import find_config

TEXT = (ROOT / "README.md").read_text()
TREE = re.search(r"## The house\n\n```\n(.*?)```", TEXT, re.S)


def test_every_command_it_names_is_one():
    known = {*COMMANDS, *paths.config_names("recipes"), "test", "bench", "install", "RECIPE", "..."}
    named = set(re.findall(r"\./run\.sh ([\w.]+)", TEXT))
    assert {"wrn16_4", "test", "check", "resume"} <= named
    assert named <= known, named - known


def test_every_benchmark_it_names_is_one():
    for name in re.findall(r"\./run\.sh bench (\w+)", TEXT):
        assert (ROOT / "benchmarks" / f"{name}.py").is_file(), name


def test_the_recipe_it_shows_is_the_recipe():
    shown = re.search(r"This is all of `wrn16_4.yaml`:\n\n```yaml\n(.*?)```", TEXT, re.S)
    assert shown
    assert shown.group(1) == find_config("recipes", "wrn16_4").read_text()


def test_the_tree_it_draws_is_there():
    assert TREE
    folders: list[str] = []
    for line in TREE.group(1).splitlines():
        entry = line.split("  ")[0] if not line.startswith(" ") else line.strip().split("  ")[0]
        depth = (len(line) - len(line.lstrip())) // 4
        folders = [*folders[:depth], entry.rstrip("/")] if entry.endswith("/") else folders[:depth]
        parent = ROOT.joinpath(*(folders[:-1] if entry.endswith("/") else folders))
        for name in entry.split(", "):
            assert (parent / name.rstrip("/")).exists(), f"{parent / name} is in the README's tree and nowhere else"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!https?:)[^)#]+)\)", TEXT))))
def test_its_links_lead_somewhere(link):
    assert (ROOT / link).is_file()
