"""Configurations are found by their short names, in any folder."""

from collections import Counter

import pytest

from conftest import ROOT
from featherweight import paths
from featherweight.config import load_recipe
from featherweight.errors import UserError


def write(home, path, text="extends: tiny\n"):
    file = home / "configs" / "recipes" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_recipe_is_found_in_any_folder_and_extends_one_in_another(home):
    write(home, "theirs/deep/parent.yaml", "extends: tiny\nseed: 7\n")
    child = write(home, "mine/child.yaml", "extends: parent\n")
    assert paths.find_config("recipes", "child") == child
    assert load_recipe("child").seed == 7
    assert {"child", "parent", "wrn16_4", "a12"} <= set(paths.config_names("recipes"))


def test_the_workspace_comes_before_the_checkout(home):
    mine = write(home, "tiny.yaml", "extends: wrn16_4\n")
    assert paths.find_config("recipes", "tiny") == mine


def test_equal_names_are_an_error_that_names_both(home):
    write(home, "a/same.yaml")
    write(home, "b/same.yaml")
    with pytest.raises(
        UserError, match=r"two recipes called 'same', configs/recipes/a/same.yaml and configs/recipes/b"
    ):
        load_recipe("same")
    write(home, "child.yaml", "extends: same\n")
    with pytest.raises(UserError, match=r"child.yaml:1: extends: there are two recipes called 'same'"):
        load_recipe("child")


@pytest.mark.parametrize("name", ["/etc/passwd", "../networks/tiny", "networks/tiny", "*", "[t]iny", "", ".", "ti\0ny"])
def test_what_is_no_short_name_is_not_found(home, name):
    with pytest.raises(UserError, match="there is no recipe called"):
        paths.find_config("recipes", name)


def test_what_commands_write_does_not_hide_what_is_shipped(home, monkeypatch):
    assert paths.own_recipe("mine", "--write") == home / "configs" / "recipes" / "mine.yaml"
    shipped = write(home, "networks/wide.yaml")
    with pytest.raises(UserError, match=f"--write wide: there is a recipe {shipped} already: use another name"):
        paths.own_recipe("wide", "--write")


@pytest.mark.parametrize("kind", ["recipes", "competitions", "spaces"])
def test_every_shipped_name_is_there_once(kind):
    names = Counter(path.stem for path in (ROOT / "configs" / kind).rglob("*.yaml"))
    assert names
    assert set(names.values()) == {1}
