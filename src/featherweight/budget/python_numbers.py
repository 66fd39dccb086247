"""Python's own numbers in lists and dicts: a few are settings, more are weights that are no tensors."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from numbers import Number
from typing import Any

FEW = 32  # this many of Python's numbers in one container are settings; more are weights by another name
MANY = 1000  # and this many in short lists within a list: a network's description has a few hundred
CONTAINERS = (list, tuple, set, frozenset, deque, dict)


def numbers_in(thing: Any, summed: set[int]) -> list[Any]:
    """Return the numbers in a container if they are too many for settings; else none.

    They are its own, or those in short lists within a list, as `tensor.tolist()` makes them. `summed` has the ids of
    these short lists, which are not counted again, and is added to.
    """
    if not isinstance(thing, CONTAINERS) or id(thing) in summed:
        return []
    own = own_numbers(thing)
    own = own if len(own) > FEW else []
    if not isinstance(thing, list | tuple):
        return own
    short = list(_short_lists(thing, summed))
    within = [number for one in short for number in own_numbers(one)]
    if len(within) <= MANY:
        return own
    summed |= {id(one) for one in short}
    return own + within


def own_numbers(thing: Any) -> list[Any]:
    """Return the numbers that a container itself holds; of a dict its values, and those of its keys with a fraction."""
    if isinstance(thing, dict):
        return _numbers(thing.values()) + [key for key in thing if isinstance(key, float | complex)]
    return _numbers(thing)


def _numbers(values: Iterable[Any]) -> list[Any]:
    return [one for one in values if type(one) is float or isinstance(one, Number)]


def _short_lists(outer: Any, summed: set[int]) -> Iterator[Any]:
    """Yield a list and the lists within it, each once, that hold only a few numbers themselves."""
    ahead, entered = [outer], {id(outer)}
    while ahead:
        thing = ahead.pop()
        if len(own_numbers(thing)) <= FEW and id(thing) not in summed:
            yield thing
        for one in thing:
            if isinstance(one, list | tuple) and id(one) not in entered:
                entered.add(id(one))
                ahead.append(one)


def are_indices(numbers: list[Any]) -> bool:
    """True for the numbers of classes or images: whole, all different, and all below 100 times their count."""
    if not numbers or any(type(one) is not int for one in numbers):
        return False
    return len(set(numbers)) == len(numbers) and min(numbers) >= 0 and max(numbers) < 100 * len(numbers)
