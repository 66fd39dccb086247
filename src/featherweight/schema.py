"""What recipes and competitions are declared with: checked sections, bounded numbers, and choices.

A *choice* is a function the YAML names. Its keyword-only arguments are the keys the YAML may give, its positional
arguments are what the program hands it when it calls:

    def sgd(parameters, *, lr: Positive = 0.1, momentum: HalfOpenFraction = 0.9): ...
    OPTIMIZERS = {"sgd": sgd}

    class Recipe(Section):
        optimizer: Annotated[Choice, OneOf(OPTIMIZERS)]

    optimizer: {name: sgd, lr: 0.2}      # in the recipe
    recipe.optimizer(model.parameters()) # in the program

So adding an optimizer, a model, a loss, a metric or a test-time view is one function and one line in the table beside
it; checking, the nearest name in an error, the JSON schema and the reference page follow from the signature.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    TypeAdapter,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from featherweight.errors import nearest

_AMOUNT = re.compile(r"([\d.,_]+(?:e[+-]?\d+)?) *(?:([kmg])(?:(i)?b)?)?", re.IGNORECASE)


def amount(text: str) -> float:
    """Return the number in a text such as 5000000, 5_000_000, 5,000,000, 5e6, 5M, 300k, 20MB or 20MiB.

    Raises ValueError for any other text, and for numbers that are not above 0.
    """
    found = math.nan
    if parts := _AMOUNT.fullmatch(text.strip()):
        digits, unit, binary = parts.groups()
        with suppress(ValueError, OverflowError):
            found = float(re.sub("[,_]", "", digits)) * (1024 if binary else 1000) ** " kmg".find((unit or " ").lower())
    if not 0 < found < math.inf:
        raise ValueError(f"expected a number above 0, as 5000000, 5e6 or 5M, got '{text}'")
    return round(found) if found == round(found) else found


def _odd(count: int) -> int:
    if count % 2 == 0:
        raise ValueError(f"expected an odd number, as {count - 1} or {count + 1}, got {count}")
    return count


# Types of keys. The upper bounds are what no machine can serve: an error that names the largest number beats hours of
# waiting for it.
MAX_INT = 1_000_000
PositiveInt = Annotated[int, Strict(), Field(ge=1, le=MAX_INT)]  # 1, 2, 3, ...
NonNegativeInt = Annotated[int, Strict(), Field(ge=0, le=MAX_INT)]  # 0, 1, 2, ...
LargeInt = Annotated[int, Strict(), Field(ge=1, le=10**12)]  # of what is counted in billions: parameters, bytes, steps
Odd = Annotated[int, Strict(), Field(ge=1, le=999), AfterValidator(_odd)]  # 1, 3, 5, ...
# 0, 1, 2, ... up to the largest integer that float64 holds exactly, as a table of floats stores it: seeds, indices
NonNegativeInt53 = Annotated[int, Strict(), Field(ge=0, le=2**53)]
Number = Annotated[float, Strict(), Field(ge=-1e30, le=1e30)]  # float32 holds it
Positive = Annotated[float, Strict(), Field(gt=0, le=1e30)]
ScaleFactor = Annotated[float, Strict(), Field(gt=0, le=1000)]  # of a network's width, depth or resolution
NonNegative = Annotated[float, Strict(), Field(ge=0, le=1e30)]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]  # [0, 1]
HalfOpenFraction = Annotated[float, Strict(), Field(ge=0, lt=1)]  # [0, 1): dropout, momentum
PositiveFraction = Annotated[float, Strict(), Field(gt=0, le=1)]  # (0, 1]
HalfFraction = Annotated[float, Strict(), Field(ge=0, le=0.5)]  # [0, 0.5]: of a side, which is reflected at most once
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), Field(min_length=1)]

# Other names of keys and choices, from the literature or an earlier version.
OTHER_NAMES = {
    "drop_path": "drop_connect",
    "growth": "progressive",
    "kin": "grouped",
    "posterise": "posterize",
    "solarise": "solarize",
    "equalise": "equalize",
}


def as_written(key: Any, section: Mapping[Any, Any]) -> Any:
    """Return the key as a section has it, by its own name or its other one; the key itself if it has neither."""
    pairs = [*OTHER_NAMES.items(), *((own, other) for other, own in OTHER_NAMES.items())]
    return next((other for one, other in pairs if one == key and key not in section and other in section), key)


class Section(BaseModel):
    """A part of a configuration: immutable; an unknown key is an error that names the nearest one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            fields = cls.model_fields
            own = [key if key in fields or OTHER_NAMES.get(key) not in fields else OTHER_NAMES[key] for key in data]
            for key in own:
                if own.count(key) > 1:
                    raise PydanticCustomError("unknown_key", "'{key}' is given under both of its names", {"key": key})
                if key not in cls.model_fields:
                    known = list(cls.model_fields)
                    hint = nearest(str(key), known) or f"; the keys here are {', '.join(known)}"
                    # `key` goes into the context so that the location of the key, not of its section, is reported.
                    raise PydanticCustomError("unknown_key", "unknown key '{key}'{hint}", {"key": key, "hint": hint})
            return dict(zip(own, data.values(), strict=True))
        return data


class Choice(Section):
    """A named function with its keyword arguments bound; calling it passes on positional arguments."""

    target: ClassVar[Callable[..., Any]]
    shared: ClassVar[frozenset[str]] = frozenset()
    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments, as given or by default."""
        return {key: getattr(self, key) for key in type(self).model_fields if key not in {"name", *self.shared}}

    def __call__(self, *args: Any) -> Any:  # noqa: D102
        return type(self).target(*args, **self.arguments)


class OneOf:
    """Annotates a `Choice` with the table of functions that it may name: `Annotated[Choice, OneOf(OPTIMIZERS)]`.

    `shared` are further keys of all of them, as pydantic's create_model takes them, for the caller of the function.
    """

    more = ""  # what an error adds to the names that there are

    def __init__(self, table: Mapping[str, Callable[..., Any]], shared: Mapping[str, Any] | None = None) -> None:
        self.table, self.shared = table, dict(shared or {})

    @functools.cached_property
    def sections(self) -> dict[str, type[Choice]]:
        """Section classes by name, made from the functions' signatures."""
        return {
            name: _section_of(name, target, self.shared) if self.shared else _known_section(name, target)
            for name, target in self.table.items()
        }

    def validate(self, data: Any) -> Choice:
        """Return the choice that plain data name. Raises pydantic's ValidationError."""
        return self._adapter.validate_python(data)

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Choice]:
        return TypeAdapter(Annotated[Choice, self])

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        branches = {name: handler.generate_schema(section) for name, section in self.sections.items()}
        tagged = core_schema.tagged_union_schema(branches, discriminator="name")
        return core_schema.no_info_before_validator_function(self._expand, tagged)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": list(self.table)}, handler(schema)]}

    def _expand(self, data: Any) -> Any:
        if isinstance(data, Choice):
            return data
        if isinstance(data, str):
            data = {"name": data}
        if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
            raise PydanticCustomError("choice", "expected a name ({known})", {"known": ", ".join(self.table)})
        library, slash, variant = data["name"].partition("/")
        if slash and "variant" in getattr(self.sections.get(library), "model_fields", {}):
            data = {"variant": variant, **data, "name": library}  # `timm/resnet18` is short for its two keys
        data = {**data, "name": as_written(data["name"], self.table)}
        if data["name"] not in self.table:
            hint = nearest(data["name"], self.table)
            raise PydanticCustomError(
                "choice",
                "there is no '{name}'{hint}; there are {known}{more}",
                {"name": data["name"], "hint": hint, "known": ", ".join(self.table), "more": self.more},
            )
        return data


_SECTIONS: dict[tuple[str, int], type[Choice]] = {}  # each refers to its target, whose id stays its own


def _known_section(name: str, target: Callable[..., Any]) -> type[Choice]:
    """Return `_section_of` a function, which is made once, however many keys name it."""
    key = (name, id(target))
    if key not in _SECTIONS:
        _SECTIONS[key] = _section_of(name, target, {})
    return _SECTIONS[key]


def _section_of(name: str, target: Callable[..., Any], shared: Mapping[str, Any]) -> type[Choice]:
    signed = inspect.unwrap(target)  # an object made of a function, as a metric is, has the function's keys
    hints = typing.get_type_hints(signed.__init__ if inspect.isclass(signed) else signed, include_extras=True)
    fields: dict[str, Any] = {"name": (typing.Literal[name], name)}
    for key, parameter in inspect.signature(signed).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[key] = (hints[key], default)
    section = create_model(name, __base__=Choice, __doc__=inspect.getdoc(signed), **fields, **shared)
    section.shared = frozenset(shared)
    section.target = staticmethod(target)
    return section
