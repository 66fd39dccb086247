"""The keys of a configuration by their full names, their last parts, or their names in other programs."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from featherweight.config.competition import Competition
from featherweight.config.recipe import Recipe
from featherweight.schema import Choice, OneOf, Section

# Names in other programs. The last part of a key (epochs, lr, momentum) needs no entry.
OTHER_PROGRAMS = {
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


def keys(kind: type[Section]) -> Iterator[str]:
    """Yield every key as `--set` takes it, with those of all choices: `seed`, `optimizer.lr`, `augment.0.padding`."""
    for key, field in kind.model_fields.items():
        inner, table = section_of(field), table_of(field)
        yield key
        within = [inner] if inner is not None else list(table.sections.values()) if table is not None else []
        place = f"{key}.0" if typing.get_origin(field.annotation) is list else key
        yield from (f"{place}.{deeper}" for section in within for deeper in keys(section))


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section class of a key, or None."""
    kinds = [field.annotation, *typing.get_args(field.annotation)]
    sections = (kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, Section) and kind is not Choice)
    return next(sections, None)


def table_of(field: FieldInfo) -> OneOf | None:
    """Return the table of names that a key takes, alone or in a list; None if there is none."""
    marks = [*field.metadata]
    for inner in typing.get_args(field.annotation):
        marks += typing.get_args(inner)[1:]
    return next((mark for mark in marks if isinstance(mark, OneOf)), None)


def by_last_part(kind: type[Section]) -> dict[str, list[str]]:
    """Return the keys of `kind` by their last part."""
    by_last: dict[str, list[str]] = {}
    for key in dict.fromkeys(keys(kind)):
        by_last.setdefault(key.rpartition(".")[2], []).append(key)
    return by_last


def called(kind: type[Section], word: str) -> list[str]:
    """Return the keys with this name, last part or name in another program; of several, those of `train`."""
    word = OTHER_PROGRAMS.get(word, word)
    by_last = by_last_part(kind)
    if any(word in same for same in by_last.values()):
        return [word]
    found = by_last.get(word, [])
    return [key for key in found if key.startswith("train.")] or found


def instead(kind: type[Section], word: Any, where: str) -> str:
    """Return what to write instead of `word`, an unknown key at `where`; an empty string if no key is called so."""
    other, file = (Competition, "competition") if kind is Recipe else (Recipe, "recipe")
    if where in other.model_fields:
        return f"; it is a key of the {file}: change it in configs/{file}s/NAME.yaml"
    found = called(kind, str(word))
    if found == [word] and "." in word and not re.search(r"\d", word):
        return f"; in a file write {word.replace('.', ': {')}: ...{'}' * word.count('.')}"
    found = [key for key in found if key != where]
    return f"; did you mean {' or '.join(found)}?" if 1 <= len(found) <= 3 else ""
