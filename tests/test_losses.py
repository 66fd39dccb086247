import functools
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize

from featherweight.augment.mixing import MIXINGS, mix
from featherweight.errors import UserError
from featherweight.runtime.rng import Draws, generator
from featherweight.schema import OneOf
from featherweight.training.losses import LOSSES, Weights, class_weights, loss_for
from featherweight.training.sampling import SAMPLINGS, shown

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
def test_class_weights_are_torchs_over_all_the_images(weights):
    """Torch divides by the weights of the batch; over all images this is the same."""
    by_class = class_weights(COUNTS, weights, 0.99)
    expected = F.cross_entropy(LOGITS, LABELS, weight=by_class)
    torch.testing.assert_close(loss("cross_entropy", weights=weights, beta=0.99), expected)
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


def test_bce_is_torchs():
    torch.testing.assert_close(loss("bce"), F.binary_cross_entropy_with_logits(LOGITS, TARGETS))
    summed = F.binary_cross_entropy_with_logits(LOGITS, TARGETS, reduction="none").sum(1).mean()
    torch.testing.assert_close(loss("bce", sum_classes=True), summed)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("targets", [TARGETS, SOFT])
def test_the_losses_of_two_halves_add_up(name, targets):
    """Gradient accumulation and several processes need this."""
    keys = {"weights": "inverse"} if name in ("cross_entropy", "focal") else {}
    halves = [loss(name, LOGITS[part], targets[part], **keys) for part in (slice(0, 20), slice(20, 40))]
    torch.testing.assert_close(sum(halves) / 2, loss(name, targets=targets, **keys))


# 100 images of one class, 10 and 2 of others, all alike: what a model of logits alone should answer is known.
IMBALANCED = np.repeat([0, 1, 2], [100, 10, 2])
SAMPLINGS_TRIED = {"each_once": {}, "weighted": {"power": 0.5}, "oversample": {"cap": 7.0}}
WEIGHTED = [(name, weights) for name in ("cross_entropy", "focal") for weights in get_args(Weights)]
UNWEIGHTED = [(name, None) for name in LOSSES if name not in ("cross_entropy", "focal")]


@functools.cache
def shown_images(sampling, mixing):
    """Return the classes and targets of two epochs, and the class counts that the loss gets."""
    choice = OneOf(SAMPLINGS).validate({"name": sampling, **SAMPLINGS_TRIED[sampling]})
    order = np.concatenate([choice(IMBALANCED, 0, epoch) for epoch in range(2)])
    targets = F.one_hot(torch.from_numpy(IMBALANCED[order]), 3).double()
    if mixing:
        draws = Draws(generator(0, "test"), len(order), torch.device("cpu"))
        _, targets = mix(torch.zeros(len(order), 1, 4, 4), targets.float(), draws, [OneOf(MIXINGS).validate(mixing)])
    return targets.double(), torch.from_numpy(shown(choice, IMBALANCED, 3, 0))


def minimum(of, classes=3):
    """Return the probabilities that minimise a convex function of the logits."""
    logits = torch.zeros(1, classes, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([logits], max_iter=300, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        value = of(logits)
        value.backward()
        return value

    solver.step(closure)
    return logits.detach()


def wanted_shares(targets, counts, weights):
    """Return the shares of the sampled classes, weighted by class weight."""
    effective = (1 - 0.999) / (1 - 0.999**counts)
    weight = {"equal": torch.ones(3), "inverse": 1 / counts, "root": counts**-0.5, "effective": effective}[weights]
    shares = targets.mean(0) * weight
    return shares / shares.sum()


@pytest.mark.some(2)
@pytest.mark.parametrize("mixing", [None, *MIXINGS])  # targets of one class, of two, of four
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("name", "weights"), [*WEIGHTED, *UNWEIGHTED])
def test_the_optimum_of_every_loss_is_the_best_prediction(name, weights, smoothing, sampling, mixing):
    """On identical images, with all kinds of sampling, mixing, weighting and smoothing."""
    if name in ("focal", "asymmetric") and smoothing:
        return
    targets, counts = shown_images(sampling, mixing)
    smooths = {} if name in ("focal", "asymmetric") else {"label_smoothing": smoothing}
    keys = smooths | ({"weights": weights} if weights else {})
    found = minimum(lambda logits: loss(name, logits.expand(len(targets), 3), targets, counts, **keys))
    shares = wanted_shares(targets, counts, weights or "equal")
    smoothed = (1 - smoothing) * shares + smoothing / 3
    if name == "cross_entropy":
        best = smoothed
    elif name == "logit_adjusted":  # of classes that are all as frequent, as they are shown
        best = smoothed / (counts / counts.sum())
        best = best / best.sum()
    elif name == "bce":
        torch.testing.assert_close(found.sigmoid()[0], smoothed, atol=2e-3, rtol=0)
        return
    elif name == "asymmetric":  # of each class for itself: its own best prediction, found on a line
        torch.testing.assert_close(found.sigmoid()[0], on_a_line(shares), atol=2e-3, rtol=0)
        return
    else:  # no proper loss: its own best prediction, found on the simplex
        best = on_the_simplex(name, shares, smoothed)
    torch.testing.assert_close(found.softmax(1)[0], best, atol=2e-3, rtol=0)


def on_a_line(shares):
    """Return, for each class, the probability that minimises the asymmetric loss of its share."""
    p = torch.linspace(1e-4, 1 - 1e-4, 20_000, dtype=torch.float64)
    absent = (p - 0.05).clamp_min(0)
    expected = [share * (1 - p) * -p.log() + (1 - share) * absent**4 * -(1 - absent).log() for share in shares]
    return torch.stack([p[each.argmin()] for each in expected])


def on_the_simplex(name, shares, smoothed):
    shares, smoothed = shares.numpy(), smoothed.numpy()

    def expected(p):
        p = np.clip(np.append(p, 1 - p.sum()), 1e-9, 1)
        if name == "focal":
            return -(shares * (1 - p) ** 2 * np.log(p)).sum()
        return -(smoothed * np.log(p)).sum() + 1 - (shares * p).sum()

    grid = np.linspace(0.002, 0.996, 20)
    start = min(((a, b) for a in grid for b in grid if a + b < 0.999), key=lambda ab: expected(np.array(ab)))
    best = minimize(expected, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12}).x
    return torch.from_numpy(np.append(best, 1 - best.sum()))


def test_a_rare_class_is_not_learned_for_everything_by_weights_with_smoothing():
    """600 to 12 images: the classes can be distinguished, and each is predicted for its own images."""
    labels = torch.tensor([0] * 600 + [1] * 12)
    images, targets = F.one_hot(labels, 2).double(), F.one_hot(labels, 2).double()
    counts = torch.tensor([600.0, 12.0], dtype=torch.float64)
    slope = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([slope], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        value = loss("cross_entropy", images @ slope, targets, counts, weights="inverse", label_smoothing=0.1)
        value.backward()
        return value

    solver.step(closure)
    torch.testing.assert_close(
        slope.detach().softmax(1), torch.tensor([[0.95, 0.05], [0.05, 0.95]]).double(), atol=1e-4, rtol=0
    )


SETS = (torch.rand(400, 3, generator=torch.Generator().manual_seed(2)) < torch.tensor([0.5, 0.1, 0.02])).double()


@pytest.mark.parametrize("weights", ["equal", "inverse"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_sets_each_class_is_as_probable_as_it_is_frequent(weights, smoothing):
    choice = OneOf(LOSSES).validate({"name": "cross_entropy", "weights": weights, "label_smoothing": smoothing})
    of_sets = loss_for(choice, several=True)
    found = minimum(lambda logits: of_sets(logits.expand(400, 3), SETS, SETS.sum(0))).sigmoid()[0]
    torch.testing.assert_close(found, SETS.mean(0) * (1 - smoothing) + smoothing / 2, atol=1e-4, rtol=0)


def test_bce_smooths_sets_towards_both_answers_and_single_labels_towards_all_classes():
    choice = OneOf(LOSSES).validate({"name": "bce", "label_smoothing": 0.1})
    targets = torch.eye(100)[:1]
    expected = {True: targets * 0.9 + 0.05, False: targets * 0.9 + 0.001}
    for several, smoothed in expected.items():
        found = loss_for(choice, several)(torch.zeros(1, 100) + 0.3, targets, torch.ones(100))
        torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(torch.zeros(1, 100) + 0.3, smoothed))


@pytest.mark.parametrize("name", ["focal", "asymmetric", "bce"])
def test_other_losses_of_sets_keep_the_order_of_frequencies(name):
    of_sets = loss_for(OneOf(LOSSES).validate(name), several=True)
    found = minimum(lambda logits: of_sets(logits.expand(400, 3), SETS, SETS.sum(0))).sigmoid()[0]
    assert found.argsort().tolist() == SETS.mean(0).argsort().tolist()
    if name == "asymmetric":  # without focus and margin it is the binary cross-entropy
        plain = {"name": name, "gamma_positive": 0.0, "gamma_negative": 0.0, "margin": 0.0}
        of_sets = loss_for(OneOf(LOSSES).validate(plain), several=True)
        found = minimum(lambda logits: of_sets(logits.expand(400, 3), SETS, SETS.sum(0))).sigmoid()[0]
        torch.testing.assert_close(found, SETS.mean(0), atol=1e-3, rtol=0)


def test_a_loss_of_classes_that_exclude_each_other_is_refused_for_sets():
    with pytest.raises(UserError, match=r"logit_adjusted is for one class per image.*asymmetric"):
        loss_for(OneOf(LOSSES).validate("logit_adjusted"), several=True)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("asymmetric", {"gamma_positive": 0.5, "gamma_negative": 0.5}),
        ("focal", {"gamma": 0.5}),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_what_is_surely_right_has_a_slope(name, keys, several):
    """A power below 1 has an infinite slope at 0."""
    logits = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    choice = loss_for(OneOf(LOSSES).validate({"name": name, **keys}), several)
    choice(logits, torch.tensor([[1.0, 0.0, 0.0]]), torch.ones(3)).backward()
    assert logits.grad.isfinite().all()


def test_effective_numbers_of_a_beta_close_to_one_are_those_of_float64():
    expected = (1 - 0.99999999) / (1 - 0.99999999 ** COUNTS.double())
    expected = expected * COUNTS.sum() / (expected * COUNTS).sum()
    torch.testing.assert_close(class_weights(COUNTS, "effective", 0.99999999), expected.float(), rtol=1e-5, atol=0)
