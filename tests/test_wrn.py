"""The variants of the WRN; the WRN itself is tested in test_models.py."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.errors import UserError
from featherweight.models import FAMILIES, outline
from featherweight.models.blocks import Projection
from featherweight.models.shape import Shape
from featherweight.models.wrn import WideResNet


def parameters(channels: int = 3, classes: int = 10, **spec) -> int:
    model = outline(FAMILIES.validate({"name": "wrn", **spec}), Shape(classes, channels, 32))
    return sum(parameter.numel() for parameter in model.parameters())


def closed_form(blocks: int, widths: list[int], bottleneck: bool, pads: bool, channels: int, classes: int) -> int:
    """Count: two norms and convolutions per basic block, three per bottleneck, a 1x1 where the shape changes."""
    inputs, total = 16, 9 * 16 * channels
    for group, outputs in enumerate(widths):
        for block in range(blocks):
            inner = max(1, outputs // 4)
            if bottleneck:
                total += 2 * inputs + inputs * inner + 2 * inner + 9 * inner**2 + 2 * inner + inner * outputs
            else:
                total += 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs**2
            if not pads and block == 0 and (inputs != outputs or group > 0):
                total += inputs * outputs
            inputs = outputs
    return total + 2 * inputs + inputs * classes + classes


@settings(max_examples=15)
@given(
    st.integers(1, 6),
    st.lists(st.integers(16, 200), min_size=3, max_size=3).map(sorted),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 3]),
    st.integers(2, 200),
)
def test_counts_follow_the_closed_form(blocks, widths, bottleneck, pads, channels, classes):
    spec = {
        "depth": (9 if bottleneck else 6) * blocks + 4,
        "widths": widths,
        "block": "bottleneck" if bottleneck else "basic",
        "shortcut": "pad" if pads else "projection",
    }
    assert parameters(channels, classes, **spec) == closed_form(blocks, widths, bottleneck, pads, channels, classes)


def test_fewer_parameters_at_equal_depth_and_width():
    """LOGBOOK A: without the 1x1 convolutions of the three shortcuts."""
    saved = parameters(depth=16, width=4) - parameters(depth=16, width=4, shortcut="pad")
    assert saved == 16 * 64 + 64 * 128 + 128 * 256


def test_a_bottleneck_matches_its_formula():
    torch.manual_seed(0)
    block = WideResNet(10, 3, 8, depth=13, width=2, block="bottleneck").group2[0].eval()
    x = torch.randn(2, 32, 8, 8)
    active = torch.relu(block.norm1(x))
    inner = block.conv2(torch.relu(block.norm2(block.conv1(active))))
    expected = block.conv3(torch.relu(block.norm3(inner))) + block.shortcut(active)
    torch.testing.assert_close(block(x), expected)


def test_faults_are_told():
    with pytest.raises(UserError, match=r"9n \+ 4, got 16; the nearest are 13 and 22"):
        WideResNet(10, 3, 8, depth=16, block="bottleneck")
    with pytest.raises(UserError, match="cannot lose channels"):
        WideResNet(10, 3, 8, depth=10, width=0.5, shortcut="pad")


def test_settings_reach_the_layers():
    torch.manual_seed(0)
    net = WideResNet(10, 3, 8, depth=10, activation="gelu", bn_momentum=0.2, bn_eps=1e-3, drop_connect=0.6)
    assert (net.norm.momentum, net.norm.eps) == (0.2, 1e-3)
    assert [round(group[0].drop_connect, 2) for group in (net.group1, net.group2, net.group3)] == [0.0, 0.2, 0.4]
    assert net.activation(torch.tensor(-1.0)) < 0
    images = torch.rand(4, 3, 8, 8)
    assert not torch.equal(net.train()(images), net(images))


@pytest.mark.parametrize("side", [48, 64])
def test_narrow_networks_train_on_larger_images(side: int):
    """A strided 1x1 convolution of 8 channels crashed (oneDNN, torch 2.14), so pixels are selected first."""
    net = WideResNet(2, 3, side, depth=10, width=0.5).to(memory_format=torch.channels_last)
    for _ in range(2):
        images = torch.rand(2, 3, side, side).contiguous(memory_format=torch.channels_last)
        net(images).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


def test_the_projection_is_the_strided_convolution():
    torch.manual_seed(0)
    ours = Projection(6, 10, 2)
    plain = torch.nn.Conv2d(6, 10, 1, 2, bias=False)
    plain.load_state_dict(ours.state_dict())
    images = torch.rand(2, 6, 9, 8)
    torch.testing.assert_close(ours(images), plain(images))
