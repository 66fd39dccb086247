"""Limits other than parameters are measured exactly; what is over a limit is refused with exit code 3."""

import pytest
import torch
from pydantic import ValidationError

from conftest import ROOT
from featherweight import budget
from featherweight.budget.other_limits import stored_bytes
from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.config.competition import Limit
from featherweight.errors import OverBudget
from featherweight.models import build, outline
from featherweight.training import checkpoint

RECIPE = load_recipe("tiny")
DIGITS = load_competition("digits")


def limited(**limits):
    return DIGITS.model_copy(update={"limit": DIGITS.limit.model_copy(update=limits)})


@pytest.mark.parametrize("changes", [[], ["model=timm/resnet18"], ["model=timm/mobilenetv3_small_050"]])
def test_the_bytes_are_those_of_the_file(changes, tmp_path):
    recipe = load_recipe("tiny", changes)
    made = build(recipe.model, DIGITS.shape)
    checkpoint.save_weights(tmp_path / "w.safetensors", made)
    found = stored_bytes(outline(recipe.model, DIGITS.shape).state_dict())
    assert found == (tmp_path / "w.safetensors").stat().st_size


@pytest.mark.parametrize("key", ["bytes", "macs", "score", "folded"])
def test_each_is_held_to_the_last_one(key):
    value = budget.weigh(RECIPE, limited(**{key: 1}), "tiny").measures[0].value
    budget.weigh(RECIPE, limited(**{key: value}), "tiny").refuse_if_over()
    with pytest.raises(OverBudget, match="over what the competition allows"):
        budget.weigh(RECIPE, limited(**{key: value - 1}), "tiny").refuse_if_over()
    made = build(RECIPE.model, DIGITS.shape)
    again = budget.weigh_model(made, limited(**{key: value}), "tiny")
    assert again.measures[0].value == pytest.approx(value, rel=0.01 if key == "score" else 0)  # which counts zeros
    pair = budget.weigh_ensemble({"a": made, "b": build(RECIPE.model, DIGITS.shape)}, limited(**{key: value}), "pair")
    assert pair.excess


def test_each_member_of_an_ensemble_is_measured_at_its_own_size():
    small = limited(macs=10**9)
    large = small.seen_by(load_recipe("tiny", ["image.size=16"]))
    made = {name: build(RECIPE.model, DIGITS.shape) for name in "ab"}
    alone = [budget.weigh(load_recipe("tiny", [f"image.size={size}"]), small, "tiny").macs for size in (8, 16)]
    for names in ("ab", "ba"):
        members = {name: made[name] for name in names}
        pair = budget.weigh_ensemble(members, small, "pair", {"a": small, "b": large})
        assert pair.measures[0].value == sum(alone)


@pytest.mark.parametrize(
    ("written", "parameters"),
    [
        (5_000_000, 5_000_000),
        ("5M", 5_000_000),
        ("5,000,000", 5_000_000),
        (5e6, 5_000_000),
        ({"parameters": "300k", "macs": 3e8}, 300_000),
        ({"bytes": 500_001}, 125_000),
        ({"bytes": "20MB"}, 5_000_000),
        ({"bytes": "1MiB", "score": 300_000.5}, 262_144),
        ({"score": 1200.9}, 1200),
    ],
)
def test_a_limit_is_written_as_people_write_it_and_others_bound_the_parameters(written, parameters):
    limit = Limit.model_validate(written)
    assert limit.parameters == parameters
    assert Limit.model_validate(limit.model_dump()) == limit


@pytest.mark.parametrize(
    "written",
    [
        *(5.5, "many", True, None, [1], -5, 0, "0", {}),
        *({"macs": 1000}, {"folded": 9}, {"bytes": 3}, {"bytes": "-4k"}),
        *({"score": float("inf")}, {"score": 1e40}, {"parameters": "5X"}),
    ],
)
def test_what_bounds_no_parameters_is_refused(written):
    with pytest.raises(ValidationError):
        Limit.model_validate(written)


def test_without_such_a_limit_nothing_is_measured():
    assert budget.weigh(RECIPE, DIGITS, "tiny").measures == ()


def test_zeros_make_a_model_lighter_by_the_score():
    made = build(RECIPE.model, DIGITS.shape)
    dense = budget.weigh_model(made, limited(score=1e9), "tiny").measures[0].value
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    assert budget.weigh_model(made, limited(score=1e9), "tiny").measures[0].value < dense / 30


def test_a_run_is_refused_before_it_begins(home, capsys):
    text = (ROOT / "configs" / "competitions" / "digits.yaml").read_text()
    (home / "configs" / "competitions").mkdir(parents=True, exist_ok=True)
    light = text.replace("parameters: 5_000_000", "parameters: 5_000_000, macs: 1000")
    (home / "configs" / "competitions" / "light.yaml").write_text(light)
    assert main.main(["tiny", "--competition", "light"]) == 3
    assert "multiply-adds for one image (1,000 allowed)" in capsys.readouterr().err
    assert main.main(["check", "tiny", "--competition", "light"]) == 3
