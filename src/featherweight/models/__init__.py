"""The models that a recipe may name, and `build`, the only constructor.

A family is a class or function that takes `(num_classes, channels, image_size)` and its own keyword-only arguments,
which are the keys of a recipe's `model` section; see `schema`. To add one, write it in a file of this package, with its
`Family` at the end, and name that in FAMILY.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from pydantic import (
    GetCoreSchemaHandler,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from torch import Tensor, nn

from featherweight.errors import UserError
from featherweight.models import (
    custom,
    densenet,
    efficientnet,
    fastnet,
    fpn,
    googlenet,
    library,
    mlp,
    mobilenet_v2,
    resnet,
    transformer,
    vgg,
    wrn,
)
from featherweight.models.bounds import bounded
from featherweight.models.family import Family
from featherweight.models.pretrained_weights import load_pretrained, starts_pretrained
from featherweight.models.shape import Shape
from featherweight.runtime.torch_internals import build_on_meta, on_meta_device
from featherweight.schema import Choice, OneOf

FAMILY: dict[str, Family] = {
    family.name: family
    for family in (
        wrn.FAMILY,
        resnet.CIFAR_FAMILY,
        resnet.FAMILY,
        efficientnet.FAMILY,
        fastnet.FAMILY,
        mlp.FAMILY,
        transformer.FAMILY,
        vgg.FAMILY,
        densenet.FAMILY,
        mobilenet_v2.FAMILY,
        googlenet.FAMILY,
        fpn.FAMILY,
        *library.FAMILIES,
    )
}
MODELS: dict[str, Callable[..., nn.Module]] = {name: family.constructor for name, family in FAMILY.items()}


class Families(OneOf):
    """The families, and the user's own networks, which have a colon in their name: see `models.custom`."""

    more = ", and FILE.py:NAME or PACKAGE.MODULE:NAME for a network of yours"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        table = super().__get_pydantic_core_schema__(source, handler)
        written = core_schema.wrap_serializer_function_ser_schema(self._write, info_arg=True, schema=table)
        return core_schema.no_info_wrap_validator_function(self._read, table, serialization=written)

    def _read(self, data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(data, custom.CustomModel):
            return data
        section = {"name": data} if isinstance(data, str) else data
        name = section.get("name") if isinstance(section, Mapping) else None
        if isinstance(name, str) and (custom.is_custom(name) or name.endswith(".py")):  # .py: the network is missing
            try:
                return custom.section(name).model_validate(section)
            except UserError as error:
                raise PydanticCustomError("own", "{text}", {"text": str(error).removeprefix("model: ")}) from None
        return handler(data)

    def _write(self, value: Any, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        if isinstance(value, custom.CustomModel):
            return value.model_dump(mode=info.mode, exclude_unset=True) | {"name": value.name}
        return handler(value)


FAMILIES = Families(MODELS)


class Normalize(nn.Module):
    """Subtract the mean of the training images and divide by their standard deviation: two buffers, float32 [C, 1, 1].

    The mean may also be one for every pixel, [C, H, W].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        self.kept = False  # True if the statistics are not those of the training images

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        return (images - self.mean) / self.std

    @torch.no_grad()
    def keep(self, statistics: tuple[Tensor, Tensor] | None) -> None:
        """Take the mean and deviation that weights bring with them, if they have as many channels, and keep these."""
        if statistics is None or any(len(one) != len(self.mean) for one in statistics):
            return
        for buffer, theirs in zip((self.mean, self.std), statistics, strict=True):
            buffer.copy_(theirs.flatten(1).mean(1).view(-1, 1, 1))
        self.kept = True

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        if f"{prefix}mean" in state_dict:
            self.mean = self.mean.new_empty(state_dict[f"{prefix}mean"].shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Classifier(nn.Module):
    """A model as it is trained, counted, saved and shipped: images float32 [B, C, H, W] in [0, 1] to logits [B, K]."""

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__()
        self.normalize = Normalize(channels)
        self.net = net

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        logits: Tensor = self.net(self.normalize(images))
        return logits


def build(spec: Choice, shape: Shape) -> Classifier:
    """Return the model that a recipe names, freshly initialised from torch's global generator.

    Raises UserError if the family cannot be built with these arguments (a WRN of depth 17, or of depth 1,000,000).
    """
    with bounded(f"model: {spec.name}"):
        return Classifier(spec(*shape), shape.channels)


def outline(spec: Choice, shape: Shape) -> Classifier:
    """Return what `build` would make, but on the meta device: with shapes and without memory, to count its parameters.

    A network of the user's whose forward pass depends on the values of its activations is built with memory.
    """
    model = build_on_meta(lambda: build(spec, shape))
    if isinstance(spec, custom.CustomModel) and custom.asks_for_numbers(model.net, shape):
        with torch.random.fork_rng(devices=()), torch.device("cpu"):
            return build(spec, shape).eval()
    return model


@contextmanager
def outline_run(model: Classifier, shape: Shape) -> Iterator[Tensor]:
    """Context in which an outline can run; yields an image for it, [1, C, H, W], on the model's device."""
    device = model.normalize.mean.device
    with torch.no_grad(), on_meta_device() if device.type == "meta" else nullcontext():
        yield torch.zeros(1, shape.channels, shape.size, shape.size, device=device)


def start_pretrained(model: Classifier, spec: Choice, shape: Shape) -> str:
    """Load the pretrained weights that `spec` names into a fresh model, in place, and return a line about it.

    The line is empty if it names none. Raises UserError for weights that do not match this network.
    """
    if not starts_pretrained(spec):
        return ""
    loaded = load_pretrained(model.net, spec, shape)
    model.normalize.keep(loaded.normalize)
    return str(loaded)
