import pytest

from featherweight import budget
from featherweight.budget.shrink import line, nearest_that_fits
from featherweight.cli import main
from featherweight.config import load_competition
from featherweight.models import FAMILIES

CIFAR = load_competition("cifar10")


def lighter(spec, limit: int = 5_000_000) -> str:
    found = nearest_that_fits(
        FAMILIES.validate(spec), FAMILIES, lambda one: budget.count_parameters(one, CIFAR) <= limit
    )
    return line(found) if found else ""


@pytest.mark.parametrize(
    ("spec", "variant"),
    [
        ({"name": "wrn", "depth": 40, "width": 3}, "{name: wrn, depth: 40, width: 2.99}"),
        ({"name": "wrn", "depth": 10, "widths": [200, 300, 600]}, "{name: wrn, depth: 10, widths: [170, 256, 512]}"),
        ("torchvision/resnet18", "{name: resnet, depth: 18, width: 0.66}"),
        (
            {"name": "efficientnet_pytorch", "depth": 1.06, "dropout": 0.5},
            "{name: efficientnet, depth: 1.06, depth_rounding: spread, dropout: 0.5}",
        ),
        ({"name": "vgg", "depth": 16}, "{name: vgg, depth: 16, width: 0.58, head: linear}"),
        ({"name": "vgg", "depth": 11, "width": 0.5}, "{name: vgg, depth: 11, width: 0.5, head: linear}"),
        ({"name": "densenet", "blocks": [6, 12, 24, 16]}, "{name: densenet, blocks: [6, 12, 24, 16], growth: 27}"),
        ({"name": "compact_transformer", "width": 512}, "{name: compact_transformer, width: 292}"),
        ("timm/starnet_s4", ""),
    ],
    ids=str,
)
def test_the_nearest_variant_that_makes_weight(spec, variant):
    assert lighter(spec) == variant


def test_nothing_is_the_nearest_to_a_limit_that_nothing_meets():
    assert lighter({"name": "wrn", "depth": 10, "width": 1}, limit=10) == ""


def test_a_refusal_can_be_pasted_into_a_recipe(home, capsys):
    assert main.main(["check", "resnet18", "--competition", "cifar10"]) == 3
    said = capsys.readouterr().err
    assert "The nearest variant within the limit: model: {name: resnet, depth: 18, width: 0.66}" in said
    assert main.main(["check", "resnet18", "--competition", "cifar10", "--set", "model.width=0.66"]) == 0
