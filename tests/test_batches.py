import dataclasses

import numpy as np
import pytest
import torch

from featherweight.data.mapped_rows import MappedRows
from featherweight.data.pack import Pack
from featherweight.runtime.device import Runtime
from featherweight.training import batches as batching
from featherweight.training.batches import Batches

CPU = Runtime(torch.device("cpu"))


def batches(n=25, size=8, seed=0) -> Batches:
    images = np.arange(n, dtype=np.uint8).repeat(4).reshape(n, 2, 2, 1)
    pack = Pack([str(i) for i in range(n)], images, np.arange(n, dtype=np.int64) % 3)
    return Batches(pack, 3, size, seed, CPU)


def test_an_epoch_shows_each_image_once_and_labels_follow_images():
    shown = []
    for batch in batches(24).epoch(0):
        values = (batch.images[:, 0, 0, 0] * 255).round().long()
        assert torch.equal(values, batch.draws.samples)
        assert torch.equal(batch.targets.argmax(1), values % 3)
        shown += values.tolist()
    assert sorted(shown) == list(range(24))


def test_an_incomplete_batch_is_left_to_other_epochs():
    assert batches(25).steps_per_epoch == 3
    seen = {int(s) for epoch in range(20) for batch in batches(25).epoch(epoch) for s in batch.draws.samples}
    assert seen == set(range(25))


def test_fewer_images_than_a_batch_are_one_batch():
    assert [len(batch.images) for batch in batches(5, 64).epoch(0)] == [5]


def test_starting_in_the_middle_gives_what_would_have_come():
    whole = list(batches().epoch(3))
    rest = list(batches().epoch(3, first=1))
    assert len(rest) == len(whole) - 1
    for a, b in zip(whole[1:], rest, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.draws.uniform(5), b.draws.uniform(5))


def test_epochs_and_seeds_differ():
    orders = [next(iter(batches(seed=seed).epoch(epoch))).draws.samples.tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(map(tuple, orders))) == 4


def test_each_step_of_each_epoch_draws_numbers_of_its_own():
    """Otherwise an image would be augmented in the same way in every epoch."""
    shown = [batch for seed in (0, 1) for epoch in (0, 1) for batch in batches(seed=seed).epoch(epoch)]
    assert len({tuple(batch.draws.uniform().tolist()) for batch in shown}) == len(shown) == 2 * 2 * 3


def test_images_are_floats_in_channels_last():
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    pack = Pack([str(i) for i in range(8)], images, np.zeros(8, dtype=np.int64))
    batch = next(iter(Batches(pack, 2, 8, 0, CPU).epoch(0)))
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(
        batch.images.permute(0, 2, 3, 1).numpy(), images[batch.draws.samples.numpy()] / 255, atol=1e-7
    )


def test_images_that_stay_on_the_device_are_the_same(monkeypatch):
    sent = list(batches().epoch(1))
    monkeypatch.setattr(Runtime, "has_room", lambda self, size: True)
    staying = batches()
    for a, b in zip(sent, staying.epoch(1), strict=True):
        assert torch.equal(a.images, b.images)
        assert b.images.is_contiguous(memory_format=torch.channels_last)
    assert staying._resident is not None


@pytest.mark.parametrize("room", [True, False])
def test_a_mapped_pack_is_read_row_by_row_or_kept_where_there_is_room(monkeypatch, room):
    monkeypatch.setattr(Runtime, "has_room", lambda self, size: room)
    monkeypatch.setattr(batching, "CHUNK_IMAGES", 7)
    plain = batches()
    rows = MappedRows([plain.pack.images], np.arange(len(plain.pack)))
    mapped = Batches(dataclasses.replace(plain.pack, images=rows), 3, 8, 0, CPU)
    assert (mapped._resident is not None) == room
    for a, b in zip(plain.epoch(0), mapped.epoch(0), strict=True):
        assert torch.equal(a.images, b.images)
