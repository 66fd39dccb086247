"""The weigh-in: what counts, how much of it there is, and the refusal of what is over the limit.

Counted is every number the shipped model was given by training or could have been: parameters, frozen or not, of any
precision, shared ones once; whatever else can be reached from the model that holds numbers (tensors in attributes,
containers, closures, hooks and class variables, arrays, bytes, long lists); and buffers that are not statistics of a
normalisation layer, since such a buffer is a weight by another name. Statistics are shown, and count only if the
competition says so.

No count can see numbers that are nowhere until the code runs: written in the code or as text, made from a seed, read
from a file, kept in global names and caches, or cut into short lists. None of these is saved with the weights.
"""

from __future__ import annotations

import array
import dataclasses
import functools
import gc
import io
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Number
from types import FunctionType, ModuleType
from typing import Any, get_origin

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from featherweight.budget.shrink import line, nearest_that_fits
from featherweight.config import Competition, Recipe
from featherweight.errors import OverBudget, UserError
from featherweight.models import FAMILIES, Classifier, Normalize, outline
from featherweight.models.blocks import STEM_RULE
from featherweight.models.meta import weightless
from featherweight.runtime.uncompiled import spare_the_compiler
from featherweight.schema import Choice

# Buffers of a norm that hold statistics of the data, as those of `Normalize` do: shown, and counted only if the
# competition says so.
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
FEW = 32  # so many of Python's numbers in one container are settings; more are weights by another name
HOLDING = (FunctionType, Tensor, np.ndarray, bytes, list, tuple, set, dict)  # among a class's variables
APART = 0.05  # two counters of multiply-adds that differ by more than this don't mean the same network


@dataclass(frozen=True)
class Group:
    """One of the model's top-level modules."""

    name: str
    parameters: int
    statistics: int
    macs: int


@dataclass(frozen=True)
class WeighIn:
    """A model against a limit. MACs are multiply-adds for one image; `macs_check` is ptflops' count of the same.

    `sides` are the heights of the maps on the way through the network, in pixels, the image's first; `stem` is the rule
    that the first of them follow, in words.
    """

    name: str
    groups: list[Group]
    limit: int
    counts_statistics: bool
    macs: int
    macs_check: int | None = None
    sides: tuple[int, ...] = ()
    stem: str = ""
    find_lighter: Callable[[], Choice | None] = field(default=lambda: None, repr=False, compare=False)

    @property
    def parameters(self) -> int:
        """All that always counts."""
        return sum(group.parameters for group in self.groups)

    @property
    def statistics(self) -> int:
        """Buffers that hold statistics."""
        return sum(group.statistics for group in self.groups)

    @property
    def counted(self) -> int:
        """What is held against the limit."""
        return self.parameters + (self.statistics if self.counts_statistics else 0)

    @property
    def room(self) -> int:
        """What is left below the limit; negative when over."""
        return self.limit - self.counted

    def refuse_if_over(self) -> None:
        """Raise OverBudget, naming the largest groups and the nearest variant that makes weight."""
        if self.room >= 0:
            return
        largest = sorted(self.groups, key=lambda group: -group.parameters)[:3]
        parts = ", ".join(f"{group.name} {group.parameters:,}" for group in largest if group.parameters)
        lighter = self.find_lighter()
        raise OverBudget(
            f"{self.name} weighs {self.counted:,} parameters, {-self.room:,} over the limit of {self.limit:,}. "
            f"The largest parts: {parts}. "
            + (f"The nearest variant that makes weight: model: {line(lighter)}" if lighter else "Take a lighter model.")
        )


def weigh(recipe: Recipe, competition: Competition, name: str, cross_check: bool = False) -> WeighIn:
    """Weigh a recipe's model for a competition, without data or memory: it is built and run once on the meta device.

    `cross_check` also counts MACs with ptflops' aten backend.
    Raises UserError for published weights and pseudo-labels where the competition does not allow them.
    """
    image = competition.image
    if recipe.model.arguments.get("pretrained") and not competition.limit.allow_pretrained:
        raise UserError(
            f"model.pretrained: {competition.title} does not allow weights trained on other images "
            f"(limit.allow_pretrained in the competition's file)"
        )
    if recipe.pseudo is not None and not competition.limit.allow_pseudo_labels:
        raise UserError(
            f"pseudo: {competition.title} does not allow training on its test images "
            f"(limit.allow_pseudo_labels in the competition's file)"
        )
    model = outline(recipe.model, len(competition.classes), image.channels, image.size)
    example = torch.empty(1, image.channels, image.size, image.size, device="meta")
    sides = _watch_sides(model, image.size)
    counter = FlopCounterMode(display=False)
    spare_the_compiler(flop_counter._FlopCounterMode.__torch_dispatch__)
    with torch.no_grad(), weightless(), counter:
        model(example)  # also brings lazily created parameters into being, so it comes before the count
    flops = {module: sum(by_operator.values()) for module, by_operator in counter.get_flop_counts().items()}
    macs_check = _ptflops_macs(model, example) if cross_check else None
    stem = recipe.model.arguments.get("stem", "")
    rule = STEM_RULE if stem == "auto" else f"shrinks by {stem}, as the recipe says" if stem else ""
    weighed = _weighed(model, competition, name, flops, macs_check)

    def fits(spec: Choice) -> bool:
        return count_parameters(spec, competition) <= competition.limit.parameters

    find_lighter = functools.partial(nearest_that_fits, recipe.model, FAMILIES, fits)
    return dataclasses.replace(weighed, sides=tuple(sides), stem=rule, find_lighter=find_lighter)


def weigh_all(recipes: Mapping[str, Recipe], competition: Competition) -> list[WeighIn]:
    """Weigh recipes by name; those that share a model are weighed once."""
    known: dict[str, WeighIn] = {}
    for name, recipe in recipes.items():
        key = recipe.model.model_dump_json()
        if key not in known:
            known[key] = weigh(recipe, competition, name)
    return [dataclasses.replace(known[recipe.model.model_dump_json()], name=name) for name, recipe in recipes.items()]


def count_parameters(spec: Choice, competition: Competition) -> int:
    """What of a model, built without memory, is held against the limit; its lazy layers must not be needed for that."""
    image = competition.image
    model = outline(spec, len(competition.classes), image.channels, image.size)
    return _weighed(model, competition, spec.name, {}, None).counted


def weigh_model(model: Classifier, competition: Competition, name: str) -> WeighIn:
    """Weigh a model that is there, for example one just loaded from the weights to be shipped."""
    return _weighed(model, competition, name, {}, None)


def weigh_ensemble(members: Mapping[str, Classifier], competition: Competition, name: str) -> WeighIn:
    """Weigh models that are shipped together: their parameters are summed, those that members share count once."""
    summed = groups(list(members.items()))
    return WeighIn(name, summed, competition.limit.parameters, competition.limit.buffers, 0)


def _weighed(
    model: Classifier,
    competition: Competition,
    name: str,
    flops: Mapping[str, int],
    macs_check: int | None,
) -> WeighIn:
    root = type(model).__name__
    parts = [(f"net.{child}", module) for child, module in model.net.named_children()]
    parts += [("net", model.net), ("normalize", model.normalize), ("model", model)]
    macs = {label: flops.get(f"{root}.{label}", 0) // 2 for label, _ in parts[:-1]}
    macs["net"] -= sum(macs[label] for label, _ in parts[:-3])  # what the groups before it have not accounted for
    return WeighIn(
        name,
        groups(parts, macs),
        competition.limit.parameters,
        competition.limit.buffers,
        flops.get("Global", 0) // 2,
        macs_check,
    )


def groups(parts: Iterable[tuple[str, nn.Module]], macs: Mapping[str, int] = {}) -> list[Group]:
    """What each part adds to those before it; parts that add nothing are left out."""
    seen: dict[int, int] = {}
    visited: dict[int, Any] = {}
    found = []
    for label, module in parts:
        parameters = statistics = 0
        for tensor, counts in _tensors(module, visited):
            new = _new_elements(tensor, seen)
            parameters += new if counts else 0
            statistics += 0 if counts else new
        if parameters or statistics or macs.get(label, 0):
            found.append(Group(label.removeprefix("net."), parameters, statistics, macs.get(label, 0)))
    return found


def _watch_sides(model: nn.Module, side: int) -> list[int]:
    """A list that fills with the sides of the maps, each smaller than the one before, when the model is run."""
    sides = [side]

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        came, went = inputs[0].shape[-1], output.shape[-1]
        if came == sides[-1] and went < came:
            sides.append(went)

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            module.register_forward_hook(note)
    return sides


def _tensors(root: Any, visited: dict[int, Any]) -> Iterator[tuple[Tensor, bool]]:
    """Every tensor reachable from a module, and whether it counts: all but statistics and the indices of the code do.

    What else holds numbers is told as a tensor of so many: arrays, bytes, storages, and more than a few of Python's own
    in one container.
    """
    ahead = [root]
    while ahead:
        thing = ahead.pop()
        code = isinstance(thing, type | ModuleType) or get_origin(thing) is not None
        if code or isinstance(thing, str | int | float | complex | io.TextIOBase) or id(thing) in visited:
            continue
        visited[id(thing)] = thing  # kept, so that nothing else can come to have its id or its memory
        if isinstance(thing, nn.Module):
            for name, buffer in thing._buffers.items():
                if buffer is not None and id(buffer) not in visited:
                    visited[id(buffer)] = buffer
                    yield buffer, _counts(thing, name, buffer)
                    ahead += _inside(buffer)
        elif isinstance(thing, Tensor):
            yield thing, True
        elif numbers := _numbers(thing):
            told = torch.empty(numbers, dtype=torch.uint8)
            visited[id(told)] = told
            yield told, True
        ahead += _inside(thing)
        if id(type(thing)) not in visited:
            visited[id(type(thing))] = type(thing)
            ahead += [one for kind in type(thing).__mro__ for one in vars(kind).values() if isinstance(one, HOLDING)]


def _inside(thing: Any) -> Iterable[Any]:
    """What a thing holds in attributes, slots, containers or an iterator, as the collector would follow it.

    Of a function, what it closes over and its defaults, not what is global to it.
    """
    if isinstance(thing, FunctionType):
        return [*(thing.__closure__ or ()), thing.__defaults__, thing.__kwdefaults__, thing.__dict__]
    if isinstance(thing, Tensor):
        return [thing.__dict__, thing._backward_hooks]
    if isinstance(thing, np.ndarray):
        return list(thing.flat) if thing.dtype.hasobject else []
    return gc.get_referents(thing)


def _numbers(thing: Any) -> int:
    """How many numbers a thing holds that is no tensor, and not of its insides."""
    if isinstance(thing, np.ndarray):
        return 0 if thing.dtype.kind in "OSU" else thing.size * (2 if thing.dtype.kind == "c" else 1)
    if isinstance(thing, bytes | bytearray | memoryview | array.array):
        return len(thing)
    if isinstance(thing, io.BytesIO):
        return 0 if thing.closed else len(thing.getvalue())
    if isinstance(thing, torch.UntypedStorage):
        return len(thing)
    if isinstance(thing, list | tuple | set | frozenset | deque | dict):
        count = sum(isinstance(one, Number) for one in (thing.values() if isinstance(thing, dict) else thing))
        return count if count > FEW else 0
    return 0


def _counts(module: nn.Module, name: str, buffer: Tensor) -> bool:
    """Does a buffer count? Not the statistics of a norm; nor indices that are not saved, which the code makes."""
    if isinstance(module, nn.modules.batchnorm._NormBase) and name in STATISTICS:
        return buffer.numel() > max(1, module.num_features)
    if isinstance(module, Normalize):
        return name not in ("mean", "std")
    return not (name in module._non_persistent_buffers_set and buffer.dtype in (torch.int64, torch.bool))


def _new_elements(tensor: Tensor, seen: dict[int, int]) -> int:
    """How many numbers `tensor` adds: shared memory counts once, and whole, however small or many its views are."""
    if tensor.layout is not torch.strided:  # sparse: as many as it stands for
        return tensor.numel() * (2 if tensor.is_complex() else 1)
    storage = tensor.untyped_storage()
    elements = storage.nbytes() // tensor.element_size() * (2 if tensor.is_complex() else 1)
    before = seen.get(storage._cdata, 0)
    seen[storage._cdata] = max(before, elements)
    return max(0, elements - before)


def _ptflops_macs(model: nn.Module, example: Tensor) -> int:
    # ptflops imports timm and torchvision, three seconds' worth, for hooks that only its other backend uses; it takes
    # their absence calmly.
    absent = [name for name in ("timm", "torchvision") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        from ptflops import aten_engine, get_model_complexity_info
    finally:
        for name in absent:
            del sys.modules[name]
    spare_the_compiler(aten_engine.FlopCounterMode.__torch_dispatch__)
    with weightless():
        macs, _ = get_model_complexity_info(
            model,
            tuple(example.shape[1:]),
            backend="aten",
            as_strings=False,
            print_per_layer_stat=False,
            verbose=False,
            input_constructor=lambda shape: {"images": example},
        )
    return int(macs)
