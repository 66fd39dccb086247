"""The parts of a model that count, and their numbers.

Every number that training gave the shipped model, or could have given it, counts: parameters, frozen or not, of any
precision, shared ones once; everything else with numbers that can be reached from the model (tensors in attributes,
containers, closures, hooks and class variables, arrays, bytes, long lists); and buffers that are not statistics of a
normalisation layer, since such a buffer is a weight by another name (`roles`). Statistics are shown, and count only if
the competition says so.

No count can find numbers that exist only while the code runs: written in the code or as text, made from a seed, read
from a file, kept in global names and caches, or cut into short lists. None of these is saved with the weights.
"""

from __future__ import annotations

import array
import gc
import io
import sys
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, get_origin

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from featherweight.budget.made_by_code import held_by
from featherweight.budget.python_numbers import are_indices, numbers_in
from featherweight.budget.roles import Role, Widths, role_of_buffer, too_many, too_many_records
from featherweight.errors import UserError

PLAIN = frozenset((str, int, float, complex, bool, type(None)))  # hold nothing, and are nine tenths of what is met
PLAIN_CONTAINERS = frozenset((dict, OrderedDict, list, tuple, set, frozenset))  # a module has a dozen empty ones
COMPILER = ("torch._dynamo", "torch._inductor", "torch._functorch")
HOLDING = (FunctionType, Tensor, np.ndarray, bytes, list, tuple, set, dict)  # among a class's variables


@dataclass(frozen=True)
class Group:
    """One of the model's top-level modules."""

    name: str
    parameters: int
    statistics: int
    macs: int


def groups(
    parts: Iterable[tuple[str, nn.Module]], macs: Mapping[str, int] = {}, caches: Mapping[int, Tensor] = {}
) -> list[Group]:
    """Return what each part adds to those before it; parts that add nothing are left out.

    `caches` are tensors, by id, that a run has computed from others (`Caches.derived`): they do not count, unless they
    are parameters or buffers.
    """
    parts = list(parts)
    grouped = []
    for (label, _), found in zip(parts, _found([module for _, module in parts], caches), strict=True):
        sums = Counter[Role]()
        for _, role, new in found:
            sums[role] += new
        aside = sums.total() - sums["weight"]
        group = Group(label.removeprefix("net."), sums["weight"], aside, macs.get(label, 0))
        if group.parameters or group.statistics or group.macs:
            grouped.append(group)
    return grouped


def counted(module: nn.Module, caches: Mapping[int, Tensor] = {}) -> list[Tensor]:
    """Return the tensors of a module that count; for `caches` see `groups`."""
    return [tensor for found in _found([module], caches) for tensor, role, _ in found if role == "weight"]


def _found(modules: Sequence[nn.Module], caches: Mapping[int, Tensor]) -> list[list[tuple[Tensor, Role, int]]]:
    """Return for each module its tensors that no module before it has, their roles and how many numbers they add."""
    seen: dict[int, int] = {}
    visited: dict[int, Any] = {}
    widths, sums = _widths(modules), Counter[Role]()
    found: list[list[tuple[Tensor, Role, int]]] = []
    for module in modules:
        found.append([])
        for tensor, role in _tensors(module, visited, widths, caches):
            found[-1].append((tensor, role, new_elements(tensor, seen)))
            sums[role] += found[-1][-1][2]
    held = sum(held_by(one) for each in found for one, role, new in each if role == "record" and new)
    aside: set[Role] = {"statistic"} if too_many(sums["statistic"], sums["weight"]) else set()
    aside |= {"record"} if too_many_records(held, sums["weight"]) else set()
    return [[(one, "weight" if role in aside else role, new) for one, role, new in each] for each in found]


def _widths(modules: Iterable[nn.Module]) -> Widths:
    return Widths(one for module in modules for one in module.parameters() if not nn.parameter.is_lazy(one))


def derived(module: nn.Module) -> dict[int, Tensor]:
    """Return the tensors, by id, that autograd computed from a module's own weights and it keeps, as activations."""
    own = {id(one) for one in module.parameters()}
    return {id(one): one for one in counted(module) if one.grad_fn is not None and _leaves(one) <= own}


def _leaves(tensor: Tensor) -> set[int]:
    """Return the ids of the tensors that autograd computed a tensor from."""
    leaves: set[int] = set()
    seen: set[Any] = set()
    ahead: list[Any] = [tensor.grad_fn]
    while ahead:
        step = ahead.pop()
        if step is not None and step not in seen:
            seen.add(step)
            leaves |= {id(step.variable)} if hasattr(step, "variable") else set()
            ahead += [before for before, _ in step.next_functions]
    return leaves


def refuse_untrainable(model: nn.Module, name: str) -> None:
    """Raise UserError for a network with nothing to train, with complex parameters, or with some that are not saved."""
    own = {id(one) for one in model.parameters()}
    for one in counted(model):
        if isinstance(one, nn.Parameter) and id(one) not in own:
            raise UserError(
                f"model: {name} has a parameter {list(one.shape)} that torch does not see, neither trains nor saves: "
                f"put layers of a list or dict into an nn.ModuleList or nn.ModuleDict"
            )
    if strange := [key.removeprefix("net.") for key, one in model.named_parameters() if one.is_complex()]:
        how = "keep torch.view_as_real of it, and torch.view_as_complex in forward"
        raise UserError(f"model: {name} has the complex parameter {strange[0]}, which no optimizer here trains: {how}")
    if not any(one.requires_grad for one in model.parameters()):
        why = "all its parameters are frozen" if own else "it has no parameters; tensors that learn are nn.Parameters"
        raise UserError(f"model: {name} has nothing to train: {why}")


def _tensors(
    root: Any, visited: dict[int, Any], widths: Widths, caches: Mapping[int, Tensor] = {}
) -> Iterator[tuple[Tensor, Role]]:
    """Yield every tensor reachable from a module, and its role: all but statistics and what the code makes are weights.

    Other objects with numbers count as a tensor of that many: arrays, bytes, storages, and more than a few Python
    numbers in one container.
    """
    ahead, summed = [root], set[int]()
    while ahead:
        thing = ahead.pop()
        if type(thing) in PLAIN or id(thing) in visited:
            continue
        if type(thing) in PLAIN_CONTAINERS and not thing and not gc.get_referents(thing):
            continue
        code = isinstance(thing, type | ModuleType) or get_origin(thing) is not None
        if code or isinstance(thing, str | int | float | complex | io.TextIOBase):
            continue
        if isinstance(thing, Tensor) and type(thing) is _fake():  # a shape in the graph of an exported program
            continue
        visited[id(thing)] = thing  # kept, so that nothing else can come to have its id or its memory
        if isinstance(thing, nn.Module):
            visited |= {id(one): one for one in _worked_out(thing)}
            for name, buffer in thing._buffers.items():
                if buffer is not None and id(buffer) not in visited:
                    visited[id(buffer)] = buffer
                    yield buffer, role_of_buffer(thing, name, buffer, widths)
                    ahead += _inside(buffer)
        elif isinstance(thing, Tensor):
            if id(thing) not in caches or isinstance(thing, nn.Parameter):
                yield thing, "weight"
        elif (unpacked := _as_tensor(thing, summed)) is not None:
            visited[id(unpacked)] = unpacked
            yield unpacked, "record" if unpacked.dtype == torch.int64 else "weight"
        ahead += _inside(thing)
        if id(type(thing)) not in visited:
            visited[id(type(thing))] = type(thing)
            ahead += [one for kind in type(thing).__mro__ for one in vars(kind).values() if isinstance(one, HOLDING)]


def _worked_out(module: nn.Module) -> Iterator[Tensor]:
    """What a module works out of its parameters before each pass and keeps: those hooks say so that torch registers for
    old weight norm, spectral norm and pruning; and the biases of timm's attention, by their places.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm | SpectralNorm | BasePruningMethod):
            name = hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name
            source = module._parameters.get(f"{name}_v" if isinstance(hook, WeightNorm) else f"{name}_orig")
            made = vars(module).get(name)
            if isinstance(made, Tensor) and source is not None and made.shape == source.shape:
                yield made
    kept, biases = vars(module).get("attention_bias_cache"), module._parameters.get("attention_biases")
    places = module._buffers.get("attention_bias_idxs")
    if isinstance(kept, dict) and biases is not None and places is not None:
        made = biases.detach()[:, places]
        for one in kept.values():
            if isinstance(one, Tensor) and one.device == made.device and (one.is_meta or torch.equal(one, made)):
                yield one


def _is_of_compiler(thing: Any) -> bool:
    """True if it is an object or a function of torch's compiler, whose settings are no weights."""
    if isinstance(thing, FunctionType):
        return "/torch/_dynamo/" in thing.__code__.co_filename.replace("\\", "/")
    home = sys.modules.get(type(thing).__module__)
    return type(thing).__module__.startswith(COMPILER) and getattr(home, type(thing).__name__, None) is type(thing)


def _fake() -> type | None:
    """Return torch's class of tensors without values; None if it has not been imported."""
    return getattr(sys.modules.get("torch._subclasses.fake_tensor"), "FakeTensor", None)


def _inside(thing: Any) -> Iterable[Any]:
    """Return what an object holds in attributes, slots, containers or an iterator, as the garbage collector follows it.

    For a function these are its closure and each of its defaults, not its globals.
    """
    if type(thing) in (dict, list, tuple):
        return gc.get_referents(thing)
    if _is_of_compiler(thing):
        inner = [getattr(thing, name, None) for name in ("_orig_mod", "_torchdynamo_orig_callable")]
        return [one for one in inner if one is not None]
    if isinstance(thing, FunctionType):
        defaults = (*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values())
        return [*(thing.__closure__ or ()), *defaults, thing.__dict__]
    if isinstance(thing, Tensor):
        return [thing.__dict__, thing._backward_hooks]
    if isinstance(thing, np.ndarray):
        return list(thing.flat) if thing.dtype.hasobject else []
    if isinstance(thing, torch.jit.ScriptModule):  # whose insides are not Python's
        return [*thing.parameters(recurse=False), *thing.children(), *_constants(thing)]
    if isinstance(thing, torch.ScriptObject):  # quantised layers keep weight and bias in one, where nobody sees them
        return _packed(thing.__getstate__()) if hasattr(thing, "__getstate__") else []
    return gc.get_referents(thing)


def _constants(scripted: torch.jit.ScriptModule) -> list[Tensor]:
    """Return the tensors in the code of a script module, which are all weights of a frozen one."""
    with suppress(RuntimeError, AttributeError):  # a module that has no `forward`
        graph: Any = scripted.inlined_graph  # kept, for its nodes go with it
        nodes = graph.findAllNodes("prim::Constant")
        return [node.t("value") for node in nodes if node.hasAttribute("value") and node.kindOf("value") == "t"]
    return []


def _packed(state: Any) -> list[Tensor]:
    """Return the weights in the state of a packed layer; its integers are settings: strides, paddings."""
    if isinstance(state, torch.ScriptObject) and hasattr(state, "__getstate__"):
        return _packed(state.__getstate__())
    if isinstance(state, list | tuple):
        return [one for inner in state for one in _packed(inner)]
    return [state] if isinstance(state, Tensor) and (state.is_quantized or state.is_floating_point()) else []


def _as_tensor(thing: Any, summed: set[int]) -> Tensor | None:
    """Return the numbers of an object that is not a tensor, without those of objects inside it: indices as int64, of
    others only how many they are, on the meta device; None without any.
    """
    numbers = numbers_in(thing, summed)
    if are_indices(numbers):
        return torch.tensor(numbers)
    count = len(numbers) or _count(thing)
    return torch.empty(count, dtype=torch.uint8, device="meta") if count else None


def _count(thing: Any) -> int:
    """Return how many numbers an array or bytes hold; 0 for any other object."""
    if isinstance(thing, np.ndarray):
        return 0 if thing.dtype.kind in "OSU" else thing.size * (2 if thing.dtype.kind == "c" else 1)
    if isinstance(thing, bytes | bytearray | memoryview | array.array):
        return len(thing)
    if isinstance(thing, io.BytesIO):
        return 0 if thing.closed else len(thing.getvalue())
    if isinstance(thing, torch.UntypedStorage):
        return len(thing)
    return 0


def new_elements(tensor: Tensor, seen: dict[int, int]) -> int:
    """Return how many numbers `tensor` adds: shared memory counts once, and in full, however small its views are."""
    if nn.parameter.is_lazy(tensor):  # created by the first images
        return 0
    each = numbers_in_each(tensor)
    if tensor.layout is not torch.strided:  # sparse: as many as it stands for, or holds if these are more
        stored = tensor._values() if tensor.layout is torch.sparse_coo else tensor.values()
        storage, elements = stored.untyped_storage(), max(tensor.numel(), stored.numel()) * each
    else:
        storage = tensor.untyped_storage()
        elements = storage.nbytes() // tensor.element_size() * each
    before = seen.get(storage._cdata, 0)
    seen[storage._cdata] = max(before, elements)
    return max(0, elements - before)


def numbers_in_each(tensor: Tensor) -> int:
    """Return how many numbers an element is: two if it is complex, or of two 4-bit numbers."""
    return 2 if tensor.is_complex() or str(tensor.dtype).endswith("_x2") else 1
