"""A space file: a base recipe, and for some of its keys a range or a list of choices.

    base: fastnet94
    competition: digits
    short: {train.epochs: 6}                               # what every trial says otherwise, to be short
    search:
      optimizer.lr: {low: 0.01, high: 1.0, log: true}
      train.batch_size: [32, 64, 128]

Keys are those that `--set` takes. The recipe that is written in the end has the base's values for what is `short`.
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

MANY = 100  # values of a range that are each tried before anything starts; of larger ranges only the ends
SHOWN = 3  # refused values of a key that an error spells out
FIGURES = 4  # of a number drawn from a range: what is written is what was trained
FIXED = {  # what trials must have in common, and why
    "split": "trials that hold out different images cannot be compared",
    "seed": "every trial has a seed of its own, derived from the space's",
    "train.precision": "a search runs at one precision, the base's; search twice and compare",
}


class Knob(Section):
    """What a key may be: from `low` to `high`, or one of `choices`, which a file gives as a plain list."""

    low: Number | None = None
    high: Number | None = None
    log: Flag = Field(False, description="drawn evenly in the logarithm")
    step: Positive | None = Field(None, description="the distance between the values, from low on")
    int: Flag = Field(False, description="whole numbers")
    choices: list[Any] | None = None

    @model_validator(mode="after")
    def _is_a_range_or_a_list(self) -> Self:
        low, high = self.low, self.high
        if self.choices is not None:
            if self.model_fields_set != {"choices"}:
                raise ValueError("expected a list of choices or a range, not both")
            if len(set(self.labels)) < max(2, len(self.labels)):
                raise ValueError("expected at least two different choices, and none twice")
            return self
        if low is None or high is None or low >= high:
            raise ValueError("expected a list of choices, or a range such as {low: 0.01, high: 1.0, log: true}")
        if self.log and (low <= 0 or self.step is not None):
            raise ValueError("a range in logarithms starts above 0 and has no step")
        if self.int and any(end != round(end) for end in (low, high, self.step or 1)):
            raise ValueError("a range of whole numbers has whole ends and a whole step")
        return self

    @property
    def labels(self) -> list[str]:
        """The choices in words."""
        return [spelled(choice) for choice in self.choices or []]

    def draw(self, key: str, trial: Trial | FrozenTrial) -> Any:
        """The value for a trial, or the one that a trial had."""
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
        """Every value, or where there are too many the ends."""
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
    """What a search may try, and how."""

    base: Text = Field(description="the recipe that is changed")
    competition: Text = "digits"
    short: dict[Text, Any] = Field({}, description="keys that every trial has otherwise than the base, to be short")
    search: Annotated[dict[Text, Knob], Field(min_length=1)]
    sampler: Annotated[Choice, OneOf(SAMPLERS)] = Field("tpe", validate_default=True)
    pruner: Annotated[Choice, OneOf(PRUNERS)] = Field("asha", validate_default=True)
    seed: NonNegativeInt53 = 0

    @field_validator("search", mode="before")
    @classmethod
    def _a_list_is_choices(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: {"choices": knob} if isinstance(knob, list) else knob for key, knob in value.items()}


@dataclass(frozen=True)
class SearchSpace:
    """A space as read from its file."""

    file: SpaceFile
    document: yaml.Document

    @property
    def epochs(self) -> int:
        """The length of the longest trial."""
        searched = self.file.search["train.epochs"].examples() if "train.epochs" in self.file.search else []
        return int(max(self.recipe({}).train.epochs, *searched, 1))

    def draw(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """A value for every key, by key."""
        return {key: knob.draw(key, trial) for key, knob in self.file.search.items()}

    def recipe(self, values: Mapping[str, Any], *, short: bool = True) -> Recipe:
        """The base with these values and, if wanted, what is short. Raises UserError, at the file's line of the key."""
        wanted = {("short", key): value for key, value in (self.file.short.items() if short else ())}
        wanted |= {("search", key): value for key, value in sorted(values.items(), key=lambda pair: pair[0].count("."))}
        where = self.document.where
        return load_recipe(self.file.base, [Override(path[1], value, where(path)) for path, value in wanted.items()])

    def refuse_bad_values(self, competition: Competition) -> None:
        """Raise UserError for every value that the recipe, or the model, refuses; being too heavy is no fault here."""
        self.recipe({})
        search = self.file.search
        faults: list[str] = []
        for key, knob in search.items():
            within = {outer: search[outer].examples() for outer in search if key.startswith(f"{outer}.")}
            if not within and any(inner.startswith(f"{key}.") for inner in search):
                continue  # tried together with what is searched within it
            refused = []
            for around in itertools.product(*within.values()):
                outer_values = dict(zip(within, around, strict=True))
                with_these = " and ".join(f"{outer}: {spelled(value)}" for outer, value in outer_values.items())
                for value in knob.examples():
                    fault = self._fault({**outer_values, key: value}, competition)
                    if fault and not knob.choices and not knob.int and "integer" in fault:
                        fault += "; for whole numbers say int: true"
                    if fault and within:
                        fault += f" (with {with_these}: what is searched within a choice must fit every choice)"
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
    """The space called `name`, or stored at that path. Raises UserError with the line of what is wrong in it."""
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
            raise UserError(f"{where}: this key is in `short` too; take it out of one of them")
        fixed = next((part for part in (key, key.split(".")[0]) if part in FIXED), None)
        if fixed is not None:
            raise UserError(f"{where}: {FIXED[fixed]}")
    return space


def spelled(value: Any) -> str:
    """A value as a file would give it, in one line."""
    if isinstance(value, float):
        return f"{value:.{FIGURES}g}"
    return value if isinstance(value, str) else yaml.dump_flow(value).removesuffix("...").strip()
