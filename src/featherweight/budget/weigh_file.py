"""Anybody's model on the scales: a module, a file of weights, a network of a library or of the user's.

A file of weights says no more than names and tensors, so what is a parameter there is told by the names: statistics of
batch norms are set apart, and so is what a checkpoint holds beside the model (optimizer, averages). Tensors that share
memory count once, where the file says that they do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featherweight import reading
from featherweight.budget.walk import STATISTICS, groups
from featherweight.errors import UserError
from featherweight.models import FAMILIES, own
from featherweight.models.published import ENDINGS
from featherweight.models.shape import Shape
from featherweight.models.weights_file import read_content, state_in
from featherweight.runtime.torch_internals import outlined

IMAGENET = Shape(1000, 3, 224)  # what a network by its name is made for


@dataclass(frozen=True)
class Weight:
    """What a model weighs: `parameters`, frozen or not, shared ones once; `statistics` of its norms; `others`, numbers
    that a checkpoint holds beside the model; and the bytes of the file (0 where there is none).
    """

    name: str
    parameters: int
    statistics: int = 0
    others: int = 0
    bytes: int = 0


def weigh_anything(what: nn.Module | str | Path, example: Tensor | None = None) -> Weight:
    """Weigh a module, a file (.pth .pt .bin .ckpt .safetensors .onnx), `timm/NAME`, `torchvision/NAME`, `FILE.py:NAME`.

    `example` is passed through a module whose parameters come into being with the first images. No code of a file is
    run. Raises UserError for what is none of these, damaged, or could run code.
    """
    if isinstance(what, nn.Module):
        if example is not None:
            with torch.no_grad():
                what(example)
        return _of_module(type(what).__name__, what)
    name = str(what)
    library = name.startswith(("timm/", "torchvision/"))
    if library or (own.is_own(name) and not Path(name).exists()):
        spec = FAMILIES.validate(name)
        return _of_module(name, outlined(lambda: spec(*IMAGENET)))
    path = Path(name).expanduser()
    size = reading.regular_file(path).st_size
    if path.suffix == ".onnx":
        return Weight(name, _onnx_numbers(path), bytes=size)
    if path.suffix not in ENDINGS:
        raise UserError(f"cannot weigh {path}: its ending is none of {', '.join([*ENDINGS, '.onnx'])}")
    return _of_content(name, path, read_content(path), size)


def _of_module(name: str, module: nn.Module) -> Weight:
    summed = groups([(name, module)])
    return Weight(name, sum(part.parameters for part in summed), sum(part.statistics for part in summed))


def _of_content(name: str, path: Path, content: Any, size: int) -> Weight:
    state = state_in(content)
    if not state:
        raise UserError(f"{path}: there are no tensors by name in it")
    seen: set[int] = set()
    statistics = sum(_new(one, seen) for key, one in state.items() if key.rpartition(".")[2] in STATISTICS)
    parameters = sum(_new(one, seen) for one in state.values())
    return Weight(name, parameters, statistics, sum(_new(one, seen) for one in _all_tensors(content)), size)


def _new(tensor: Tensor, seen: set[int]) -> int:
    """The numbers that a tensor adds: none where its memory has been counted."""
    key = tensor.untyped_storage()._cdata if tensor.layout is torch.strided and not tensor.is_quantized else id(tensor)
    if key in seen:
        return 0
    seen.add(key)
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def _all_tensors(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping | list | tuple):
        for inner in content.values() if isinstance(content, Mapping) else content:
            yield from _all_tensors(inner)


def _onnx_numbers(path: Path) -> int:
    """The numbers of a graph's initializers, as declared; weights outside the file must be there."""
    import math

    with reading.explained(path, "no readable ONNX file"):
        import onnx

        model = onnx.load(str(path), load_external_data=False)
    total = 0
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            beside = path.parent / entry.value
            if entry.key == "location" and not beside.is_file():
                raise UserError(f"{path}: its weights are in {entry.value}, which is not beside it")
        total += math.prod(tensor.dims)
    return total
