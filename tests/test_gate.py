"""The gate cannot be fooled: every trick that would hide weights from the count."""

import array
import dataclasses
import functools
import io
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from featherweight import budget
from featherweight.config import Recipe, load_competition
from featherweight.errors import OverBudget, UserError
from featherweight.models import MODELS, Classifier
from featherweight.schema import OneOf
from featherweight.training import checkpoint

CIFAR = load_competition("cifar10")


def counted(net: nn.Module) -> int:
    return budget.weigh_model(Classifier(net, 3), CIFAR, "net").counted


class Slotted:
    __slots__ = ("weight",)

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight


class Caller:
    """A callable with a weight that looks like a function."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight

    def method(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def closure(weight: torch.Tensor):
    return lambda x: x @ weight


@dataclasses.dataclass
class Record:
    weight: object


@dataclasses.dataclass(slots=True, frozen=True)
class SlottedRecord:
    weight: object


def of_a_class(weight: torch.Tensor) -> object:
    class Holder:
        table = weight

    return Holder()


def in_a_method(weight: torch.Tensor) -> object:
    class Layer:
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return x @ weight

    return Layer()


def remembered(weight: torch.Tensor) -> object:
    @functools.lru_cache
    def keep(one: torch.Tensor) -> torch.Tensor:
        return one

    keep(weight)
    return keep


def suspended(weight: torch.Tensor) -> object:
    def generate(hidden: torch.Tensor):
        while True:
            yield hidden.sum()

    generator = generate(weight)
    next(generator)
    return generator


def hooked(weight: torch.Tensor) -> object:
    tag = torch.zeros((), requires_grad=True)
    tag.register_hook(lambda gradient: gradient + weight.sum())
    return tag


HIDING_PLACES = {
    "attribute": lambda w: w,
    "list": lambda w: [1, [w]],
    "tuple and set": lambda w: ({w},),
    "dictionary": lambda w: {"a": {"b": w}},
    "module in a list": lambda w: [nn.ParameterList([w])],
    "module in a dictionary": lambda w: {"deep": nn.Sequential(nn.ParameterList([w]))},
    "object": Caller,
    "slot": Slotted,
    "callable": lambda w: [Caller(w)],
    "bound method": lambda w: Caller(w).method,
    "closure": closure,
    "default argument": lambda w: lambda x, w=w: x @ w,
    "keyword default": lambda w: lambda x, *, w=w: x @ w,
    "partial": lambda w: functools.partial(F.linear, weight=w),
    "partial's position": lambda w: functools.partial(torch.matmul, w),
    "numpy": lambda w: w.numpy(),
    "attribute of an empty dictionary": lambda w: _with_attribute(OrderedDict(), w),
    "attribute of a tensor": lambda w: _with_attribute(torch.zeros(()), w),
    "hook of a tensor": hooked,
    "dataclasses": lambda w: Record([SlottedRecord({"deep": Record(w)})]),
    "key of a dictionary": lambda w: {w: None},
    "view of a dictionary": lambda w: {0: w}.values(),
    "class variable": of_a_class,
    "closure of a method": in_a_method,
    "cache of a function": remembered,
    "generator": suspended,
    "iterator": lambda w: map(torch.sum, iter([w])),
    "array of objects": lambda w: np.array([w, None], dtype=object),
    "array of records": lambda w: np.zeros(w.numel(), dtype=[("a", "f4")]),
    "array of dates": lambda w: np.zeros(w.shape, dtype="datetime64[s]"),
    "array of Python's": lambda w: array.array("f", w.flatten().tolist()),
    "list of numbers": lambda w: w.flatten().tolist(),
    "dictionary of numbers": lambda w: dict(enumerate(w.flatten().numpy())),
    "tuple of whole numbers": lambda w: tuple(w.flatten().int().tolist()),
    "quantised": lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
    "sparse": lambda w: (w + 1).to_sparse(),
    "traced": lambda w: torch.fx.symbolic_trace(nn.Linear(7, 5, bias=False)),
}


def _with_attribute(thing: Any, weight: torch.Tensor) -> Any:
    thing.hidden = weight
    return thing


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_weights_hidden_from_parameters_count(place):
    net = nn.Linear(3, 2, bias=False)
    net.hidden = HIDING_PLACES[place](torch.zeros(5, 7))
    assert counted(net) - place.endswith("of a tensor") == 6 + 35


def test_weights_in_a_hook_count():
    net = nn.Linear(3, 2, bias=False)
    weight = torch.zeros(5, 7)
    net.register_forward_hook(lambda module, inputs, output: output + weight.sum())
    assert counted(net) == 6 + 35


@pytest.mark.parametrize("hold", [bytes, bytearray, lambda n: memoryview(bytearray(n)), lambda n: io.BytesIO(bytes(n))])
def test_bytes_count_as_numbers(hold):
    net = nn.Linear(3, 2, bias=False)
    net.packed = hold(1000)
    assert 6 + 1000 <= counted(net) <= 6 + 2000


def test_the_original_of_a_parametrized_weight_counts_and_so_does_what_makes_it():
    class LowRank(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Parameter(torch.zeros(8, 2)), nn.Parameter(torch.zeros(2, 8))

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight + self.left @ self.right

    net = nn.Linear(8, 8, bias=False)
    torch.nn.utils.parametrize.register_parametrization(net, "weight", LowRank())
    assert counted(net) == 64 + 32


def test_parameters_made_by_a_hook_at_the_first_batch_count():
    class Hooked(nn.Linear):
        def __init__(self, num_classes: int, channels: int, image_size: int) -> None:
            super().__init__(channels * image_size**2, num_classes, bias=False)
            self.register_forward_pre_hook(lambda module, inputs: (module.more(inputs[0].flatten(1)),))

        def more(self, x: torch.Tensor) -> torch.Tensor:
            if not hasattr(self, "hidden"):
                self.hidden = [torch.zeros(x.shape[1])]
            return x + self.hidden[0]

    recipe = Recipe.model_construct(model=OneOf({"hooked": Hooked}).validate("hooked"))
    assert budget.weigh(recipe, CIFAR, "hooked").counted == 11 * 3 * 32 * 32


def test_statistics_larger_than_their_norm_are_weights():
    net = nn.BatchNorm2d(4)
    net.running_mean = torch.zeros(1000)
    assert counted(net) == 8 + 1000
    net = nn.Linear(3, 2, bias=False)
    net.register_buffer("running_mean", torch.zeros(1000))
    assert counted(net) == 6 + 1000


def test_frozen_parameters_count():
    net = nn.Linear(5, 7).requires_grad_(False)
    assert counted(net) == 42


def test_shared_parameters_count_once_under_whatever_names():
    shared = nn.Linear(5, 7)
    net = nn.ModuleDict({"a": shared, "b": shared, "c": nn.Linear(5, 7)})
    net["c"].weight = shared.weight
    net.again = [shared.weight, shared.weight.data, shared.weight.view(-1)[3:]]
    assert counted(net) == 42 + 7


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50))
def test_parts_of_one_memory_count_whole(first, second):
    """Two halves of one tensor, contiguous or interleaved, count as two halves, not as one half twice."""
    whole = torch.zeros(first + second)
    net = nn.Module()
    net.a, net.b = nn.Parameter(whole[:first]), nn.Parameter(whole[first:])
    assert counted(net) == first + second
    interleaved = torch.zeros(2 * first)
    net = nn.Module()
    net.a, net.b = interleaved[::2], interleaved[1::2]
    assert counted(net) == 2 * first


def test_a_memory_expanded_counts_what_it_holds():
    net = nn.Module()
    net.wide = nn.Parameter(torch.zeros(1, 8).expand(100, 8))
    assert counted(net) == 8


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8])
def test_a_weight_of_low_precision_is_a_parameter(dtype):
    net = nn.Module()
    net.register_buffer("quantised", torch.zeros(11, dtype=dtype))
    net.plain = torch.zeros(13, dtype=dtype)
    assert counted(net) == 24


def test_a_complex_number_is_two():
    net = nn.Module()
    net.spectrum = nn.Parameter(torch.zeros(9, dtype=torch.complex64))
    assert counted(net) == 18


def test_buffers_used_as_weights_count_and_statistics_do_not():
    net = nn.BatchNorm2d(4)
    assert counted(net) == 8
    net.register_buffer("smuggled", torch.zeros(100))
    assert counted(net) == 108
    net.register_buffer("whole_numbers", torch.zeros(10, dtype=torch.long))
    assert counted(net) == 118
    net.register_buffer("index_made_by_the_code", torch.zeros(1000, dtype=torch.long), persistent=False)
    assert counted(net) == 118
    net.register_buffer("packed_made_by_who_knows", torch.zeros(7, dtype=torch.int8), persistent=False)
    assert counted(net) == 125
    net.register_buffer("floats_made_by_who_knows", torch.zeros(20), persistent=False)
    assert counted(net) == 145


class Lazy(nn.Module):
    """Has no parameters before its first batch: with torch's lazy layers, and written by hand."""

    def __init__(self, num_classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        self.first = nn.LazyLinear(20)
        self.last: nn.Linear | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x.flatten(1))
        if self.last is None:
            self.last = nn.Linear(20, 10)
        return self.last(x)


def test_parameters_created_at_the_first_batch_count(monkeypatch):
    monkeypatch.setitem(MODELS, "lazy", Lazy)
    recipe = Recipe.model_construct(model=OneOf({"lazy": Lazy}).validate("lazy"))
    assert budget.weigh(recipe, CIFAR, "lazy").counted == (3 * 32 * 32 + 1) * 20 + 21 * 10


def test_parameters_created_in_training_are_found_afterwards():
    class Late(nn.Linear):
        def forward(self, x):
            if self.training and not hasattr(self, "more"):
                self.more = [torch.zeros(1000)]
            return super().forward(x)

    model = Classifier(Late(4, 2), 3)
    assert budget.weigh_model(model, CIFAR, "late").counted == 10
    model.net.train()(torch.zeros(1, 4))
    assert budget.weigh_model(model, CIFAR, "late").counted == 1010


def test_the_members_of_an_ensemble_are_summed_and_what_they_share_counts_once():
    members = {name: Classifier(nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2)), 3) for name in "abc"}
    assert budget.weigh_ensemble(members, CIFAR, "abc").counted == 3 * (42 + 16)
    members["b"].net[0] = members["a"].net[0]
    weighed = budget.weigh_ensemble(members, CIFAR, "abc")
    assert weighed.counted == 2 * 42 + 3 * 16
    assert [(group.name, group.parameters) for group in weighed.groups] == [("a", 58), ("b", 16), ("c", 58)]
    tight = CIFAR.model_copy(update={"limit": CIFAR.limit.model_copy(update={"parameters": 131})})
    with pytest.raises(OverBudget, match="abc has 132 parameters, 1 over the limit"):
        budget.weigh_ensemble(members, tight, "abc").refuse_if_over()
    strict = CIFAR.model_copy(update={"limit": CIFAR.limit.model_copy(update={"buffers": True})})
    normed = {name: Classifier(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)), 3) for name in "ab"}
    alone = [budget.weigh_model(member, strict, "one").counted for member in normed.values()]
    assert budget.weigh_ensemble(normed, strict, "ab").counted == sum(alone) > 2 * (42 + 14)


def test_a_list_of_models_inside_one_is_an_ensemble_all_the_same():
    class Ensemble(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.members = [nn.Linear(5, 7) for _ in range(10)]

    assert counted(Ensemble()) == 420


@pytest.mark.parametrize("change", ["more", "larger", "fewer"])
def test_a_checkpoint_that_holds_more_than_the_recipe_says_is_refused(tmp_path, change):
    model = Classifier(nn.Linear(4, 2), 3)
    checkpoint.save_weights(tmp_path / "weights", model)
    tensors = load_file(tmp_path / "weights")
    if change == "more":
        tensors["net.second_opinion"] = torch.zeros(1000)
    elif change == "larger":
        tensors["net.weight"] = torch.zeros(2, 1000)
    else:
        del tensors["net.bias"]
    save_file(tensors, tmp_path / "weights")
    with pytest.raises(UserError, match="these weights do not fit the recipe"):
        checkpoint.load_weights(tmp_path / "weights", model)


def test_what_a_recipe_weighs_is_what_its_saved_file_holds(tmp_path):
    from featherweight.config import load_recipe
    from featherweight.models import build
    from featherweight.models.shape import Shape

    for name in ("tiny", "fastnet94", "mobilenet_v3_small"):
        recipe = load_recipe(name)
        weighed = budget.weigh(recipe, CIFAR, name)
        model = build(recipe.model, Shape(10, 3, 32))
        checkpoint.save_weights(tmp_path / name, model)
        held = sum(tensor.numel() for tensor in load_file(tmp_path / name).values())
        assert weighed.parameters + weighed.statistics == held
        assert budget.weigh_model(model, CIFAR, name).counted == weighed.counted


def test_numbers_in_an_array_that_is_no_array_of_numbers_are_not_counted():
    net = nn.Linear(3, 2, bias=False)
    net.names = np.array(["cat", "dog"])
    net.widths = [16, 32, 64] * 10
    net.activation = F.relu
    net.partial = functools.partial(F.relu, inplace=True)
    assert counted(net) == 6
