"""Suggest what to use instead of an unknown word: a recipe's key with `--set`, or an option."""

from __future__ import annotations

import difflib
import itertools
import os
import shlex
from collections.abc import Collection, Sequence
from typing import NoReturn

from featherweight import paths
from featherweight.cli.commands import TRAIN, typed
from featherweight.errors import UserError

MOST_WORDS = 30  # of a command line, in which a path with spaces is looked for

OPTIONS = {
    "gpu": "--device cuda",
    "cuda": "--device cuda",
    "cpu": "--device cpu",
    "gpus": "--procs",
    "nproc": "--procs",
    "cores": "--threads",
    "workers": "--threads",
    "data": "--competition",
    "dataset": "--competition",
    "output": "--out",
    "o": "--out",
    "random_seed": "--seed",
}


def refuse(
    command: str, rest: Sequence[str], words: Sequence[str], options: Collection[str], of_training: Collection[str]
) -> NoReturn:
    """Raise UserError for `rest`, the part of `words` that `command` with its `options` does not know.

    `of_training` are the options of a training.
    """
    option = next((word for word in rest if word.startswith("-") and len(word) > 1), None)
    if option is None:
        hint = _hint_for_word(rest[0], words, options)
        raise UserError(f"unexpected '{rest[0]}'; {hint}{typed(command)} --help shows what it takes")
    name, _, value = option.partition("=")
    if not value and words[-1] != option:
        following = words[list(words).index(option) + 1]
        value = "" if following.startswith("--") else following
    hint = _hint(options, name, value, of_training)
    if command == "resume" and (name == "--set" or _keys(_plain(name))):
        hint = "a run continues with its own recipe; for other values train anew: ./run.sh RECIPE --set KEY=VALUE; "
    raise UserError(f"unknown option {name}; {hint}{typed(command)} --help shows all")


def _hint_for_word(word: str, words: Sequence[str], options: Collection[str]) -> str:
    """Return what was meant with a word that belongs to no option: a name, a part of a setting or of a path."""
    if "--competition" in options and word in paths.config_names("competitions"):
        return f"did you mean --competition {word}? "
    at = list(words).index(word)
    for begin, end in itertools.combinations(range(1, min(len(words), MOST_WORDS) + 1), 2):
        path = " ".join(words[begin:end])
        if begin <= at < end and " " in path and os.path.exists(path):  # noqa: PTH110 - no error for a long one
            return f"a path with spaces needs quotes: {shlex.quote(path)}; "
    if "--set" not in options:
        return ""
    if words[at - 2] == "--set" and "=" not in words[at - 1].rstrip("="):  # KEY VALUE, KEY = VALUE, KEY =VALUE
        value = word.lstrip("=") or next(iter(words[at + 1 :]), "VALUE")
        return f"did you mean --set {words[at - 1].rstrip('=')}={value}? "
    return f"did you mean --set {word}? Each setting needs its own --set; " if "=" in word else ""


def _plain(option: str) -> str:
    return option.lstrip("-").replace("-", "_").lower()


def _hint(options: Collection[str], name: str, value: str, of_training: Collection[str]) -> str:
    plain = _plain(name)
    if (option := OPTIONS.get(plain, "")).split(" ")[0] in options:
        return f"did you mean {option}? "
    if "--set" in options and (hint := _keys(plain)):
        return hint.replace("VALUE", value or "VALUE")
    if "--plan" in options and _keys(plain):
        return "--plan writes a recipe, whose keys you can change; "
    if name in of_training and name not in options:
        return f"it is an option of {typed(TRAIN)}, and not of this command; "
    names = {option.lstrip("-").replace("-", "_"): option for option in options}
    pool = [*names, *(_last_parts() if "--set" in options else ())]
    close = next(iter(difflib.get_close_matches(plain, pool, n=1, cutoff=0.7)), "")
    if close in names:
        return f"did you mean {names[close]}? "
    return _keys(close).replace("VALUE", value or "VALUE") if close else ""


def _last_parts() -> Collection[str]:
    from featherweight.config import Recipe, key_names

    return key_names.by_last_part(Recipe)


def _keys(plain: str) -> str:
    """Return how to set the key that `plain` names, by its whole name or its last part; an empty string if there is
    none.
    """
    from featherweight.config import Competition, Recipe, key_names

    options = key_names.called(Recipe, plain)
    if not options and "." in plain and plain in key_names.keys(Competition):
        return f"it is a key of the competition's file: {plain.replace('.', ': {', 1)}: VALUE}}; "
    if len(options) > 1:
        return f"a recipe's key is changed with --set KEY=VALUE, where KEY is {' or '.join(options[:4])}; "
    return f"a recipe's key is changed with --set {options[0]}=VALUE; " if options else ""
