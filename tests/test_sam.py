import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from featherweight.training.sam import ETA, perturbed

IMAGES = torch.randn(12, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(12) % 3


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    return nn.Sequential(*layers).double()


def loss_of(model: nn.Module, parts: int = 1, scale: float = 1.0) -> None:
    for images, labels in zip(IMAGES.chunk(parts), LABELS.chunk(parts), strict=True):
        (F.cross_entropy(model(images), labels) * scale * len(images) / len(IMAGES)).backward()


def reference(rho: float, adaptive: bool, parts: int = 1) -> tuple[nn.Module, list[torch.Tensor]]:
    """Compute the two steps of the papers, with a second copy of the network for the second one."""
    low = net()
    loss_of(low, parts)
    scales = {
        name: p.detach().abs() + ETA if adaptive and not name.endswith("bias") else torch.ones_like(p)
        for name, p in low.named_parameters()
    }
    norm = torch.cat([(scales[name] * p.grad).flatten() for name, p in low.named_parameters()]).norm()
    high = net()
    with torch.no_grad():
        for (name, p), q in zip(low.named_parameters(), high.parameters(), strict=True):
            q += rho * scales[name] ** 2 * p.grad / norm
    loss_of(high, parts)
    return low, [q.grad for q in high.parameters()]


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
def test_equals_the_two_steps_written_out(adaptive, parts):
    once, expected = reference(0.5, adaptive, parts)
    model = net()
    loss_of(model, parts)
    with perturbed(model, 0.5, adaptive):
        loss_of(model, parts)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-12)
    assert not torch.allclose(expected[0], next(once.parameters()).grad, atol=1e-4)  # the ascent step is felt
    for weights, original in zip(model.parameters(), net().parameters(), strict=True):
        assert torch.equal(weights, original)
    for name, buffer in once.named_buffers():  # statistics as one pass leaves them
        assert torch.equal(buffer, dict(model.named_buffers())[name]), name


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_loss_scale_cancels_out(adaptive):
    plain, scaled = net(), net()
    for model, scale in ((plain, 1.0), (scaled, 2.0**16)):
        loss_of(model, scale=scale)
        with perturbed(model, 0.05, adaptive):
            loss_of(model, scale=scale)
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad / 2**16, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_an_overflow_moves_nothing_and_is_seen_again(bad):
    model = net()
    loss_of(model)
    model[0].weight.grad[0, 0, 0, 0] = bad
    before = copy.deepcopy(model.state_dict())
    with perturbed(model, 0.05):
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, before[name])
            assert parameter.grad is None
        loss_of(model, scale=bad)
    assert not model[0].weight.grad.isfinite().all()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_weights_come_back_when_the_second_pass_fails():
    model = net()
    loss_of(model)
    with pytest.raises(ValueError, match="stop"), perturbed(model, 0.05):
        raise ValueError("stop")
    assert model[1].track_running_stats
    for weights, original in zip(model.parameters(), net().parameters(), strict=True):
        assert torch.equal(weights, original)
