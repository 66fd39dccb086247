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
from featherweight.budget.what_counts import STATISTICS, groups, new_elements
from featherweight.errors import UserError
from featherweight.models import FAMILIES, own
from featherweight.models.pretrained_weights import ENDINGS
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
    seen: dict[int, int] = {}
    packed, aside = _unpacked(state)
    statistics = sum(_new(one, seen) for key, one in state.items() if key.rpartition(".")[2] in STATISTICS)
    parameters = sum(packed.values())
    for key, one in state.items():
        found = _new(one, seen)
        parameters += 0 if key in packed or key in aside else found
    return Weight(name, parameters, statistics, sum(_new(one, seen) for one in _all_tensors(content)), size)


def _unpacked(state: Mapping[str, Tensor]) -> tuple[dict[str, int], set[str]]:
    """What tensors of several weights in one number stand for, by name; and the names of what only unpacks them.

    bitsandbytes stores two 4-bit weights in a byte (transformers #25978, peft #1020); GPTQ and AWQ store eight in an
    int32, along the inputs or along the outputs.
    """
    packed: dict[str, int] = {}
    aside: set[str] = set()
    for key, tensor in state.items():
        module, _, last = key.rpartition(".")
        beside = f"{module}." if module else ""
        if any(f"{key}.quant_state.bitsandbytes__{kind}" in state for kind in ("nf4", "fp4")):
            packed[key] = 2 * tensor.numel()
            aside |= {name for name in state if name.startswith(f"{key}.")}
        elif last == "qweight" and f"{beside}scales" in state and tensor.ndim == 2:
            scales, order = state[f"{beside}scales"], state.get(f"{beside}g_idx")
            inputs = len(tensor) if order is None else len(order)
            packed[key] = inputs * scales.shape[-1]
            aside |= {f"{beside}{name}" for name in ("scales", "qzeros", "g_idx")} & set(state)
    return packed, aside


def _new(tensor: Tensor, seen: dict[int, int]) -> int:
    """The numbers that a tensor adds: shared memory counts once, and whole, however small its views are."""
    return tensor.numel() if tensor.is_quantized else new_elements(tensor, seen)


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
