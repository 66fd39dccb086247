"""The weigh-in: what counts, how much of it there is, and the refusal of what is over the limit.

Counted is every number the shipped model was given by training or could have been: parameters, frozen or not, of any
precision, shared ones once; tensors kept outside `parameters()` (in attributes, lists, dictionaries, or modules hidden
there); and buffers that are not statistics of a normalisation layer, since such a buffer is a weight by another name.
Not followed are numbers written in the code, which are code, and what global names hold, which is not saved with the
weights. Statistics are shown, and count only if the competition says so.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from featherweight.config import Competition, Recipe
from featherweight.errors import OverBudget, UserError
from featherweight.models import FAMILIES, Classifier, Normalize, outline
from featherweight.models.meta import spare_the_compiler, weightless
from featherweight.models.parts import STEM_RULE
from featherweight.models.variants import line, nearest_that_fits
from featherweight.schema import Choice

# Buffers that hold statistics of the data. They are shown, and count only if the competition says so.
STATISTICS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.modules.batchnorm._NormBase: ("running_mean", "running_var", "num_batches_tracked"),
    Normalize: ("mean", "std"),
}
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
    spare_the_compiler(flop_counter._FlopCounterMode)
    with torch.no_grad(), weightless(), counter:
        model(example)  # also brings lazily created parameters into being, so it comes before the count
    flops = {module: sum(by_operator.values()) for module, by_operator in counter.get_flop_counts().items()}
    macs_check = _ptflops_macs(model, example) if cross_check else None
    stem = recipe.model.arguments.get("stem", "")
    rule = STEM_RULE if stem == "auto" else f"shrinks by {stem}, as the recipe says" if stem else ""
    weighed = _weighed(model, competition, name, flops, macs_check)

    def fits(spec: Choice) -> bool:
        return count(spec, competition) <= competition.limit.parameters

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


def count(spec: Choice, competition: Competition) -> int:
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


def _tensors(thing: Any, visited: dict[int, Any]) -> Iterator[tuple[Tensor, bool]]:
    """Every tensor reachable from a module, and whether it counts: all but statistics and the indices of the code do.

    Followed are attributes and slots, containers, modules hidden in them, what functions close over or have as
    defaults, and arrays of numpy and bytes, which hold numbers as tensors do.
    """
    if thing is None or isinstance(thing, str | int | float | complex | type | ModuleType) or id(thing) in visited:
        return
    visited[id(thing)] = thing  # kept, so that nothing else can come to have its id or its memory
    inside: Iterable[Any] = ()
    if isinstance(thing, nn.Module):
        for name, buffer in thing._buffers.items():
            if buffer is not None:
                yield buffer, _counts(thing, name, buffer)
                visited[id(buffer)] = buffer
    elif isinstance(thing, Tensor):
        yield thing, True
    elif isinstance(thing, np.ndarray | bytes | bytearray):
        array = np.frombuffer(thing, dtype=np.uint8) if isinstance(thing, bytes | bytearray) else thing
        if array.dtype.kind in "biufc" and array.size:
            numbers = torch.empty(array.size, dtype=torch.complex64 if array.dtype.kind == "c" else torch.uint8)
            visited[id(numbers)] = numbers
            yield numbers, True
    elif isinstance(thing, Mapping):
        inside = thing.values()
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        inside = thing
    elif isinstance(thing, FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell)]
        inside = [*cells, thing.__defaults__, thing.__kwdefaults__]
    elif isinstance(thing, functools.partial):
        inside = (thing.func, thing.args, thing.keywords)
    elif isinstance(thing, MethodType):
        inside = (thing.__self__,)
    for value in inside:
        yield from _tensors(value, visited)
    yield from _tensors(getattr(thing, "__dict__", None), visited)
    for name in _slots(type(thing)):  # type: ignore[arg-type]
        yield from _tensors(getattr(thing, name, None), visited)


def _counts(module: nn.Module, name: str, buffer: Tensor) -> bool:
    """Does a buffer count? Not the statistics of a norm; nor whole numbers that are not saved, which the code makes."""
    for kind, statistics in STATISTICS.items():
        if isinstance(module, kind) and name in statistics:
            return False
    made_by_code = name in module._non_persistent_buffers_set and not (
        buffer.is_floating_point() or buffer.is_complex()
    )
    return not made_by_code


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a function that closes over itself and is not yet there
        return False


@functools.cache
def _slots(kind: type) -> tuple[str, ...]:
    """The names of what objects of a class hold outside their `__dict__`."""
    names: list[str] = []
    for ancestor in kind.__mro__:
        slots: Any = vars(ancestor).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _new_elements(tensor: Tensor, seen: dict[int, int]) -> int:
    """How many numbers `tensor` adds: shared memory counts once, and whole, however small or many its views are."""
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
    spare_the_compiler(aten_engine.FlopCounterMode)
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
