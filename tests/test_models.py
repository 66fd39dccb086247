from typing import Annotated

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from featherweight.errors import UserError
from featherweight.models import FAMILIES, MODELS, build
from featherweight.models.shape import Shape
from featherweight.models.wrn import WideResNet
from featherweight.schema import Choice

spec = TypeAdapter(Annotated[Choice, FAMILIES]).validate_python


@pytest.mark.parametrize(("size", "channels", "classes"), [(8, 1, 2), (20, 3, 62), (32, 3, 10), (65, 3, 200)])
def test_every_size_channel_and_class_count_works(size, channels, classes):
    model = build(spec({"name": "wrn", "depth": 10, "width": 0.5}), Shape(classes, channels, size))
    assert model(torch.rand(2, channels, size, size)).shape == (2, classes)


@pytest.mark.parametrize(
    ("depth", "advice"), [(17, "16 and 22"), (4, "10 and 16"), (9, "10 and 16"), (39, "34 and 40")]
)
def test_a_depth_that_is_not_6n_plus_4_is_refused_with_its_neighbours(depth, advice):
    with pytest.raises(UserError, match=f"6n \\+ 4, got {depth}; the nearest are {advice}"):
        WideResNet(10, 3, 32, depth=depth, width=1)


def test_convolutions_start_from_he_normal():
    torch.manual_seed(0)
    net = WideResNet(10, 3, 32, depth=16, width=4)
    weight = net.group3[0].conv2.weight  # 256 x 256 x 3 x 3
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert all(m.weight.eq(1).all() and m.bias.eq(0).all() for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_dropout_stands_between_the_convolutions_and_only_in_training():
    torch.manual_seed(0)
    net = WideResNet(10, 3, 8, depth=10, width=1, dropout=0.9)
    seen = []
    net.group1[0].conv2.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.rand(4, 3, 8, 8)
    net.train()(images)
    net.eval()(images)
    dropped, whole = ((x == 0).float().mean().item() for x in seen)
    assert dropped > 0.9
    assert whole < 0.9


def test_a_preactivation_block_matches_the_papers_formula():
    """x + conv(relu(bn(conv(relu(bn(x)))))) written out, with the projection on the activated input."""
    torch.manual_seed(0)
    block = WideResNet(10, 3, 8, depth=10, width=2).group2[0].eval()
    x = torch.randn(2, 32, 8, 8)
    active = torch.relu(block.norm1(x.clone()))
    expected = block.conv2(torch.relu(block.norm2(block.conv1(active)))) + block.shortcut(active)
    torch.testing.assert_close(block(x), expected)


def test_the_model_normalizes_its_own_input():
    model = build(spec({"name": "wrn", "depth": 10, "width": 0.5}), Shape(10, 1, 8)).eval()
    images = torch.rand(2, 1, 8, 8)
    model.normalize.mean.fill_(0.5)
    model.normalize.std.fill_(0.25)
    torch.testing.assert_close(model(images), model.net((images - 0.5) / 0.25))


def test_unknown_families_and_arguments_are_refused():
    with pytest.raises(ValidationError, match="there is no 'wnr'; did you mean 'wrn'"):
        spec({"name": "wnr", "depth": 10})
    with pytest.raises(ValidationError, match="unknown key 'widht'; did you mean 'width'"):
        spec({"name": "wrn", "depth": 10, "widht": 2})


# What a family lacks of the arguments that all share, and why: its docstring says so.
LACKING = {
    "fastnet": {"drop_connect": "no drop connect"},
    "mlp": {"drop_connect": "no drop connect"},
    "vgg": {"drop_connect": "no drop connect"},
    "densenet": {"drop_connect": "no drop connect"},
    "googlenet": {"drop_connect": "no drop connect"},
    "compact_transformer": {"bn_momentum": "no batch norm", "bn_eps": "no batch norm"},
    "efficientnet_pytorch": {"activation": "activation is fixed"},
    "fpn": {"activation": "act_layer"},
    "timm": {"activation": "act_layer"},
    "torchvision": {"activation": "options", "dropout": "dropout: 0.3", "drop_connect": "stochastic_depth_prob"},
}


@pytest.mark.parametrize("family", MODELS)
def test_every_family_has_the_shared_arguments_or_says_why_not(family):
    keys = FAMILIES.sections[family].model_fields
    lacking = {"dropout", "drop_connect", "bn_momentum", "bn_eps", "activation"} - set(keys)
    assert lacking == set(LACKING.get(family, {}))
    for why in LACKING.get(family, {}).values():
        assert why in " ".join((MODELS[family].__doc__ or "").split())


SMALL = {
    "wrn": {"depth": 10},
    "cifar_resnet": {"depth": 8},
    "resnet": {"depth": 18, "width": 0.1},
    "efficientnet": {"width": 0.3},
    "fastnet": {"widths": [4, 4, 4]},
    "mlp": {"hidden": [16], "batch_norm": True},
    "compact_transformer": {"layers": 2, "width": 16},
    "vgg": {"depth": 11, "width": 0.1, "head": "linear", "batch_norm": True},
    "densenet": {"blocks": [2, 2], "growth": 4},
    "mobilenet_v2": {"width": 0.3},
    "googlenet": {"width": 0.1},
    "fpn": {"backbone": "mobilenetv2_035", "width": 8},
    "efficientnet_pytorch": {"width": 0.3},
    "timm": {"variant": "mobilenetv3_small_050"},
    "torchvision": {"variant": "mobilenet_v2"},
}
CALM = {"dropout": 0.0, "attention_dropout": 0.0, "drop_connect": 0.0}


@pytest.mark.some(2)
@pytest.mark.parametrize("family", MODELS)
def test_every_shared_argument_is_felt(family, measured_once):
    """If one argument changes, the same weights give other predictions; batch norm's momentum acts later."""
    keys = FAMILIES.sections[family].model_fields
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def answers(**changes) -> torch.Tensor:
        calm = {key: value for key, value in CALM.items() if key in keys}
        torch.manual_seed(0)
        model = build(spec({"name": family, **SMALL[family], **calm, **changes}), Shape(4, 3, 16))
        trained = model.train()(images)
        return torch.cat([trained, model.eval()(images)]).detach()

    plain = answers()
    assert torch.equal(plain, answers())
    changed = {"dropout": 0.7, "drop_connect": 0.9, "bn_momentum": 0.7, "bn_eps": 0.5, "activation": "leaky_relu"}
    for key, value in changed.items():
        if key in keys:
            assert not torch.allclose(plain, answers(**{key: value}), atol=1e-7), key
