"""Decision rules (thresholds and cut points): used only if they improve the score on images they were not fitted to."""

import numpy as np
import pytest

from featherweight.evaluation import decisions
from featherweight.evaluation.decisions import DecisionRule
from featherweight.evaluation.metrics import METRICS, value
from featherweight.runs.metadata import read_record
from featherweight.schema import OneOf


def metric(name, **keys):
    return OneOf(METRICS).validate({"name": name, **keys})


def sets(count, seed, shift=-1.0):
    """Make probabilities that are all too low, for frequent to rare classes."""
    random = np.random.default_rng(seed)
    frequency = np.linspace(0.4, 0.05, 5)
    true = (random.random((count, 5)) < frequency).astype(np.uint8)
    logits = random.normal(size=true.shape) + np.log(frequency / (1 - frequency)) + 2.5 * (true - frequency) + shift
    return (1 / (1 + np.exp(-logits))).astype(np.float32), true


def ordered(count, seed):
    random = np.random.default_rng(seed)
    latent = random.normal(size=count)
    true = np.searchsorted([-1, -0.2, 0.3, 1.6], latent + random.normal(0, 0.4, count))
    apart = latent[:, None] * 2 - np.array([-2, -1, 0, 1, 2])
    probs = np.exp(-0.5 * apart**2)
    return (probs / probs.sum(1, keepdims=True)).astype(np.float32), true


@pytest.mark.parametrize(
    ("target", "name", "draw", "least"),
    [
        ("several", "macro_f1", sets, 0.1),
        ("several", "samples_fbeta", sets, 0.1),
        ("several", "micro_f1", sets, 0.05),
        ("ordered", "quadratic_kappa", ordered, 0.005),
    ],
)
def test_what_is_fitted_helps_on_fresh_images_and_is_scored_without_optimism(target, name, draw, least):
    wanted = metric(name)
    gains, optimism, crossed = [], [], []
    for seed in range(3):
        probs, true = draw(400, seed)
        fresh, theirs = draw(4000, 100 + seed)
        decision = decisions.fit(target, wanted, probs, true, groups=None)
        plain = decisions.unfitted(target, 5)
        worth = value(wanted, decision(fresh), theirs)
        gains.append(worth - value(wanted, plain(fresh), theirs))
        optimism.append(value(wanted, decision(probs), true) - worth)
        crossed.append(value(wanted, decisions.cross_fitted(target, wanted, probs, true, groups=None), true) - worth)
    assert np.mean(gains) > least
    assert np.mean(optimism) > np.mean(crossed)
    assert abs(np.mean(crossed)) < 0.03


def test_one_class_per_image_is_the_most_probable_one_and_nothing_is_fitted():
    probs, true = ordered(50, 0)
    assert not decisions.is_fitted("one", metric("quadratic_kappa"))
    assert (decisions.fit("one", metric("quadratic_kappa"), probs, true, groups=None)(probs) == probs.argmax(1)).all()
    assert (decisions.cross_fitted("one", metric("accuracy"), probs, true, groups=None) == probs.argmax(1)).all()
    assert decisions.metric_input("one", metric("log_loss"), probs, true, groups=None).dtype == np.float64


def test_probabilities_of_sets_are_judged_as_they_are():
    probs, true = sets(40, 0)
    assert not decisions.is_fitted("several", metric("auc"))
    assert (decisions.metric_input("several", metric("auc"), probs, true, groups=None) == probs).all()


def test_few_images_are_answered_plainly():
    probs, true = sets(6, 0)
    assert (decisions.cross_fitted("several", metric("macro_f1"), probs, true, groups=None) == (probs > 0.5)).all()


def test_a_class_without_images_keeps_a_threshold_of_a_half():
    probs, true = sets(200, 0)
    true[:, 4] = 0
    decision = decisions.fit("several", metric("macro_f1"), probs, true, groups=None)
    assert decision.values[4] == 0.5 or len(set(decision.values)) == 1


def test_a_decision_is_kept_to_the_last_bit(tmp_path):
    probs, true = sets(200, 0)
    for target, (given, truth) in {"several": (probs, true), "ordered": ordered(200, 0)}.items():
        name = "macro_f1" if target == "several" else "quadratic_kappa"
        decision = decisions.fit(target, metric(name), given, truth, groups=None)
        decision.store(tmp_path / "decision.json")
        assert read_record(tmp_path / "decision.json", DecisionRule, "") == decision


def test_cut_points_part_the_expected_index():
    probs = np.eye(4, dtype=np.float32)
    assert DecisionRule("cuts", (0.5, 1.5, 2.5))(probs).tolist() == [0, 1, 2, 3]
    assert DecisionRule("cuts", (0.5, 2.2, 2.5))(probs).tolist() == [0, 1, 1, 3]
