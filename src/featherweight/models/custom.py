"""The user's own networks: `model: my_net.py:Net` or `model: package.module:Net`, a class or a function as it is.

It is called with the names that it has for the number of classes, the number of channels and the side of the images; a
first argument without such a name and default is the number of classes. Its other arguments are keys of the recipe. Its
source is stored with each run (`store_sources`) and loaded from there (`stored_sources`): a later change of the file
changes no run.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin

import torch
from pydantic import create_model, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from featherweight import atomic
from featherweight.errors import UserError
from featherweight.models.custom_source import load, told
from featherweight.models.shape import Shape
from featherweight.runtime.torch_internals import build_on_meta, on_meta_device
from featherweight.schema import Choice

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
PLAIN = (bool, int, float, str, list, tuple, dict)


class CustomModel(Choice):
    """The model section for a network of the user's; only the keys that the recipe gives are passed on.

    `sources` is the code that was loaded, by paths in a run's folder, whatever the file holds by now.
    """

    sources: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_missing_keys(cls, data: Any) -> Any:
        for key, field in cls.model_fields.items():
            if field.is_required() and isinstance(data, Mapping) and key not in data:
                raise PydanticCustomError(
                    "own",
                    "{name} needs '{key}', which is not set: use --set model.{key}=VALUE, or give it a default",
                    {"name": data.get("name"), "key": key},
                )
        return data

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments as given in the recipe."""
        return {key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set - {"name"}}

    def __eq__(self, other: object) -> bool:
        """True if both are the same network: each loading makes a new class, so their code and keys are compared."""
        if not isinstance(other, CustomModel):
            return False
        return (self.name, self.arguments, self.sources) == (other.name, other.arguments, other.sources)

    def __hash__(self) -> int:
        return hash(self.name)


def pretrained_argument(spec: CustomModel) -> str:
    """Return the argument, with its value, that makes a network of the user's load weights of its own; usually none."""
    constructor, name = spec.target.args  # type: ignore[attr-defined]
    for key, parameter in _parameters(constructor, name).items():
        default = None if parameter.default is inspect.Parameter.empty else parameter.default
        value = spec.arguments.get(key, default)
        weights = key.lower() == "weights" and not isinstance(value, list | tuple | dict)  # those are class weights
        if value and (weights or "pretrain" in key.lower()):
            return f"{key}={value}"
    return ""


def is_custom(name: str) -> bool:
    """True if a model's name says where its code is."""
    return ":" in name


def store_sources(spec: Choice, folder: Path) -> None:
    """Copy the source of a network of the user's, and of the modules beside it that it imports, into a run's folder."""
    if isinstance(spec, CustomModel):
        for name, text in spec.sources.items():
            path = folder / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(path, text)


def section(name: str) -> type[CustomModel]:
    """Return the section class of a network of the user's, from its signature. Raises UserError if it is not found."""
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
            return _made(call, shape)
        tried.append(f"{words} {why}")
    raise UserError(f"model: {'; '.join(tried)}")


def _calls(
    constructor: Callable[..., Any], name: str, shape: Shape, keys: Mapping[str, Any]
) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Yield the ways to call it, each with its source text, the likeliest first."""
    parameters = _parameters(constructor, name)
    passed = _passed(parameters)
    named = {key: _value(parameters[key], names, shape) for names, key in passed.items() if key not in keys}
    ways: list[tuple[list[Any], dict[str, Any]]] = [([], named)]
    first = _first(parameters)
    if CLASSES not in passed and first is not None and first not in keys and first not in named:
        by_position = ([shape.num_classes], named)
        ways = [by_position] if _is_needed(parameters[first]) else [*ways, by_position]
    if CLASSES not in passed and any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        more = {"num_classes": shape.num_classes, "in_chans": shape.channels}
        ways = [([], named | more), ([], named | {"num_classes": shape.num_classes}), *ways]
    for positional, by_name in ways:
        arguments = {**by_name, **keys}
        words = ", ".join([*map(repr, positional), *(f"{key}={value!r}" for key, value in arguments.items())])
        yield f"{name}({words})", functools.partial(_called, constructor, tuple(positional), arguments)


def _called(constructor: Any, positional: tuple[Any, ...], arguments: dict[str, Any]) -> nn.Module:
    net = constructor(*positional, **arguments)
    if not isinstance(net, nn.Module):
        raise TypeError(f"it returns a {type(net).__name__}, not a torch.nn.Module")
    return net


def _fault(call: Callable[[], nn.Module], shape: Shape) -> str | None:
    """Return in words what is wrong with a network: it cannot be built, or its output has a wrong shape; else None."""
    images = f"images [2, {shape.channels}, {shape.size}, {shape.size}]"
    try:
        net = build_on_meta(call)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        return f"raised {told(error)}"
    for training in (False, True):
        try:
            output = _on_shapes(net.train(training), shape)
        except Exception:  # code that depends on values needs real ones
            try:
                with torch.device("cpu"), torch.no_grad():
                    output = call().train(training)(torch.zeros(2, shape.channels, shape.size, shape.size))
            except (Exception, SystemExit) as error:
                return f"raised {told(error)} for {images}"
        wanted = (2, shape.num_classes)
        if not isinstance(output, Tensor) or tuple(output.shape) != wanted:
            got = f"shape {list(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
            when = " in training" if training else ""
            return f"gives {got}{when} for {images}, and {list(wanted)}, one column per class, is needed"
    return None


def _on_shapes(net: nn.Module, shape: Shape) -> Any:
    with torch.no_grad(), on_meta_device():
        return net(torch.empty(2, shape.channels, shape.size, shape.size, device="meta"))


def asks_for_numbers(net: nn.Module, shape: Shape) -> bool:
    """True if a network cannot run on the meta device, because it depends on the values of tensors."""
    try:
        _on_shapes(net, shape)
    except Exception:  # a user's network may raise anything
        return True
    return False


def _made(call: Callable[[], nn.Module], shape: Shape) -> nn.Module:
    """Return the network on the default device; lazy layers have seen images, so that they have weights."""
    net = build_on_meta(call) if torch.get_default_device().type == "meta" else call()
    if any(nn.parameter.is_lazy(one) for one in (*net.parameters(), *net.buffers())):
        training = net.training
        with torch.no_grad():
            net.eval()(torch.zeros(2, shape.channels, shape.size, shape.size))
        net.train(training)
    return net


def _parameters(constructor: Any, name: str) -> dict[str, inspect.Parameter]:
    try:
        if isinstance(constructor, nn.Module):
            raise TypeError
        return dict(inspect.signature(constructor).parameters)
    except (TypeError, ValueError):
        raise UserError(
            f"model: {name} is a {type(constructor).__name__}; expected a class, or a function that returns a network"
        ) from None


def _passed(parameters: Mapping[str, inspect.Parameter]) -> dict[tuple[str, ...], str]:
    """Return the arguments that the program passes by name: those in CLASSES, CHANNELS, SIZES or SHAPES."""
    found: dict[tuple[str, ...], str] = {}
    for names in (CLASSES, CHANNELS, SIZES, SHAPES):
        key = next((key for key in names if key in parameters and _may_be(parameters[key], names)), None)
        if key is None and names is CLASSES:
            key = next((key for key in OUTPUTS if key in parameters and _is_needed(parameters[key])), None)
        if key is not None:
            found[names] = key
    return found


def _may_be(parameter: inspect.Parameter, names: tuple[str, ...]) -> bool:
    """True unless the argument is a list of channels, which are those of the network's layers."""
    return names is not CHANNELS or not isinstance(parameter.default, tuple | list)


def _value(parameter: inspect.Parameter, names: tuple[str, ...], shape: Shape) -> Any:
    pair = isinstance(parameter.default, tuple | list) or "tuple" in str(parameter.annotation).lower()
    sides = (shape.size, shape.size) if pair else shape.size
    of = {CLASSES: shape.num_classes, CHANNELS: shape.channels, SHAPES: (shape.channels, shape.size, shape.size)}
    return of.get(names, sides)


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_POSITIONAL


def _first(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    """Return the first argument, if it can be passed by position and its name means neither channels nor size."""
    by_position = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    for key, parameter in parameters.items():
        return key if parameter.kind in by_position and key not in (*CHANNELS, *SIZES, *SHAPES) else None
    return None


def _keys(constructor: Any, name: str) -> dict[str, inspect.Parameter]:
    """Return the arguments that are keys of the recipe: those not passed by the program that YAML can express."""
    parameters = _parameters(constructor, name)
    passed = _passed(parameters)
    taken = set(passed.values())
    first = _first(parameters)
    if first is not None and CLASSES not in passed and _is_needed(parameters[first]):
        taken.add(first)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        key: parameter
        for key, parameter in parameters.items()
        if key not in taken
        and key != "name"
        and not key.startswith("_")
        and parameter.kind in kinds
        and (_is_needed(parameter) or parameter.default is None or type(parameter.default) in PLAIN)
    }


def _kind(parameter: inspect.Parameter) -> Any:
    """Return the type of a key, if the signature states it plainly; else Any."""
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
