"""A space file: a base recipe, and for some of its keys a range or a list of choices.

    base: fastnet94
    competition: digits
    short: {train.epochs: 6}                               # changes in every trial, to make it short
    search:
      optimizer.lr: {low: 0.01, high: 1.0, log: true}
      train.batch_size: [32, 64, 128]

Keys are those of `--set`. The recipe that is written at the end has the base's values for the keys in `short`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from optuna.trial import FrozenTrial, Trial
from pydantic import Field, field_validator, model_validator

from featherweight import budget, yaml
from featherweight.config import Competition, Recipe, load_recipe
from featherweight.config.merge import Override, validated
from featherweight.errors import UserError
from featherweight.paths import find_config
from featherweight.schema import Choice, Flag, NonNegativeInt53, Number, OneOf, Positive, Section, Text
from featherweight.search.methods import PRUNERS, SAMPLERS

MANY = 100  # values; of larger ranges only the ends are checked before the search
SHOWN = 3  # refused values of a key that an error lists
FIGURES = 4  # significant digits of drawn numbers, so that the written recipe has exactly the trained value
FIXED = {  # keys that must be equal in all trials, and why
    "split": "trials with different held-out images cannot be compared",
    "seed": "every trial has its own seed, derived from the space's",
    "train.precision": "a search has one precision, the base's; search twice and compare",
}


class Dimension(Section):
    """A dimension of the search space: the values of one key.

    They lie from `low` to `high`, or are those of `choices`, which a file gives as a plain list.
    """

    low: Number | None = None
    high: Number | None = None
    log: Flag = Field(False, description="uniform in the logarithm")
    step: Positive | None = Field(None, description="distance between values, beginning at low")
    int: Flag = Field(False, description="whole numbers")
    choices: list[Any] | None = None

    @model_validator(mode="after")
    def _is_a_range_or_a_list(self) -> Self:
        low, high = self.low, self.high
        if self.choices is not None:
            if self.model_fields_set != {"choices"}:
                raise ValueError("expected a list of choices or a range, not both")
            if len(set(self.labels)) < max(2, len(self.labels)):
                raise ValueError("expected at least two choices, all different")
            return self
        if low is None or high is None or low >= high:
            raise ValueError("expected a list of choices, or a range such as {low: 0.01, high: 1.0, log: true}")
        if self.log and (low <= 0 or self.step is not None):
            raise ValueError("a range with log: true must begin above 0 and have no step")
        if self.int and any(end != round(end) for end in (low, high, self.step or 1)):
            raise ValueError("a range with int: true needs whole ends and a whole step")
        return self

    @property
    def labels(self) -> list[str]:
        """The choices as text."""
        return [spelled(choice) for choice in self.choices or []]

    def draw(self, key: str, trial: Trial | FrozenTrial) -> Any:
        """Return a new value for a trial, or the value that a finished trial has."""
        if self.choices is not None:
            return self.choices[self.labels.index(trial.suggest_categorical(key, self.labels))]
        assert self.low is not None
        assert self.high is not None
        if self.int:
            low, high = round(self.low), round(self.high)
            return trial.suggest_int(key, low, high, step=round(self.step or 1), log=self.log)
        value = trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)
        return min(max(float(f"{value:.{FIGURES}g}"), self.low), self.high)

    def examples(self) -> list[Any]:
        """Return all values, or the two ends if there are too many."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None
        assert self.high is not None
        step = self.step or (1 if self.int else None)
        if step is None or (self.high - self.low) / step >= MANY:
            ends = [self.low, self.high]
        else:
            ends = [self.low + number * step for number in range(round((self.high - self.low) // step) + 1)]
        return [round(end) for end in ends] if self.int else [float(f"{end:.{FIGURES}g}") for end in ends]


class SpaceFile(Section):
    """The keys of a space file: what is searched, and how."""

    base: Text = Field(description="the recipe that trials change")
    competition: Text = "digits"
    short: dict[Text, Any] = Field({}, description="changes to the base that make trials short")
    search: Annotated[dict[Text, Dimension], Field(min_length=1)]
    sampler: Annotated[Choice, OneOf(SAMPLERS)] = Field("tpe", validate_default=True)
    pruner: Annotated[Choice, OneOf(PRUNERS)] = Field("asha", validate_default=True)
    seed: NonNegativeInt53 = 0

    @field_validator("search", mode="before")
    @classmethod
    def _a_list_is_choices(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: {"choices": given} if isinstance(given, list) else given for key, given in value.items()}


@dataclass(frozen=True)
class SearchSpace:
    """A search space, read from its file."""

    file: SpaceFile
    document: yaml.Document

    @property
    def epochs(self) -> int:
        """The number of epochs of the longest trial."""
        searched = self.file.search["train.epochs"].examples() if "train.epochs" in self.file.search else []
        return int(max(self.recipe({}).train.epochs, *searched, 1))

    def draw(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """Return a value for every key."""
        return {key: dimension.draw(key, trial) for key, dimension in self.file.search.items()}

    def recipe(self, values: Mapping[str, Any], *, short: bool = True) -> Recipe:
        """Return the base recipe with these values and, if `short`, the changes that make trials short.

        Raises UserError with the line of the key.
        """
        wanted = {("short", key): value for key, value in (self.file.short.items() if short else ())}
        wanted |= {("search", key): value for key, value in sorted(values.items(), key=lambda pair: pair[0].count("."))}
        where = self.document.where
        return load_recipe(self.file.base, [Override(path[1], value, where(path)) for path, value in wanted.items()])

    def refuse_bad_values(self, competition: Competition) -> None:
        """Raise UserError for all values that the recipe or the model refuses; a model over the limit is not an error
        here.
        """
        self.recipe({})
        search = self.file.search
        faults: list[str] = []
        for key, dimension in search.items():
            within = {outer: search[outer].examples() for outer in search if key.startswith(f"{outer}.")}
            if not within and any(inner.startswith(f"{key}.") for inner in search):
                continue  # checked together with the keys inside it
            refused = []
            for around in itertools.product(*within.values()):
                outer_values = dict(zip(within, around, strict=True))
                with_these = " and ".join(f"{outer}: {spelled(value)}" for outer, value in outer_values.items())
                for value in dimension.examples():
                    fault = self._fault({**outer_values, key: value}, competition)
                    if fault and not dimension.choices and not dimension.int and "integer" in fault:
                        fault += "; for whole numbers set int: true"
                    if fault and within:
                        fault += f" (with {with_these}: keys searched within a choice must be valid for every choice)"
                    refused += [fault] if fault and fault not in refused else []
            more = f"\n  and {len(refused) - SHOWN} more of its values are refused" if len(refused) > SHOWN else ""
            faults += ["\n".join(refused[:SHOWN]) + more] if refused else []
        if faults:
            raise UserError("\n".join(faults))

    def _fault(self, values: Mapping[str, Any], competition: Competition) -> str | None:
        try:
            recipe = self.recipe(values)
            if any(key.split(".")[0] == "model" for key in values):
                budget.count_parameters(recipe.model, competition)
        except UserError as error:
            where = self.document.where(("search", list(values)[-1]))
            return str(error) if str(error).startswith(str(self.document.path)) else f"{where}: {error}"
        return None


def load(name: str) -> SearchSpace:
    """Return the space called `name`, or stored at that path. Raises UserError with the line of the error."""
    document = yaml.read(find_config("spaces", name))
    space = SearchSpace(validated(SpaceFile, document), document)
    for kind, key in (("recipes", "base"), ("competitions", "competition")):
        try:
            find_config(kind, getattr(space.file, key))
        except UserError as error:
            raise UserError(f"{document.where((key,))}: {key}: {error}") from None
    for key in space.file.search:
        where = f"{document.where(('search', key))}: search.{key}"
        if key in space.file.short:
            raise UserError(f"{where}: this key is also in `short`; remove it from one of them")
        fixed = next((part for part in (key, key.split(".")[0]) if part in FIXED), None)
        if fixed is not None:
            raise UserError(f"{where}: {FIXED[fixed]}")
    return space


def spelled(value: Any) -> str:
    """Return a value as a file would give it, in one line."""
    if isinstance(value, float):
        return f"{value:.{FIGURES}g}"
    return value if isinstance(value, str) else yaml.dump_flow(value).removesuffix("...").strip()
