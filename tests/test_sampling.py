import numpy as np
import pytest
import torch

from featherweight.data.pack import Pack
from featherweight.runtime.device import make_runtime
from featherweight.runtime.rng import Draws, generator
from featherweight.schema import OneOf
from featherweight.training.batches import Batches
from featherweight.training.sampling import SAMPLINGS

SIZES = [200, 90, 30, 10, 4]
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), SIZES))


def order(name, epoch=0, seed=0, labels=LABELS, **keys):
    return OneOf(SAMPLINGS).sections[name](name=name, **keys)(labels, seed, epoch)


def shown(name, **keys):
    return np.bincount(LABELS[order(name, **keys)], minlength=5).tolist()


@pytest.mark.parametrize("name", SAMPLINGS)
def test_an_order_follows_from_seed_and_epoch_alone(name):
    assert np.array_equal(order(name, 3, 1), order(name, 3, 1))
    orders = {order(name, epoch, seed).tobytes() for epoch in range(3) for seed in range(3)}
    assert len(orders) == 9
    assert {len(order(name, epoch)) for epoch in range(5)} == {len(order(name))}


def test_each_once():
    assert sorted(order("each_once")) == list(range(len(LABELS)))


@pytest.mark.parametrize(("power", "expected"), [(0.0, np.array(SIZES) / 334), (1.0, np.full(5, 0.2))])
def test_weighted_shows_classes_by_their_size_or_as_often(power, expected):
    places = np.concatenate([order("weighted", epoch, power=power) for epoch in range(60)])
    parts = np.bincount(LABELS[places]) / len(places)
    np.testing.assert_allclose(parts, expected, atol=0.01)
    images = np.bincount(places, minlength=len(LABELS))  # and within a class its images alike
    assert images[LABELS == 3].min() > 0.6 * images[LABELS == 3].mean()


def test_square_roots_lie_between():
    places = np.concatenate([order("weighted", epoch, power=0.5) for epoch in range(60)])
    roots = np.sqrt(SIZES) / np.sqrt(SIZES).sum()
    np.testing.assert_allclose(np.bincount(LABELS[places]) / len(places), roots, atol=0.01)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"cap": 7}, [200, 200, 200, 70, 28]),  # LOGBOOK C: six augmentations of each beside itself
        ({"cap": 12}, [200, 200, 200, 120, 48]),
        ({"cap": 7, "majority": 0.8}, [160, 160, 160, 70, 28]),
        ({"cap": 7, "majority": 0.6}, [120, 120, 120, 70, 28]),
        ({"cap": 1}, SIZES),
        ({"cap": 1.5}, [200, 135, 45, 15, 6]),
    ],
)
def test_oversampling_repeats_up_to_the_largest_or_the_cap(keys, expected):
    """Classes above the mean size (66.8) are the majority classes."""
    assert shown("oversample", **keys) == expected


def test_oversampling_shows_every_kept_image_equally_often():
    times = np.bincount(order("oversample", cap=7), minlength=len(LABELS))
    for label in range(5):
        assert np.ptp(times[label == LABELS]) <= 1
        assert times[label == LABELS].min() >= 1


def test_the_cut_of_the_majority_is_the_same_in_every_epoch():
    kept = [set(order("oversample", epoch, majority=0.6)) for epoch in range(5)]
    assert all(each == kept[0] for each in kept)
    assert len(kept[0]) == 120 + 54 + 30 + 10 + 4
    assert kept[0] != set(order("oversample", 0, seed=1, majority=0.6))


@pytest.mark.parametrize("name", SAMPLINGS)
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_show_together_what_one_would(name, processes):
    """Each takes its part of every global batch, and of the draws for the batch."""
    pack = Pack([""] * len(LABELS), np.zeros((len(LABELS), 2, 2, 1), np.uint8), LABELS)
    batches = Batches(pack, 5, 24, 0, make_runtime("cpu"), OneOf(SAMPLINGS).sections[name](name=name))
    size = 24 // processes
    for step, batch in enumerate(batches.epoch(2)):
        parts = [slice(rank * size, (rank + 1) * size) for rank in range(processes)]
        draws = [Draws(generator(0, "draws", 2, step), 24, torch.device("cpu"), part) for part in parts]
        assert torch.equal(torch.cat([each.uniform(3) for each in draws]), batch.draws.uniform(3))
    assert step + 1 == batches.steps_per_epoch == len(order(name)) // 24


def test_an_empty_class_is_passed_over():
    labels = np.array([0] * 9 + [2] * 3)
    assert np.bincount(labels[order("oversample", labels=labels)]).tolist() == [9, 0, 9]
    assert len(order("weighted", labels=labels)) == 12
