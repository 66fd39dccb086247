"""The number of parameters after batch norms are folded and branches merged, as for deployment.

Branches that only training needs are merged by the network's own method, if it has one (`fuse`, `reparameterize`,
`switch_to_deploy`). A batch norm folds into the convolution or linear layer before it if nothing else uses that layer's
output, and the layer is used once; its bias then holds the shift.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from featherweight.budget.caches import tensors_in
from featherweight.budget.tally import tallied
from featherweight.budget.what_counts import counted

MERGES = ("fuse", "reparameterize", "switch_to_deploy")
LAYERS = {torch.ops.aten.convolution.default: 2, torch.ops.aten.addmm.default: 0}  # and where their bias stands
WITHOUT_BIAS = (torch.ops.aten.mm.default,)
NORMS = (
    torch.ops.aten.native_batch_norm.default,
    torch.ops.aten._native_batch_norm_legit_no_training.default,
    torch.ops.aten.cudnn_batch_norm.default,
)


def spared_by_folding(model: nn.Module, example: Tensor) -> int | None:
    """Return how many parameters fewer the folded network has; None if it does not run on `example` [B, C, H, W].

    The model is not changed. It is run without memory, if possible.
    """
    before = tallied(model.parameters()).numbers
    for (device, images), merging in itertools.product(runs_on(model, example), (True, False)):
        graph = _Graph()
        with (
            suppress(Exception),
            torch.no_grad(),
            not_compiled(),
        ):  # whatever a network of somebody's raises, its other numbers count
            twin = copied(model).to(device).eval()
            if merging:
                with torch.device(device):
                    _merge(twin)
            with graph:
                twin(images)
            return before - tallied(twin.parameters()).numbers + graph.spared()
    return None


def runs_on(model: nn.Module, example: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the devices a model may run on with images like `example`: without memory; and with it, if it has some,
    for code that asks for the numbers. Then the same with images in the model's own precision.

    One image [C, H, W] becomes a batch where the model has convolutions of images.
    """
    if example.dim() == 3 and any(isinstance(one, nn.Conv2d) for one in model.modules()):
        example = example[None]
    tensors = (*model.parameters(), *model.buffers())
    devices = ("meta",) if any(one.is_meta for one in tensors) else ("meta", "cpu")
    own = next((one.dtype for one in tensors if one.is_floating_point()), example.dtype)
    kinds = (example.dtype, own) if example.is_floating_point() and own != example.dtype else (example.dtype,)
    for kind, device in itertools.product(kinds, devices):
        yield device, torch.zeros_like(example, device=device, dtype=kind)


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of a model, what autograd has made of its weights and it keeps included."""
    attributes = (one for module in model.modules() for one in vars(module).values() if isinstance(one, Tensor))
    made = [one for one in (*counted(model), *attributes) if one.grad_fn is not None]  # which torch does not copy
    return copy.deepcopy(model, {id(one): one.detach().clone() for one in made})


@contextmanager
def not_compiled() -> Iterator[None]:
    """Within, compiled networks run as they were written."""
    with torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext():
        yield


def _merge(module: nn.Module) -> None:
    for name, child in module.named_children():
        method = next((merger for key in MERGES if callable(merger := getattr(child, key, None))), None)
        if method is None:
            _merge(child)
        else:
            merged = method()
            if isinstance(merged, nn.Module):
                setattr(module, name, merged)
            _merge(getattr(module, name))


@dataclass
class _Layer:
    weight: Tensor
    has_bias: bool


@dataclass
class _Graph(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The tensors that layers and norms pass to each other in one run."""

    layers: dict[int, _Layer] = field(default_factory=dict)  # by the id of their output
    norms: list[tuple[int, Tensor | None, Tensor | None]] = field(default_factory=list)
    uses: Counter[int] = field(default_factory=Counter)
    alive: list[Any] = field(default_factory=list)  # so that no two tensors have one id

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.alive += [args, result]
        taken = {id(one) for one in tensors_in(args)}
        self.uses.update(taken)
        if func in LAYERS and args[1].dim() > 1:
            where = LAYERS[func]
            weight = args[1] if where else args[2]
            self.layers[id(result)] = _Layer(weight, args[where] is not None)
        elif func in WITHOUT_BIAS:
            self.layers[id(result)] = _Layer(args[1], False)
        elif func in NORMS:
            self.norms.append((id(args[0]), args[1], args[2]))
        return result

    def spared(self) -> int:
        """Return how many parameters folding saves: scales and shifts of norms, minus biases that layers then need."""
        spared = 0
        shared = Counter(id(scale) for _, scale, _ in self.norms if scale is not None)
        for source, scale, shift in self.norms:
            layer = self.layers.get(source)
            if layer is None or self.uses[source] > 1 or self.uses[id(layer.weight)] > 1:
                continue
            if scale is not None and shared[id(scale)] > 1:
                continue
            channels = len(layer.weight) if layer.weight.dim() != 2 else layer.weight.shape[-1]
            gone = sum(one.numel() for one in (scale, shift) if one is not None)
            spared += gone - (0 if layer.has_bias else channels)
        return spared
