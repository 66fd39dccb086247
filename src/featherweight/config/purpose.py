"""What a recipe is for, as the comment at the head of its file says."""

from __future__ import annotations

import re
import textwrap

from featherweight import paths

FIGURES = re.compile(r"[:,]? [\d,]+ parameters|\. |; | \(")  # from here on it repeats other columns


def head(recipe: str) -> str:
    """A recipe's head comment on one line, without the command."""
    words = []
    for line in paths.find_config("recipes", recipe).read_text().splitlines():
        if not line.startswith("#") or line.startswith("#   ./run.sh"):
            break
        words.append(line.removeprefix("#").strip())
    return " ".join(words)


def purpose(recipe: str, width: int = 100) -> str:
    """The beginning of the head comment, up to its figures, in one line of at most `width` letters."""
    return textwrap.shorten(FIGURES.split(head(recipe), maxsplit=1)[0].rstrip(".:, "), width, placeholder=" ...")


def group(recipe: str) -> str:
    """The folder that a recipe lies in: `best`, `networks`, `logbook`, or `yours` beside these."""
    folders = paths.find_config("recipes", recipe).parts
    below = folders[len(folders) - folders[::-1].index("recipes") : -1] if "recipes" in folders else ()
    return below[0] if below else "yours"
