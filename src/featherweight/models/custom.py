"""The user's own networks: `model: my_net.py:Net` or `model: package.module:Net`, a class or a function as it is.

It is called with the names that it has for the number of classes, the number of channels and the side of the images; a
first argument without such a name and default is the number of classes. Its other arguments are keys of the recipe. Its
source is stored with each run (`store_sources`) and loaded from there (`stored_sources`): a later change of the file
changes no run.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import ConfigDict, create_model, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from featherweight import atomic
from featherweight.errors import UserError
from featherweight.models.custom_signature import (
    CLASSES,
    OUTPUTS,
    config_of,
    first_of,
    is_needed,
    keys_of,
    kind_of,
    parameters_of,
    passed_by_name,
    takes_any_key,
    value_of,
)
from featherweight.models.custom_source import load, told
from featherweight.models.shape import Shape
from featherweight.runtime.torch_internals import build_on_meta, on_meta_device
from featherweight.schema import Choice

LIBRARIES = ("timm/", "torchvision/")  # before the names of their networks


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
        return {
            key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set - {"name"}
        } | (self.model_extra or {})

    def __eq__(self, other: object) -> bool:
        """True if both are the same network: each loading makes a new class, so their code and keys are compared."""
        if not isinstance(other, CustomModel):
            return False
        return (self.name, self.arguments, self.sources) == (other.name, other.arguments, other.sources)

    def __hash__(self) -> int:
        return hash(self.name)


class OpenModel(CustomModel):
    """A model section of a constructor that takes any keys (`**keys`); what it does not know, it says itself."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        return data


def pretrained_argument(spec: CustomModel) -> str:
    """Return the argument, with its value, that makes a network of the user's load weights of its own; usually none."""
    constructor, name = spec.target.args  # type: ignore[attr-defined]
    for key, parameter in parameters_of(constructor, name).items():
        default = None if parameter.default is inspect.Parameter.empty else parameter.default
        value = spec.arguments.get(key, default)
        weights = key.lower() == "weights" and not isinstance(value, list | tuple | dict)  # those are class weights
        if value and (weights or "pretrain" in key.lower()):
            return f"{key}={value}"
    return ""


def is_custom(name: str) -> bool:
    """True if a model's name says where its code is: FILE.py:NAME, and not timm/hf_hub:NAME."""
    return ":" in name and not name.startswith(LIBRARIES)


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
    for key, parameter in keys_of(constructor, name).items():
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[key] = (kind_of(parameter), default)
    base: type[CustomModel] = OpenModel if takes_any_key(constructor, name) else CustomModel
    kind: type[CustomModel] = create_model(
        f"CustomModel_{name.rpartition(':')[2]}", __base__=base, __doc__=inspect.getdoc(constructor), **fields
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
        tried.append(f"{words} {why}{_hint(parameters_of(constructor, name), keys, why, num_classes)}")
    raise UserError(f"model: {'; '.join(tried)}")


def _hint(parameters: Mapping[str, inspect.Parameter], keys: Mapping[str, Any], why: str, classes: int) -> str:
    """The argument that gives as many outputs as there are, and is likely the number of classes; mostly empty."""
    found = re.search(r"gives shape \[2, (\d+)\]", why)
    columns = int(found[1]) if found else None
    key = next((key for key, one in parameters.items() if type(one.default) is int and one.default == columns), None)
    return f" (if '{key}' is the number of classes: --set model.{key}={classes})" if key and key not in keys else ""


def countable(name: str, shape: Shape) -> nn.Module | None:
    """Return a user's network to be counted, whatever it answers and where it has no forward pass for such images: one
    that is there as it is, else made in the first way that makes it. None where no way does, or for other classes.
    """
    found, _ = load(name)
    if isinstance(found, nn.Module):
        return found
    for _, call in _calls(found, name, shape, {}):
        with torch.random.fork_rng(devices=()), suppress(Exception, SystemExit):
            net = build_on_meta(call)
            with suppress(Exception):
                output = _on_shapes(net, shape)
                if isinstance(output, Tensor) and output.dim() == 2 and output.shape[1] not in (1, shape.num_classes):
                    return None
            return net
    return None


def _calls(
    constructor: Callable[..., Any], name: str, shape: Shape, keys: Mapping[str, Any]
) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Yield the ways to call it, each with its source text, the likeliest first."""
    parameters = parameters_of(constructor, name)
    passed = passed_by_name(parameters)
    named = {key: value_of(parameters[key], names, shape) for names, key in passed.items() if key not in keys}
    ways: list[tuple[list[Any], dict[str, Any]]] = [([], named)]
    first = first_of(parameters)
    if CLASSES not in passed and first is not None and first not in keys and first not in named:
        config = config_of(constructor, parameters[first], shape)
        by_position: tuple[list[Any], dict[str, Any]] = ([shape.num_classes if config is None else config], named)
        ways = [by_position] if is_needed(parameters[first]) else [*ways, by_position]
    if CLASSES not in passed and any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        more = {"num_classes": shape.num_classes, "in_chans": shape.channels}
        ways = [([], named | more), ([], named | {"num_classes": shape.num_classes}), *ways]
    if CLASSES not in passed:  # the outputs have a default: they are the number of classes if nothing else is
        outputs = [key for key in OUTPUTS if key in parameters and key not in {*keys, *named}]
        ways += [([], named | {key: shape.num_classes}) for key in outputs]
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
