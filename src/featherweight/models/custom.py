"""Networks of the user's: `model: my_net.py:Net` or `model: package.module:Net`, a class or function as it is.

It is called by the names that it takes for the number of classes and of channels and the side of the images; a first
argument without a name for any of these, and without a default, is the number of classes. What else its signature has
are keys of the recipe. Its source is stored with a run (`store_sources`), and a run that is loaded takes it from there
(`stored_sources`), so that a file that changes later changes no run.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin

import torch
from pydantic import create_model
from torch import Tensor, nn

from featherweight import atomic
from featherweight.errors import UserError
from featherweight.models.custom_source import line_of, load
from featherweight.models.shape import Shape
from featherweight.runtime.torch_internals import outlined, weightless
from featherweight.schema import Choice
from featherweight.untrusted_files import reason

# What constructors call the number of classes, of channels, and the side of the images.
CLASSES = (
    "num_classes", "n_classes", "nb_classes", "classes", "num_class", "n_class", "class_num", "class_count", "nclass",
    "num_labels", "n_labels", "output_dim", "out_dim", "num_outputs", "n_outputs",
)  # fmt: skip
CHANNELS = (
    "channels",
    "in_channels",
    "in_chans",
    "in_ch",
    "in_channel",
    "input_channels",
    "num_channels",
    "n_channels",
)
SIZES = ("image_size", "img_size", "input_size", "im_size", "img_sz", "image_side", "resolution", "input_resolution")
PLAIN = (bool, int, float, str, list, tuple, dict)


class CustomModel(Choice):
    """A model section that names the user's network; only the keys that the recipe gives are passed on.

    `sources` is the code it was read with, by paths in a run's folder, whatever the file holds by now.
    """

    sources: ClassVar[Mapping[str, str]] = {}

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments as given."""
        return {key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set - {"name"}}

    def __eq__(self, other: object) -> bool:
        """Are they one network? Each reading makes a class of its own, so what tells is the code and the keys."""
        if not isinstance(other, CustomModel):
            return False
        return (self.name, self.arguments, self.sources) == (other.name, other.arguments, other.sources)

    def __hash__(self) -> int:
        return hash(self.name)


def is_custom(name: str) -> bool:
    """Does a model's name say where its code is?"""
    return ":" in name


def store_sources(spec: Choice, folder: Path) -> None:
    """Copy the source of a network of the user's, and of the modules beside it that it imports, into a run's folder."""
    if isinstance(spec, CustomModel):
        for name, text in spec.sources.items():
            path = folder / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(path, text)


def section(name: str) -> type[CustomModel]:
    """The section class of a network of the user's, made from its signature. Raises UserError where it is not there."""
    constructor, sources = load(name)
    fields: dict[str, Any] = {"name": (str, name)}
    for key, parameter in _keys(constructor, name).items():
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[key] = (_kind(parameter), default)
    kind = create_model(
        f"CustomModel_{name.rpartition(':')[2]}", __base__=CustomModel, __doc__=inspect.getdoc(constructor), **fields
    )
    kind.target = staticmethod(functools.partial(_build, constructor, name))
    kind.sources = sources
    return kind


def _build(
    constructor: Callable[..., Any], name: str, num_classes: int, channels: int, image_size: int, **keys: Any
) -> nn.Module:
    shape = Shape(num_classes, channels, image_size)
    tried = []
    for words, call in _calls(constructor, name, shape, keys):
        with torch.random.fork_rng(devices=()):
            why = _fault(call, shape)
        if why is None:
            return call()
        tried.append(f"{words} {why}")
    raise UserError(f"model: {'; '.join(tried)}")


def _calls(
    constructor: Callable[..., Any], name: str, shape: Shape, keys: Mapping[str, Any]
) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """The ways to call it, the likeliest first: by its names, by its first argument, and without the classes."""
    parameters = _parameters(constructor, name)
    named: dict[str, Any] = {}
    for names, value in ((CLASSES, shape.num_classes), (CHANNELS, shape.channels), (SIZES, shape.size)):
        for key in names:
            if key in parameters and key not in keys:
                pair = isinstance(parameters[key].default, tuple | list) and names is SIZES
                named[key] = (value, value) if pair else value
                break
    first = _first(parameters)
    has_classes = any(key in named for key in CLASSES)
    ways: list[tuple[list[Any], dict[str, Any]]] = []
    if not has_classes and first is not None and first not in keys and first not in named:
        ways.append(([shape.num_classes], named))
    if has_classes or not ways or parameters[str(first)].default is not inspect.Parameter.empty:
        ways.append(([], named))
    for positional, by_name in ways:
        arguments = {**by_name, **keys}
        words = ", ".join([*map(repr, positional), *(f"{key}={value!r}" for key, value in arguments.items())])
        yield f"{name}({words})", functools.partial(_called, constructor, tuple(positional), arguments)


def _called(constructor: Any, positional: tuple[Any, ...], arguments: dict[str, Any]) -> nn.Module:
    net = constructor(*positional, **arguments)
    if not isinstance(net, nn.Module):
        raise TypeError(f"it gives a {type(net).__name__}, no torch.nn.Module")
    return net


def _fault(call: Callable[[], nn.Module], shape: Shape) -> str | None:
    """What is wrong with a network so made, in words: it cannot be, or its output has not one column per class."""
    try:
        net = outlined(call)
        with torch.no_grad():
            try:
                with weightless():
                    output = net(torch.empty(2, shape.channels, shape.size, shape.size, device="meta"))
            except Exception:  # code that looks at the numbers themselves needs some
                output = call().eval()(torch.zeros(2, shape.channels, shape.size, shape.size))
    except UserError:
        raise
    except Exception as error:
        return f"raised {type(error).__name__}: {reason(error)}{line_of(error)}"
    wanted = (2, shape.num_classes)
    if isinstance(output, Tensor) and tuple(output.shape) == wanted:
        return None
    got = f"shape {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    images = f"[2, {shape.channels}, {shape.size}, {shape.size}]"
    return f"gives {got} for images {images}, and {list(wanted)}, one column per class, is needed"


def _parameters(constructor: Any, name: str) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(constructor).parameters)
    except (TypeError, ValueError):
        raise UserError(
            f"model: {name} is a {type(constructor).__name__}; a class or a function that makes it is needed"
        ) from None


def _first(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """The first argument, if it can be passed by its position and is named for neither channels nor size."""
    for key, parameter in parameters.items():
        by_position = parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return key if by_position and key not in (*CHANNELS, *SIZES) else None
    return None


def _keys(constructor: Any, name: str) -> dict[str, inspect.Parameter]:
    """What of the signature are keys of the recipe: all but what the program passes, and what no YAML can hold."""
    parameters = _parameters(constructor, name)
    passed = {next((key for key in names if key in parameters), None) for names in (CLASSES, CHANNELS, SIZES)}
    first = _first(parameters)
    if first is not None and not passed & set(CLASSES) and parameters[first].default is inspect.Parameter.empty:
        passed.add(first)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        key: parameter
        for key, parameter in parameters.items()
        if key not in passed
        and key != "name"
        and not key.startswith("_")
        and parameter.kind in kinds
        and (
            parameter.default is inspect.Parameter.empty
            or parameter.default is None
            or type(parameter.default) in PLAIN
        )
    }


def _kind(parameter: inspect.Parameter) -> Any:
    """The type of a key, where the signature says it plainly; else anything."""
    hint = parameter.annotation
    plain = hint in PLAIN or (
        get_origin(hint) is not None and all(one in (*PLAIN, type(None)) for one in get_args(hint))
    )
    if plain and hint is not inspect.Parameter.empty:
        return hint
    kind = type(parameter.default)
    if kind in (int, float):
        return int | float
    return kind if kind in (bool, str) else Any
