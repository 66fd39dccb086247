"""The README and the pages of docs/: everything that they name exists, and what they quote is correct."""

import re

import pytest

from conftest import ROOT
from featherweight import paths
from featherweight.cli.commands import COMMANDS, SHELL
from featherweight.cli.parser import build, options
from featherweight.paths import find_config

README = (ROOT / "README.md").read_text()
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "docs").glob("*.md")}
PAGES["README.md"] = README
LINKS = sorted(
    {(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\(((?!https?:)[^)#]+)(?:#[^)]*)?\)", text)}
)
# Names that the text introduces: a user's own recipes, and placeholders.
TYPED = {"RECIPE", "PLAN", "COMMAND", "..."}


def commands(text):
    """Return every `./run.sh ...` of a page, without its comment."""
    return [line.split("  ")[0] for line in re.findall(r"\./run\.sh ([^`#\n|]+)", text)]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_it_names_is_one_with_these_options(page):
    known = {*COMMANDS, *paths.config_names("recipes"), *SHELL, *TYPED}
    for words in (line.split() for line in commands(PAGES[page])):
        first = words[0].rstrip(".,;:)")
        if not re.fullmatch(r"[\w.]+", first):
            continue
        assert first in known, first
        command = first if first in COMMANDS else "train"
        if first in ("test", "bench", "install", "COMMAND", "..."):
            continue
        takes = {*options(build([command]), command), "--help"}
        for option in (word.split("=")[0].rstrip(".,;:)") for word in words if re.match(r"--\w", word)):
            assert option in takes or option == "--epochs", f"{command} has no {option}"


@pytest.mark.parametrize("page", PAGES)
def test_every_benchmark_it_names_is_one(page):
    for name in re.findall(r"\./run\.sh bench (\w+)", PAGES[page]):
        assert (ROOT / "benchmarks" / f"{name}.py").is_file(), name


def test_the_readme_is_short_and_names_every_page():
    assert len(README.splitlines()) <= 150
    for page in PAGES:
        if page != "README.md":
            assert f"]({page})" in README, page


def test_the_answer_to_a_mistake_that_it_shows_is_the_answer(home, capsys):
    from featherweight.cli import main

    asked, answer = re.search(r"\$ \./run\.sh (.*--epochs 5)\n(error: .*)\n", README).groups()
    assert main.main(asked.split()) == 2
    assert capsys.readouterr().err.strip() == answer


def test_the_recipe_that_is_shown_is_the_recipe():
    shown = re.search(r"This is all of `wrn16_4.yaml`:\n\n```yaml\n(.*?)```", PAGES["docs/recipes.md"], re.S)
    assert shown
    assert shown.group(1) == find_config("recipes", "wrn16_4").read_text()


def test_the_tree_that_is_drawn_is_there():
    tree = re.search(r"## The tree\n\n```\n(.*?)```", PAGES["docs/architecture.md"], re.S)
    assert tree
    folders: list[str] = []
    for line in tree.group(1).splitlines():
        entry = line.split("  ")[0] if not line.startswith(" ") else line.strip().split("  ")[0]
        depth = (len(line) - len(line.lstrip())) // 4
        folders = [*folders[:depth], entry.rstrip("/")] if entry.endswith("/") else folders[:depth]
        parent = ROOT.joinpath(*(folders[:-1] if entry.endswith("/") else folders))
        for name in entry.split(", "):
            assert (parent / name.rstrip("/")).exists(), f"{parent / name} is in the tree and nowhere else"


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_its_links_lead_somewhere(page, link):
    assert ((ROOT / page).parent / link).exists()


@pytest.mark.parametrize("page", PAGES)
def test_its_links_lead_to_headings(page):
    for link, anchor in re.findall(r"\]\(((?!https?:)[^)#]*)#([^)]*)\)", PAGES[page]):
        text = ((ROOT / page).parent / link if link else ROOT / page).read_text()
        headings = re.findall(
            r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
        )
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor
