"""Suggest what to use instead of an unknown word: a recipe's key with `--set`, or an option."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from typing import NoReturn

from featherweight import paths
from featherweight.cli.commands import typed
from featherweight.errors import UserError

# Names in other programs. The last part of a key (epochs, lr, momentum) needs no entry.
KEYS = {
    "batch": "train.batch_size",
    "bs": "train.batch_size",
    "learning_rate": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "decay": "optimizer.weight_decay",
    "opt": "optimizer",
    "scheduler": "schedule",
    "sched": "schedule",
    "size": "image.size",
    "img_size": "image.size",
    "image_size": "image.size",
    "imgsz": "image.size",
    "val_split": "split.holdout",
    "arch": "model",
    "tta": "predict.views",
    "amp": "train.precision",
    "smoothing": "loss.label_smoothing",
}
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


def refuse(command: str, rest: Sequence[str], words: Sequence[str], options: Collection[str]) -> NoReturn:
    """Raise UserError for `rest`, the part of `words` that `command` with its `options` does not know."""
    option = next((word for word in rest if word.startswith("-") and len(word) > 1), None)
    if option is None:
        named = "--competition" in options and rest[0] in paths.config_names("competitions")
        hint = f"did you mean --competition {rest[0]}? " if named else ""
        raise UserError(f"unexpected '{rest[0]}'; {hint}{typed(command)} --help shows what it takes")
    name, _, value = option.partition("=")
    if not value and words[-1] != option:
        following = words[list(words).index(option) + 1]
        value = "" if following.startswith("--") else following
    raise UserError(f"unknown option {name}; {_hint(options, name, value)}{typed(command)} --help shows all")


def _hint(options: Collection[str], name: str, value: str) -> str:
    plain = name.lstrip("-").replace("-", "_").lower()
    if (option := OPTIONS.get(plain, "")).split(" ")[0] in options:
        return f"did you mean {option}? "
    if "--set" in options and (hint := _keys(plain)):
        return hint.replace("VALUE", value or "VALUE")
    if "--plan" in options and plain in (*KEYS, *_by_last()):
        return "--plan writes a recipe, whose keys you can change; "
    names = {option.lstrip("-").replace("-", "_"): option for option in options}
    pool = [*names, *(_by_last() if "--set" in options else ())]
    close = next(iter(difflib.get_close_matches(plain, pool, n=1, cutoff=0.7)), "")
    if close in names:
        return f"did you mean {names[close]}? "
    return _keys(close).replace("VALUE", value or "VALUE") if close else ""


def _by_last() -> dict[str, list[str]]:
    """Return the recipe's keys by their last part."""
    from featherweight.config import Recipe
    from featherweight.config.reference import keys

    by_last: dict[str, list[str]] = {}
    for key in dict.fromkeys(keys(Recipe)):
        by_last.setdefault(key.rpartition(".")[2], []).append(key)
    return by_last


def _keys(plain: str) -> str:
    """Return how to set the key that `plain` names, by its whole name or its last part; an empty string if there is
    none.
    """
    from featherweight.config import Competition
    from featherweight.config.reference import keys

    plain = KEYS.get(plain, plain)
    by_last = _by_last()
    known = {key for same in by_last.values() for key in same}
    if "." in plain and plain not in known and plain in keys(Competition):
        return f"it is a key of the competition's file: {plain.replace('.', ': {', 1)}: VALUE}}; "
    options = [plain] if plain in known else by_last.get(plain, [])
    options = [key for key in options if key.startswith("train.")] or options
    if len(options) > 1:
        return f"a recipe's key is changed with --set KEY=VALUE, where KEY is {' or '.join(options[:4])}; "
    return f"a recipe's key is changed with --set {options[0]}=VALUE; " if options else ""
