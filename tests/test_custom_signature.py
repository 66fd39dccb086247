"""Signatures of networks as people write them: shapes, any keys, config objects; and what can only be counted."""

import json

import pytest
import torch
from pydantic import ValidationError

from featherweight.cli import main
from featherweight.errors import UserError
from featherweight.models import FAMILIES, build
from featherweight.models.shape import Shape

NETS = """
from dataclasses import dataclass
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10, in_chans=1, width=8):
        super().__init__()
        self.body, self.head = nn.Conv2d(in_chans, width, 3), nn.Linear(width, num_classes)
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))

def shaped(input_size=(3, 28, 28), num_classes=7):
    assert input_size == (1, 8, 8)
    return Net(num_classes)
def last(input_shape=(28, 28, 3), num_classes=7):
    assert input_shape == (8, 8, 1)
    return Net(num_classes)
def any_key(**keys): return Net(**keys)
def reserved(num_classes, model_config=1, arguments=2, sources=3): return Net(num_classes)
def needed(num_classes, model_config): return Net(num_classes)
def tuples(num_classes, widths=(8, 16)):
    assert isinstance(widths, tuple)
    return Net(num_classes, width=widths[-1])
def outputs(in_channels=1, out_features=100): return Net(out_features)
def other(in_channels=1, how_many=100): return Net(how_many)
@dataclass
class Config:
    num_classes: int = 3
    in_chans: int = 3
    width: int = 8
class Configured(Net):
    def __init__(self, config: Config): super().__init__(config.num_classes, config.in_chans, config.width)
class InDict(Net):
    def forward(self, x): return {"logits": super().forward(x)}
class One(Net):
    def __init__(self, width=8): super().__init__(1, 1, width)
class Elsewhere(Net):
    def forward(self, x): raise RuntimeError("of sounds, not images")
made = Net()
"""


@pytest.fixture
def nets(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "nets.py").write_text(NETS)


def built(name, **keys):
    return build(FAMILIES.validate({"name": f"nets.py:{name}", **keys}), Shape(10, 1, 8))


@pytest.mark.parametrize("name", ["shaped", "last", "any_key", "reserved", "tuples", "outputs", "Configured"])
def test_signatures(nets, name):
    assert built(name)(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_a_constructor_that_takes_any_key_takes_those_of_the_recipe(nets):
    assert built("any_key", width=16).net.head.in_features == 16
    spec = FAMILIES.validate({"name": "nets.py:any_key", "width": 16})
    assert FAMILIES.validate(spec.model_dump(exclude_unset=True) | {"name": spec.name}) == spec
    with pytest.raises(UserError, match="widht"):
        built("any_key", widht=16)


def test_a_list_in_a_recipe_is_a_tuple_where_the_signature_has_one(nets):
    assert built("tuples", widths=[4, 6]).net.head.in_features == 6


def test_names_that_no_key_can_have(nets):
    with pytest.raises(ValidationError, match="takes 'model_config', which no key can be called"):
        built("needed")


def test_the_argument_that_may_be_the_number_of_classes_is_named(nets):
    with pytest.raises(UserError, match=r"if 'how_many' is the number of classes: --set model.how_many=10"):
        built("other")
    assert built("other", how_many=10)(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_what_answers_otherwise_than_a_classifier_is_counted(nets, capsys):
    names = {"made": 80 + 90, "InDict": 80 + 90, "One": 80 + 9, "Elsewhere": 80 + 90}
    assert main.main(["weigh", *(f"nets.py:{name}" for name in names), "--competition", "digits", "--json"]) == 0
    assert [one["parameters"] for one in json.loads(capsys.readouterr().out)] == list(names.values())
    assert main.main(["weigh", "nets.py:other", "--competition", "digits"]) == 2
