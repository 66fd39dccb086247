import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight.models import FAMILIES, build, outline
from featherweight.models.efficientnet import STAGES, EfficientNet, scaled_channels, scaled_repeats
from featherweight.models.shape import Shape

BLOCKS = [stage[0] for stage in STAGES]


def parameters(spec, classes: int = 10, channels: int = 3) -> int:
    model = outline(FAMILIES.validate(spec), Shape(classes, channels, 64))
    return sum(parameter.numel() for parameter in model.parameters())


def test_b0_agrees_with_efficientnet_pytorch_given_its_weights():
    """After each block and at the output, for odd and even sides, to 1e-5."""
    torch.manual_seed(0)
    ours = EfficientNet(10, 3, 64, stem=4).eval()
    spec = {"name": "efficientnet_pytorch", "stem": 4, "dropout": 0.0, "drop_connect": 0.0, "bn_momentum": 1.0}
    theirs = build(FAMILIES.validate(spec), Shape(10, 3, 64)).net
    theirs.train()(torch.randn(16, 3, 64, 64))  # statistics under which signals live to the end, as after training
    theirs.eval()
    values = list(theirs.state_dict().values())
    assert [value.shape for value in values] == [value.shape for value in ours.state_dict().values()]
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    seen = [[], []]
    for blocks, found in ((ours.blocks, seen[0]), (theirs._blocks, seen[1])):
        for block in blocks:
            block.register_forward_hook(lambda module, inputs, output, found=found: found.append(output))
    for side in (64, 33, 96):
        images = torch.randn(2, 3, side, side)
        with torch.no_grad():
            mine, reference = ours(images), theirs(images)
        assert (reference[0] - reference[1]).abs().max() > 0.1
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5)
    assert len(seen[0]) == len(seen[1]) == 3 * 16
    for mine, reference in zip(*seen, strict=True):
        assert reference.std() > 0.1
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5 * reference.abs().max().item())


def test_the_published_depth_scaling_is_a_staircase():
    """LOGBOOK A: 4,020,358 at depth 1.0, and 6,525,994 at every depth up to 1.2, in every implementation."""
    assert parameters("efficientnet") == parameters("efficientnet_pytorch") == 4_020_358
    for depth in (1.01, 1.06, 1.2):
        assert parameters({"name": "efficientnet", "depth": depth}) == 6_525_994
        assert parameters({"name": "efficientnet_pytorch", "depth": depth}) == 6_525_994
    spread = [
        parameters({"name": "efficientnet", "depth": depth, "depth_rounding": "spread"}) for depth in (1, 1.06, 1.2)
    ]
    assert spread[:2] == [4_020_358, 4_608_310]
    assert spread[1] < spread[2] < 6_525_994


@pytest.mark.parametrize(
    ("depth", "rounding", "repeats"),
    [
        (1.0, "ceil", [1, 2, 2, 3, 3, 4, 1]),
        (1.06, "ceil", [2, 3, 3, 4, 4, 5, 2]),
        (1.06, "round", [1, 2, 2, 3, 3, 4, 1]),
        (1.06, "spread", [1, 2, 2, 3, 3, 5, 1]),
        (1.2, "spread", [1, 2, 2, 4, 4, 5, 1]),
        (0.25, "spread", [1, 1, 1, 1, 1, 1, 1]),
        (1.1, "ceil", [2, 3, 3, 4, 4, 5, 2]),
    ],
)
def test_depth_is_rounded_as_named(depth, rounding, repeats):
    assert scaled_repeats(BLOCKS, depth, rounding) == repeats


@given(st.floats(1, 4))
def test_spread_deals_out_the_rounded_total(depth):
    repeats = scaled_repeats(BLOCKS, depth, "spread")
    assert abs(sum(repeats) - sum(BLOCKS) * depth) <= 0.5 + 1e-6
    assert all(abs(got - n * depth) < 1 for got, n in zip(repeats, BLOCKS, strict=True))


def closed_form(width: float, depth: float, rounding: str, head: int | None, channels: int, classes: int) -> int:
    """Count: k*k*in*out/groups per convolution, 2 per normalised channel, squeeze-and-excitation with biases."""
    inputs, total = scaled_channels(32, width), 0
    total += 9 * channels * inputs + 2 * inputs
    repeats = scaled_repeats(BLOCKS, depth, rounding)
    for count, (_, kernel, _, expansion, outputs) in zip(repeats, STAGES, strict=True):
        outputs = scaled_channels(outputs, width)
        for _ in range(count):
            inner, squeezed = inputs * expansion, max(1, inputs // 4)
            total += (inputs * inner + 2 * inner if expansion > 1 else 0) + kernel**2 * inner + 2 * inner
            total += inner * squeezed + squeezed + squeezed * inner + inner + inner * outputs + 2 * outputs
            inputs = outputs
    last = head or scaled_channels(1280, width)
    return total + inputs * last + 2 * last + last * classes + classes


@settings(max_examples=12)
@given(
    st.floats(0.3, 2),
    st.floats(0.3, 2),
    st.sampled_from(["ceil", "round", "spread"]),
    st.none() | st.integers(1, 2000),
    st.sampled_from([1, 3]),
    st.integers(2, 200),
)
def test_counts_follow_the_closed_form(width, depth, rounding, head, channels, classes):
    spec = {"name": "efficientnet", "width": width, "depth": depth, "depth_rounding": rounding, "head": head}
    assert parameters(spec, classes, channels) == closed_form(width, depth, rounding, head, channels, classes)


def test_phi_scales_depth_width_and_resolution_together():
    """phi 1: depth 1.2, width 1.1, and images 1.15 times as large."""
    net = outline(FAMILIES.validate({"name": "efficientnet", "phi": 1}), Shape(10, 3, 64)).net
    assert round(64 * net.scale) == 74
    assert parameters({"name": "efficientnet", "phi": 1}) == parameters(
        {"name": "efficientnet", "depth": 1.2, "width": 1.1}
    )
    small = EfficientNet(2, 1, 8, resolution=2).eval()
    assert small(torch.rand(1, 1, 8, 8)).shape == (1, 2)


def test_dropout_and_drop_connect_are_off_when_asked():
    torch.manual_seed(0)
    net = EfficientNet(4, 1, 8, dropout=0.8, drop_connect=0.8)
    images = torch.rand(4, 1, 8, 8)
    assert not torch.equal(net.train()(images), net(images))
    assert torch.equal(net.eval()(images), net(images))
    assert [round(block.drop_connect, 2) for block in net.blocks[:3]] == [0.0, 0.05, 0.1]
