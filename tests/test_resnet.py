import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from featherweight.errors import UserError
from featherweight.models import FAMILIES, build, outline
from featherweight.models.resnet import CifarResNet, ResNet
from featherweight.models.shape import Shape


def copied(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights of another network with the same shapes in the same order, with random statistics."""
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    values = list(source.state_dict().values())
    target.load_state_dict(dict(zip(target.state_dict(), values, strict=True)))


@pytest.mark.parametrize("depth", [18, 50])
def test_outputs_are_torchvisions_given_its_weights(depth):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(f"resnet{depth}", num_classes=7).eval()
    ours = ResNet(7, 3, 64, depth=depth, stem=4).eval()
    copied(theirs, ours)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        mine, reference = ours(images), theirs(images)
    assert (reference[0] - reference[1]).abs().max() > 0.01
    torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5 * reference.abs().max().item())


def test_the_published_counts():
    """As in torchvision, and LOGBOOK D: 11.2 and 23.5 million with 10 classes."""
    for depth, expected in ((18, 11_181_642), (34, 21_289_802), (50, 23_528_522), (101, 42_520_650), (152, 58_164_298)):
        model = outline(FAMILIES.validate({"name": "resnet", "depth": depth}), Shape(10, 3, 224))
        assert sum(parameter.numel() for parameter in model.parameters()) == expected


def closed_form(blocks: int, widths: list[int], channels: int, classes: int) -> int:
    """Count: two 3x3 convolutions and two norms per block, nothing in the shortcuts."""
    total, inputs = 9 * channels * widths[0] + 2 * widths[0], widths[0]
    for outputs in widths:
        for _ in range(blocks):
            total += 9 * inputs * outputs + 9 * outputs**2 + 4 * outputs
            inputs = outputs
    return total + inputs * classes + classes


@settings(max_examples=12)
@given(
    st.integers(1, 9),
    st.lists(st.integers(1, 90), min_size=3, max_size=3).map(sorted) | st.floats(0.1, 4),
    st.booleans(),
    st.sampled_from([1, 3]),
    st.integers(2, 200),
)
def test_cifar_counts_follow_the_closed_form(blocks, width, residual, channels, classes):
    key = "widths" if isinstance(width, list) else "width"
    spec = {"name": "cifar_resnet", "depth": 6 * blocks + 2, key: width, "residual": residual}
    model = outline(FAMILIES.validate(spec), Shape(classes, channels, 32))
    widths = width if isinstance(width, list) else [max(1, round(base * width)) for base in (16, 32, 64)]
    assert sum(parameter.numel() for parameter in model.parameters()) == closed_form(blocks, widths, channels, classes)


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)])
def test_plain_twins_weigh_the_same(depth, parameters):
    for residual in (True, False):
        net = outline(
            FAMILIES.validate({"name": "cifar_resnet", "depth": depth, "residual": residual}), Shape(10, 3, 32)
        )
        assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def test_a_shortcut_without_parameters_subsamples_and_pads():
    torch.manual_seed(0)
    block = CifarResNet(10, 3, 8, depth=8).group2[0].eval()
    x = torch.randn(2, 16, 8, 8)
    branch = block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(x)))))
    shortcut = torch.cat([x[:, :, ::2, ::2], torch.zeros(2, 16, 4, 4)], 1)
    torch.testing.assert_close(block(x), torch.relu(branch + shortcut))


def test_a_plain_twin_is_its_convolutions_alone():
    torch.manual_seed(0)
    for family, block in (("cifar_resnet", "group1"), ("resnet", "stage1")):
        depth = 8 if family == "cifar_resnet" else 18
        net = build(FAMILIES.validate({"name": family, "depth": depth, "residual": False}), Shape(10, 3, 8)).net.eval()
        first = getattr(net, block)[0]
        x = torch.randn(2, first.conv1.in_channels, 8, 8)
        branch = first.norm2(first.conv2(torch.relu(first.norm1(first.conv1(x)))))
        torch.testing.assert_close(first(x), torch.relu(branch))


def test_faults_are_told():
    with pytest.raises(UserError, match=r"6n \+ 2, got 21; the nearest are 20 and 26"):
        CifarResNet(10, 3, 8, depth=21)
    with pytest.raises(UserError, match="cannot lose channels"):
        CifarResNet(10, 3, 8, depth=8, widths=[8, 4, 2])


def test_batch_norm_settings_and_stochastic_depth_reach_the_layers():
    net = ResNet(10, 3, 32, depth=18, bn_momentum=0.3, bn_eps=1e-3, drop_connect=0.4)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.3, 1e-3)}
    assert [round(net.stage1[0].drop_connect, 2), round(net.stage4[1].drop_connect, 2)] == [0.0, 0.35]
    images = torch.rand(4, 3, 32, 32)
    assert not torch.equal(net.train()(images), net(images))
