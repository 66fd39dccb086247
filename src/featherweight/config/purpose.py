"""The purpose of a recipe, from the comment at the top of its file."""

from __future__ import annotations

import re
import textwrap

from featherweight import paths

FIGURES = re.compile(r"[:,]? [\d,]+ parameters|\. |; | \(")  # what follows is in other columns of the table


def head(recipe: str) -> str:
    """Return a recipe's head comment as one line, without the command."""
    words = []
    for line in paths.find_config("recipes", recipe).read_text().splitlines():
        if not line.startswith("#") or line.startswith("#   ./run.sh"):
            break
        words.append(line.removeprefix("#").strip())
    return " ".join(words)


def purpose(recipe: str, width: int = 100) -> str:
    """Return the beginning of the head comment, up to its numbers, as one line of at most `width` characters."""
    return textwrap.shorten(FIGURES.split(head(recipe), maxsplit=1)[0].rstrip(".:, "), width, placeholder=" ...")


def group(recipe: str) -> str:
    """Return the folder of a recipe: `best`, `networks`, `logbook`, ..., or `yours` for recipes beside these."""
    folders = paths.find_config("recipes", recipe).parts
    below = folders[len(folders) - folders[::-1].index("recipes") : -1] if "recipes" in folders else ()
    return below[0] if below else "yours"
