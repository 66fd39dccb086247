"""What the rest of the program knows about a family of models; each is defined at the end of its model's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

FILLED = 0.99  # fraction of a limit: a member above it counts as one that fills the limit

Arguments = dict[str, Any]  # the keys of a recipe's model section, without its name


@dataclass
class FillTarget:
    """The limit to be filled, and how many candidates have been counted for it."""

    limit: int
    classes: int
    channels: int
    counted: int = 0

    def fits(self, parameters: int) -> bool:
        """True if a candidate is within the limit."""
        self.counted += 1
        return parameters <= self.limit


@dataclass(frozen=True)
class Filling:
    """How the members of a family that fill a limit are found.

    `closed_form` counts the parameters of a member without building it. `search` returns the arguments of the largest
    member of one structure (a depth, a growth), or None if even the smallest is too large; `structures` are those that
    are searched, the best known first. A recipe that is written for a member extends `parent`.
    """

    closed_form: Callable[..., int]
    search: Callable[[FillTarget, Any], Arguments | None]
    structures: Sequence[Any]
    parent: str


@dataclass(frozen=True)
class Family:
    """A family: its name in recipes, and its constructor, whose signature is described in `featherweight.models`.

    Attributes:
        narrows: the key of the constructor that makes a network narrower, if there is one.
        gives_up: keys, with values, that a network over the limit is proposed without first.
        same: networks of the libraries that are members of this family, by name, with the keys that make them.
        filling: how members that fill a limit are found; None if `fill` does not take the family.
    """

    name: str
    constructor: Callable[..., nn.Module]
    narrows: str | None = None
    gives_up: Mapping[str, Any] = field(default_factory=dict)
    same: Mapping[str, Arguments] = field(default_factory=dict)
    filling: Filling | None = None
