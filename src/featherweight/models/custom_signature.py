"""What the signature of a user's network says: which arguments the program passes, and which are the recipe's keys."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from torch import nn

from featherweight.errors import UserError
from featherweight.models.shape import Shape

# What constructors call the number of classes, of channels, the side of the images, and their shape.
CLASSES = (
    "num_classes", "n_classes", "nb_classes", "classes", "num_class", "n_class", "class_num", "class_count", "nclass",
    "num_cls", "n_cls", "ncls", "nc", "num_labels", "n_labels", "output_dim", "out_dim", "num_outputs", "n_outputs",
    "num_out", "n_out",
)  # fmt: skip
# What else may be the number of classes, where it has no default.
OUTPUTS = ("out_features", "out_channels", "output_size", "output_channels", "c_out", "cout")
CHANNELS = (
    "in_channels", "in_chans", "in_ch", "in_channel", "in_c", "c_in", "cin", "input_channels", "input_nc",
    "image_channels", "img_channels", "channels", "num_channels", "n_channels",
)  # fmt: skip
SIZES = ("image_size", "img_size", "input_size", "im_size", "img_sz", "image_side", "resolution", "input_resolution")
SHAPES = ("input_shape", "image_shape", "img_shape", "in_shape")
RESERVED = ("name", "arguments", "sources", "target", "shared")  # what a section of a recipe has by these names
PLAIN = (bool, int, float, str, list, tuple, dict)


def parameters_of(constructor: Any, name: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a constructor by name. Raises UserError for what is neither a class nor a function."""
    try:
        if isinstance(constructor, nn.Module):
            raise TypeError
        return dict(inspect.signature(constructor).parameters)
    except (TypeError, ValueError):
        raise UserError(
            f"model: {name} is a {type(constructor).__name__}; expected a class, or a function that returns a network"
        ) from None


def passed_by_name(parameters: Mapping[str, inspect.Parameter]) -> dict[tuple[str, ...], str]:
    """Return the arguments that the program passes by name: those in CLASSES, CHANNELS, SIZES or SHAPES."""
    found: dict[tuple[str, ...], str] = {}
    for names in (CLASSES, CHANNELS, SIZES, SHAPES):
        key = next((key for key in names if key in parameters and _may_be(parameters[key], names)), None)
        if key is None and names is CLASSES:
            key = next((key for key in OUTPUTS if key in parameters and is_needed(parameters[key])), None)
        if key is not None:
            found[names] = key
    return found


def _may_be(parameter: inspect.Parameter, names: tuple[str, ...]) -> bool:
    """True unless the argument is a list of channels, which are those of the network's layers."""
    return names is not CHANNELS or not isinstance(parameter.default, tuple | list)


def value_of(parameter: inspect.Parameter, names: tuple[str, ...], shape: Shape) -> Any:
    """Return what is passed for a parameter: a size as one number, or in the form of its default: a pair of sides,
    (C, H, W) or (H, W, C).
    """
    if names in (CLASSES, CHANNELS):
        return shape.num_classes if names is CLASSES else shape.channels
    default, side = parameter.default, shape.size
    given = default if isinstance(default, tuple | list) else ()
    if len(given) == 3 and given[0] == given[1] != given[2]:
        return type(default)((side, side, shape.channels))
    if len(given) == 3 or (names is SHAPES and len(given) != 2):
        return (shape.channels, side, side)
    pair = isinstance(default, tuple | list) or "tuple" in str(parameter.annotation).lower()
    return (side, side) if pair else side


def config_of(constructor: Any, parameter: inspect.Parameter, shape: Shape) -> Any:
    """Return the dataclass that a parameter is annotated with, its fields by the same names; None for any other."""
    kind = parameter.annotation
    if isinstance(kind, str):
        kind = getattr(sys.modules.get(constructor.__module__), kind, None)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return None
    empty, missing = inspect.Parameter.empty, dataclasses.MISSING
    fields = {
        one.name: inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=empty if one.default is missing else one.default
        )
        for one in dataclasses.fields(kind)
    }
    with suppress(TypeError):  # fields that need values of their own
        return kind(**{key: value_of(fields[key], names, shape) for names, key in passed_by_name(fields).items()})
    return None


def is_needed(parameter: inspect.Parameter) -> bool:
    """True if the parameter has no default."""
    return parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_POSITIONAL


def first_of(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """Return the first argument, if it can be passed by position and its name means neither channels nor size."""
    by_position = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    for key, parameter in parameters.items():
        return key if parameter.kind in by_position and key not in (*CHANNELS, *SIZES, *SHAPES) else None
    return None


def keys_of(constructor: Any, name: str) -> dict[str, inspect.Parameter]:
    """Return the arguments that are keys of the recipe: those not passed by the program that YAML can express."""
    parameters = parameters_of(constructor, name)
    passed = passed_by_name(parameters)
    taken = set(passed.values())
    first = first_of(parameters)
    if first is not None and CLASSES not in passed and is_needed(parameters[first]):
        taken.add(first)
    for key in parameters.keys() - taken:
        if _is_reserved(key) and is_needed(parameters[key]):
            raise UserError(f"model: {name} takes '{key}', which no key can be called: rename it, or give it a default")
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        key: parameter
        for key, parameter in parameters.items()
        if key not in taken
        and not _is_reserved(key)
        and not key.startswith("_")
        and parameter.kind in kinds
        and (is_needed(parameter) or parameter.default is None or type(parameter.default) in PLAIN)
    }


def takes_any_key(constructor: Any, name: str) -> bool:
    """True if the constructor takes further arguments by any name."""
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters_of(constructor, name).values())


def _is_reserved(key: str) -> bool:
    return key in RESERVED or (key.startswith("model_") and hasattr(BaseModel, key))


def kind_of(parameter: inspect.Parameter) -> Any:
    """Return the type of a key, if the signature states it plainly; else Any."""
    hint = parameter.annotation
    if isinstance(parameter.default, tuple) or get_origin(hint) is tuple:  # YAML has lists alone
        return Annotated[Any, BeforeValidator(lambda given: tuple(given) if isinstance(given, list) else given)]
    plain = hint in PLAIN or (
        get_origin(hint) is not None and all(one in (*PLAIN, type(None)) for one in get_args(hint))
    )
    if plain and hint is not inspect.Parameter.empty:
        return hint
    kind = type(parameter.default)
    if kind in (int, float):
        return int | float
    return kind if kind in (bool, str) else Any
