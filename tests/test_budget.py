import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from featherweight import budget
from featherweight.config import Recipe, load_competition, load_recipe
from featherweight.errors import OverBudget
from featherweight.models import Classifier

CIFAR = load_competition("cifar10")


def wrn(depth: int, width: float) -> Recipe:
    return Recipe.model_validate({"model": {"name": "wrn", "depth": depth, "width": width}, "optimizer": "sgd"})


REFERENCE = [(16, 4, 2_748_890), (28, 3, 3_294_042), (40, 2, 2_243_546), (10, 5, 1_868_314), (22, 4, 4_298_970)]
REFERENCE += [(16, 5, 4_289_754), (40, 3, 5_038_554), (28, 4, 5_849_050)]


@pytest.mark.parametrize(("depth", "width", "parameters"), REFERENCE)
def test_reference_counts(depth, width, parameters):
    """LOGBOOK A, and the paper's own table."""
    weighed = budget.weigh(wrn(depth, width), CIFAR, "wrn")
    assert weighed.counted == parameters
    assert (weighed.room >= 0) == (parameters <= 5_000_000)


def closed_form(depth: int, width: float, channels: int = 3, classes: int = 10) -> int:
    blocks, inputs, total = (depth - 4) // 6, 16, 9 * 16 * channels
    for base in (16, 32, 64):
        outputs = max(1, round(base * width))
        for block in range(blocks):
            total += 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs * outputs
            if block == 0 and (inputs != outputs or base > 16):
                total += inputs * outputs
            inputs = outputs
    return total + 2 * inputs + inputs * classes + classes


@settings(max_examples=15)
@given(st.integers(1, 7).map(lambda n: 6 * n + 4), st.floats(0.1, 6))
def test_counts_follow_the_closed_form(depth, width):
    assert budget.weigh(wrn(depth, width), CIFAR, "wrn").counted == closed_form(depth, width)


@pytest.mark.parametrize("name", ["wrn16_4", "tiny", "mlp", "vgg16_light", "cct7"])
def test_two_counters_agree_on_the_multiply_adds(name):
    weighed = budget.weigh(load_recipe(name), CIFAR, name, cross_check=True)
    assert weighed.macs_check == weighed.macs == sum(group.macs for group in weighed.groups)
    assert weighed.macs > 0
    assert name != "wrn16_4" or weighed.macs == 392_612_352


def test_a_refusal_names_the_largest_parts():
    with pytest.raises(OverBudget) as caught:
        budget.weigh(load_recipe("wrn40_3"), CIFAR, "wrn40_3").refuse_if_over()
    assert "wrn40_3 has 5,038,554 parameters, 38,554 over the limit of 5,000,000" in str(caught.value)
    assert "group3 3,838,272, group2 960,672, group1 236,864" in str(caught.value)


def test_the_limit_itself_is_within():
    competition = CIFAR.model_copy(update={"limit": CIFAR.limit.model_copy(update={"parameters": 2_748_890})})
    budget.weigh(load_recipe("wrn16_4"), competition, "wrn16_4").refuse_if_over()
    competition = CIFAR.model_copy(update={"limit": CIFAR.limit.model_copy(update={"parameters": 2_748_889})})
    with pytest.raises(OverBudget, match="1 over the limit"):
        budget.weigh(load_recipe("wrn16_4"), competition, "wrn16_4").refuse_if_over()


def counted(net: nn.Module) -> int:
    return budget.weigh_model(Classifier(net, 3), CIFAR, "net").counted


def test_statistics_count_only_where_the_competition_says_so():
    plain = budget.weigh(load_recipe("tiny"), CIFAR, "tiny")
    strict = CIFAR.model_copy(update={"limit": CIFAR.limit.model_copy(update={"buffers": True})})
    weighed = budget.weigh(load_recipe("tiny"), strict, "tiny")
    assert plain.statistics > 0
    assert weighed.counted == plain.counted + plain.statistics


def test_tensors_outside_parameters_count():
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain = torch.zeros(7)
            self.boxed = {"a": [torch.zeros(11), (torch.zeros(13),)]}
            self.modules_in_a_list = [nn.Linear(4, 4)]
            self.register_buffer("weight_by_another_name", torch.zeros(17))
            self.register_buffer("index", torch.zeros(19, dtype=torch.long), persistent=False)

    assert counted(Hidden()) == 7 + 11 + 13 + 20 + 17


def test_frozen_and_low_precision_count_and_shared_count_once():
    net = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False))
    net[0].weight.requires_grad_(False)
    net[1].weight = net[0].weight
    net[2].to(torch.bfloat16)
    assert counted(net) == 25 + 25


def test_a_weighed_model_takes_no_memory():
    huge = wrn(10, 400)  # twelve billion parameters
    assert budget.weigh(huge, CIFAR, "huge").counted > 10**10
