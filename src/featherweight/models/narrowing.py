"""Narrower networks: fewer outputs and inputs of their layers, as a recipe's `widths` say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from featherweight.errors import UserError
from featherweight.schema import PositiveInt

Sizes = Sequence[int | None]  # of a tensor's first dimensions; None is as it was
Widths = Annotated[
    dict[str, list[PositiveInt | None]],
    Field(
        description="narrower layers, by name: [outputs, inputs] of the weight, null: unchanged; "
        "`./run.sh trim` writes them"
    ),
]


def narrowed(net: nn.Module, widths: Mapping[str, Sizes]) -> nn.Module:
    """Cut these layers (or parameters outside of layers) to their first outputs and inputs, in place.

    The sizes of a layer are those of its weight; its bias and statistics follow. Initial values stay the same. Raises
    UserError for a layer that does not exist or is not that wide.
    """
    parameters = dict(net.named_parameters())
    modules = dict(net.named_modules())
    for name, sizes in widths.items():
        weight = parameters.get(f"{name}.weight", parameters.get(name))
        if weight is None:
            raise UserError(f"model.widths: the network has no layer '{name}'")
        if len(sizes) > weight.dim() or any(
            size is not None and size > there for size, there in zip(sizes, weight.shape, strict=False)
        ):
            raise UserError(f"model.widths: {name} has the shape {list(weight.shape)}, too small for {sizes}")
        if name in modules:
            _narrow_layer(modules[name], sizes)
        else:
            parent, _, own = name.rpartition(".")
            _cut(modules[parent], own, sizes)
    return net


def widths_between(whole: nn.Module, cut: nn.Module) -> dict[str, list[int | None]]:
    """Return the widths with which `narrowed` turns one set of shapes into the other."""
    before = dict(whole.named_parameters())
    between: dict[str, list[int | None]] = {}
    for name, after in cut.named_parameters():
        layer, _, role = name.rpartition(".")
        sizes = [
            None if now == then else now for now, then in zip(after.shape[:2], before[name].shape[:2], strict=True)
        ]
        if any(sizes) and (role == "weight" or f"{layer}.weight" not in before):
            sizes = sizes if sizes[-1] is not None else sizes[:-1]
            between[layer if role == "weight" else name] = sizes
    return between


def _narrow_layer(layer: nn.Module, sizes: Sizes) -> None:
    """Cut a layer's tensors, and update the layer's attributes that state its shape."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    wide = len(weight)
    for own, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        if own == "weight":
            _cut(layer, own, sizes)
        elif tensor.dim() and len(tensor) == wide:
            _cut(layer, own, sizes[:1])
    weight = layer.weight
    assert isinstance(weight, Tensor)
    outputs = len(weight)
    if isinstance(layer, nn.Conv2d):
        if layer.groups == layer.in_channels > 1:  # depthwise: a group for each channel
            layer.groups = outputs // (layer.out_channels // layer.groups)
        layer.out_channels, layer.in_channels = outputs, weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = outputs, weight.shape[1]
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        layer.num_features = outputs
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = outputs
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = (outputs,)


def _cut(layer: nn.Module, own: str, sizes: Sizes) -> None:
    tensor = getattr(layer, own)
    part = tensor.detach()[tuple(slice(size) for size in sizes)].clone()
    setattr(layer, own, nn.Parameter(part, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else part)
