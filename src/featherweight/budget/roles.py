"""Tensors that are no weights: statistics of norms, and what the code makes. They are shown and do not count.

A name alone proves nothing: such a tensor may only be as large as what it is said to be, or hold the values that the
code would give it. All others count as weights by another name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.optim.swa_utils import AveragedModel

from featherweight.budget.made_by_code import MADE, WHOLE, is_made, is_whole
from featherweight.models import Normalize

# Records are masks and whole numbers that are not saved, and lists of places. All of them together hold few numbers.
Role = Literal["weight", "statistic", "made", "record"]

# Buffers of a norm that hold statistics of the data, as those of `Normalize` do: shown, and counted only if the
# competition says so.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
LIBRARIES = ("torch", "torchvision", "timm", "transformers")  # whose modules hold in such buffers what their names say
NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "InstanceNorm1d", "InstanceNorm2d")
LEAST, SHARE = 10_000, 0.05  # a network has fewer statistics than the larger: LEAST, or SHARE of its parameters
RECORDED = 0.01  # the same for records: LEAST, or RECORDED of its parameters


class Widths:
    """How wide the layers of a model are, which bounds its norms: a norm's channels are those of a layer."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        known = list(tensors)
        self._sides = {side for one in known if one.dim() > 1 for side in one.shape[:2] if side}
        self._longest = max((one.numel() for one in known), default=None)

    def has(self, channels: int) -> bool:
        """True if a norm without weights of its own can have this many channels: those of a layer, or of its parts."""
        if self._sides:
            return channels == 0 or any(side % channels == 0 for side in self._sides)
        return self._longest is None or channels <= self._longest  # weights in one flat tensor


def too_many(statistics: int, parameters: int) -> bool:
    """True if a network with this many parameters has fewer statistics: they all count as parameters."""
    return statistics > max(LEAST, SHARE * parameters)


def too_many_records(held: int, parameters: int) -> bool:
    """True if the records of a network with this many parameters hold fewer numbers: they all count as parameters."""
    return held > max(LEAST, RECORDED * parameters)


def role_of_buffer(module: nn.Module, name: str, buffer: Tensor, widths: Widths) -> Role:
    """Return what a buffer of a module is: a weight, unless it is a statistic of a norm, or made by the code."""
    size, is_remade = buffer.numel(), name in module._non_persistent_buffers_set
    if isinstance(module, nn.modules.batchnorm._NormBase) and name in STATISTICS:
        owned = module.affine or widths.has(module.num_features)
        return "statistic" if size <= 1 or (owned and size <= module.num_features) else "weight"
    if isinstance(module, torch.jit.ScriptModule) and module.original_name in NORMS and name in STATISTICS:
        own = max((one.numel() for one in module.parameters(recurse=False)), default=0)
        return "statistic" if size <= max(1, own) or (not own and widths.has(size)) else "weight"
    if type(module).__module__.partition(".")[0] in LIBRARIES:
        is_named = _names(type(module), name)
        is_believed = (buffer.is_meta and name in MADE) or (is_remade and buffer.dtype not in WHOLE)
        if is_named and (is_believed or is_made(name, buffer)):
            return "made"
        if is_named and name in STATISTICS:  # of a norm of its own: frozen, or with its activation
            scale = getattr(module, "weight", None)
            owned = isinstance(scale, Tensor) and scale.dim() == 1 and size <= len(scale)
            return "statistic" if owned or size <= 1 else "weight"
    if isinstance(module, Normalize):
        return "made" if name in ("mean", "std") else "weight"
    if isinstance(module, AveragedModel) and name == "n_averaged":
        return "made" if size <= 1 else "weight"
    if isinstance(module, _SpectralNorm) and name in ("_u", "_v"):  # from which it works out one number
        return "statistic" if buffer.dim() <= 1 else "weight"
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, SpectralNorm) and name in (f"{hook.name}_u", f"{hook.name}_v"):
            return "statistic" if buffer.dim() <= 1 else "weight"
        if isinstance(hook, BasePruningMethod) and name == f"{hook._tensor_name}_mask":
            pruned = module._parameters.get(f"{hook._tensor_name}_orig")
            return "made" if pruned is not None and pruned.shape == buffer.shape and is_mask(buffer) else "weight"
    if not is_remade or buffer.dtype not in WHOLE or buffer.layout is not torch.strided:
        return "weight"
    return "made" if is_made(name, buffer) else "record"


def _names(kind: type, buffer: str) -> bool:
    """True if the code of a class has this word: a buffer that it does not save, it makes anew."""
    functions = [one for parent in kind.__mro__ for one in vars(parent).values() if isinstance(one, FunctionType)]
    return any(buffer in one.__code__.co_consts for one in functions)


def roles(state: Mapping[str, Tensor]) -> dict[str, Role]:
    """Return the tensors of a state that are no weights, by name: statistics of norms, and what the code makes."""
    named = {key: key.rpartition(".")[::2] for key in state}
    widths = Widths(one for key, one in state.items() if named[key][1] not in STATISTICS)
    found: dict[str, Role] = {key: _role(key, *named[key], state, widths) for key in state}
    return {key: role for key, role in found.items() if role != "weight"}


def _role(key: str, module: str, last: str, state: Mapping[str, Tensor], widths: Widths) -> Role:
    tensor, home = state[key], f"{module}." if module else ""
    if last in MADE:
        return "made" if is_made(last, tensor) else "weight"
    if last in ("_u", "_v"):  # a spectral norm's, from which it works out one number
        return _of_spectral_norm(state.get(f"{module.rpartition('.')[0]}.original"), state, f"{home}_u", f"{home}_v")
    if last.endswith(("_u", "_v")):
        return _of_spectral_norm(state.get(f"{key[:-2]}_orig"), state, f"{key[:-2]}_u", f"{key[:-2]}_v")
    if last.endswith("_mask"):  # of torch's pruning
        pruned = state.get(f"{key[:-5]}_orig")
        return "made" if pruned is not None and pruned.shape == tensor.shape and is_mask(tensor) else "weight"
    if last in ("n_averaged", "num_batches_tracked"):
        role: Role = "made" if last == "n_averaged" else "statistic"
        return role if tensor.numel() == 1 else "weight"
    if last not in STATISTICS or tensor.dim() != 1:
        return "weight"
    scale = state.get(f"{home}weight")
    pair = [state[f"{home}{one}"] for one in STATISTICS[:2] if f"{home}{one}" in state]
    if any(one.shape != tensor.shape for one in pair):
        return "weight"
    owned = scale is not None and scale.shape == tensor.shape  # of EvoNorm, the variance alone
    return "statistic" if owned or (len(pair) == 2 and widths.has(len(tensor))) else "weight"


def _of_spectral_norm(original: Tensor | None, state: Mapping[str, Tensor], left: str, right: str) -> Role:
    """Two vectors whose outer product has the shape of the weight as a matrix; of a vector there is none."""
    pair = [state[name] for name in (left, right) if name in state]
    if original is None or len(pair) != 2 or any(one.dim() != 1 for one in pair):
        return "weight"
    return "statistic" if len(pair[0]) * len(pair[1]) == original.numel() else "weight"


def is_mask(tensor: Tensor) -> bool:
    """True if all values are 0 or 1."""
    return not tensor.is_meta and is_whole(tensor) and bool(((tensor == 0) | (tensor == 1)).all())
