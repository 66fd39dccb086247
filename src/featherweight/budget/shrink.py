"""Smaller variants of a model over the limit: the options to give up first, and the argument to reduce."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from featherweight import yaml
from featherweight.models import FAMILY
from featherweight.models.family import Family
from featherweight.schema import Choice, OneOf

# Networks of the libraries, by name, as members of a family here.
SAME = {
    name: {"name": family.name, **arguments} for family in FAMILY.values() for name, arguments in family.same.items()
}


def nearest_that_fits(spec: Choice, families: OneOf, fits: Callable[[Choice], bool]) -> Choice | None:
    """Return the widest variant of a model that `fits`, with all else the same; None if there is none."""
    for heavy in _starts(spec, families):
        if heavy != spec and fits(heavy):
            return heavy
    key = "widths" if heavy.arguments.get("widths") else _family(heavy).narrows
    if key is None:
        return None
    whole = getattr(heavy, key)
    low, high = 0, round(whole * 100) if isinstance(whole, float) else whole if isinstance(whole, int) else 1000
    best = None
    while high - low > 1:  # what `low` stands for fits (0 is nothing at all), what `high` stands for doesn't
        middle = (low + high) // 2
        variant = _with(families, heavy, {key: _turned(heavy, whole, middle)})
        if fits(variant):
            low, best = middle, variant
        else:
            high = middle
    return best


def line(spec: Choice) -> str:
    """Return a model as it is written in a recipe: its name and what differs from the defaults."""
    return yaml.dump_flow({"name": spec.name, **spec.model_dump(mode="json", exclude_defaults=True)})


def _starts(spec: Choice, families: OneOf) -> Iterator[Choice]:
    """Yield the model, or the family here that it belongs to; then the same without the options given up first."""
    if "variant" in spec.arguments and spec.arguments["variant"] in SAME:
        same = families.validate(SAME[spec.arguments["variant"]])
        arguments = spec.model_dump(exclude_defaults=True, exclude={"name", "variant"})
        shared = {key: value for key, value in arguments.items() if key in type(same).model_fields}
        spec = _with(families, same, shared)
    yield spec
    gives_up = _family(spec).gives_up
    if gives_up:
        yield _with(families, spec, gives_up)


def _family(spec: Choice) -> Family:
    """Return the family of a model; for a user's own network one that has no narrower members."""
    return FAMILY.get(spec.name) or Family(spec.name, spec)


def _turned(spec: Choice, whole: Any, part: int) -> Any:
    if isinstance(whole, float):
        return part / 100
    if isinstance(whole, list):
        return [max(1, width * part // 1000) for width in whole]
    heads = spec.arguments.get("heads", 1)
    return max(1, part // heads) * heads


def _with(families: OneOf, spec: Choice, changes: Mapping[str, Any]) -> Choice:
    return families.validate({"name": spec.name, **spec.arguments, **changes})
