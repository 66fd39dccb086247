import pytest
import torch
import torch.nn.functional as F

from featherweight.schema import OneOf
from featherweight.training.losses import LOSSES, class_weights

LOGITS = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.tensor([0] * 20 + [1] * 10 + [2] * 5 + [3] * 4 + [4])
TARGETS = F.one_hot(LABELS, 5).float()
COUNTS = torch.bincount(LABELS).float()
SOFT = torch.rand(40, 5, generator=torch.Generator().manual_seed(1)).softmax(1)


def loss(name, logits=LOGITS, targets=TARGETS, counts=COUNTS, **keys):
    return OneOf(LOSSES).sections[name](name=name, **keys)(logits, targets, counts)


def test_cross_entropy_is_torchs():
    torch.testing.assert_close(loss("cross_entropy"), F.cross_entropy(LOGITS, LABELS))
    smoothed = F.cross_entropy(LOGITS, LABELS, label_smoothing=0.1)
    torch.testing.assert_close(loss("cross_entropy", label_smoothing=0.1), smoothed)


@pytest.mark.parametrize("weights", ["inverse", "root", "effective"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_class_weights_are_torchs_over_all_the_images(weights, label_smoothing):
    """Torch divides by the weights in the batch; over all the images at once that is the same."""
    by_class = class_weights(COUNTS, weights, 0.99)
    expected = F.cross_entropy(LOGITS, LABELS, weight=by_class, label_smoothing=label_smoothing)
    ours = loss("cross_entropy", weights=weights, beta=0.99, label_smoothing=label_smoothing)
    torch.testing.assert_close(ours, expected)
    assert (by_class * COUNTS).sum().item() == pytest.approx(40)


def test_effective_numbers_are_the_papers():
    """Cui et al. 2019: between no weights (beta 0) and inverse frequencies (beta towards 1)."""
    torch.testing.assert_close(class_weights(COUNTS, "effective", 0.0), torch.ones(5))
    inverse = class_weights(COUNTS, "inverse", 0.9)
    torch.testing.assert_close(
        class_weights(COUNTS.double(), "effective", 1 - 1e-9).float(), inverse, rtol=1e-4, atol=0
    )
    effective = (1 - 0.9**COUNTS) / (1 - 0.9)
    ratio = class_weights(COUNTS, "effective", 0.9) * effective
    torch.testing.assert_close(ratio, ratio[:1].expand(5))


def test_a_class_without_images_weighs_nothing():
    counts = torch.tensor([10.0, 0.0, 5.0])
    for weights in ("equal", "inverse", "root", "effective"):
        by_class = class_weights(counts, weights, 0.99)
        assert by_class[1] == 0
        assert by_class.isfinite().all()


def test_focal_is_the_papers():
    right = LOGITS.softmax(1).gather(1, LABELS[:, None])[:, 0]
    torch.testing.assert_close(loss("focal", gamma=2.0), ((1 - right) ** 2 * -right.log()).mean())
    torch.testing.assert_close(loss("focal", gamma=0.0), F.cross_entropy(LOGITS, LABELS))
    torch.testing.assert_close(loss("focal", gamma=0.0, targets=SOFT), F.cross_entropy(LOGITS, SOFT))


def test_focal_has_gradients_where_it_is_certain():
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0]], requires_grad=True)
    loss("focal", logits, torch.tensor([[1.0, 0.0]] * 2), torch.ones(2), gamma=0.5).backward()
    assert logits.grad.isfinite().all()


def test_logit_adjustment_is_the_papers():
    expected = F.cross_entropy(LOGITS + 1.5 * (COUNTS / 40).log(), LABELS)
    torch.testing.assert_close(loss("logit_adjusted", tau=1.5), expected)
    assert loss("logit_adjusted", counts=torch.tensor([10.0, 0, 1, 1, 1])).isfinite()


def test_poly_is_the_papers():
    right = LOGITS.softmax(1).gather(1, LABELS[:, None])[:, 0]
    torch.testing.assert_close(loss("poly", epsilon=2.0), (-right.log() + 2 * (1 - right)).mean())


def test_bce_is_torchs():
    torch.testing.assert_close(loss("bce"), F.binary_cross_entropy_with_logits(LOGITS, TARGETS))
    summed = F.binary_cross_entropy_with_logits(LOGITS, TARGETS, reduction="none").sum(1).mean()
    torch.testing.assert_close(loss("bce", sum_classes=True), summed)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("targets", [TARGETS, SOFT])
def test_the_losses_of_two_halves_add_up(name, targets):
    """As accumulation and several processes need it."""
    keys = {"weights": "inverse"} if name in ("cross_entropy", "focal") else {}
    halves = [loss(name, LOGITS[part], targets[part], **keys) for part in (slice(0, 20), slice(20, 40))]
    torch.testing.assert_close(sum(halves) / 2, loss(name, targets=targets, **keys))
