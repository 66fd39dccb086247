import pytest
import torch
import torch.nn.functional as F
from torch import nn

from featherweight.models.depthwise import depthwise, excite, paddings
from featherweight.models.efficientnet import EfficientNet


def plain(x, weight, stride):
    """Compute the definition: TensorFlow's padding, then a convolution with one group per channel."""
    (top, bottom), (left, right) = (paddings(side, weight.shape[-1], stride) for side in x.shape[-2:])
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, None, stride, groups=len(weight))


def inputs(kernel, height, width, dtype=torch.float64):
    torch.manual_seed(0)
    x = torch.randn(2, 3, height, width, dtype=dtype).contiguous(memory_format=torch.channels_last)
    return x.requires_grad_(), torch.randn(3, 1, kernel, kernel, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "around"),
    [(4, 3, 2, (0, 1)), (5, 3, 2, (1, 1)), (4, 5, 2, (1, 2)), (7, 5, 1, (2, 2)), (1, 1, 2, (0, 0))],
)
def test_padding_is_tensorflows(side, kernel, stride, around):
    assert paddings(side, kernel, stride) == around


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (2, 2), (3, 2), (5, 8), (8, 8)])
def test_a_depthwise_convolution_and_its_gradients_are_the_plain_ones(kernel, stride, height, width):
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        x, weight = inputs(kernel, height, width, dtype)
        ours, reference = depthwise(x, weight, stride), plain(x, weight, stride)
        torch.testing.assert_close(ours, reference, rtol=tolerance, atol=tolerance)
        gradient = torch.randn_like(ours)
        found = torch.autograd.grad(ours, (x, weight), gradient)
        wanted = torch.autograd.grad(reference, (x, weight), gradient)
        for mine, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
        with torch.no_grad():
            torch.testing.assert_close(depthwise(x, weight, stride), reference, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("kernel", "side", "stride"), [(3, 4, 2), (5, 2, 1), (5, 4, 1), (5, 3, 2)])
def test_its_gradients_are_those_of_finite_differences(kernel, side, stride):
    x, weight = inputs(kernel, side, side)
    assert torch.autograd.gradcheck(lambda x, weight: depthwise(x, weight, stride), (x, weight))


def test_a_frozen_weight_and_a_first_layer_get_no_gradient():
    x, weight = inputs(5, 4, 4)
    depthwise(x, weight.detach(), 1).sum().backward()
    assert x.grad is not None
    depthwise(x.detach(), weight, 1).sum().backward()
    assert weight.grad is not None


def test_excitation_and_all_its_gradients_are_the_plain_ones():
    torch.manual_seed(0)
    first, second = nn.Linear(3, 2).double(), nn.Linear(2, 3).double()
    parameters = [*first.parameters(), *second.parameters()]

    def gate(means):
        return second(F.silu(first(means.flatten(1)))).sigmoid()[..., None, None]

    x, _ = inputs(1, 4, 5)
    ours, reference = excite(x, gate, parameters), x * gate(x.mean((2, 3), keepdim=True))
    torch.testing.assert_close(ours, reference)
    gradient = torch.randn_like(ours)
    found = torch.autograd.grad(ours, (x, *parameters), gradient)
    wanted = torch.autograd.grad(reference, (x, *parameters), gradient)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert torch.autograd.gradcheck(lambda x, *parameters: excite(x, gate, list(parameters)), (x, *parameters))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_training_network_learns_the_same_without_them(layout, monkeypatch):
    """Compares every gradient of an EfficientNet, in both memory layouts."""
    torch.manual_seed(0)
    net = EfficientNet(4, 3, 32, stem=4, width=0.25, dropout=0.0, drop_connect=0.0).double().to(memory_format=layout)
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64).contiguous(memory_format=layout)

    def gradients():
        loss = F.cross_entropy(net(images), torch.arange(4))
        return torch.autograd.grad(loss, list(net.parameters()))

    ours = gradients()
    monkeypatch.setattr("featherweight.models.depthwise.trains_on_cpu", lambda *tensors: False)
    for mine, reference in zip(ours, gradients(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-6, atol=1e-8)


def test_a_step_is_the_same_twice_and_works_under_autocast():
    torch.manual_seed(0)
    net = EfficientNet(4, 3, 16, width=0.25, dropout=0.0, drop_connect=0.0).to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 16, 16)

    def gradients(autocast):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = net(images).float().square().sum()
        return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, list(net.parameters()))])

    assert torch.equal(gradients(False), gradients(False))
    exact, rounded = gradients(False), gradients(True)
    assert F.cosine_similarity(exact, rounded, dim=0) > 0.9
