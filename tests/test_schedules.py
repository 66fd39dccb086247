import pytest
import torch

from featherweight.training.schedules import Progress, constant, cosine, stepped


def factors(schedule, epochs, steps=1, **arguments):
    return [schedule(Progress(step, steps, epochs), **arguments) for step in range(epochs * steps)]


def test_stepped_is_the_logbooks_base_times_a_fifth_to_the_k():
    """LOGBOOK A: k is how many of 3/10, 5/10, 7/10, 9/10 of the epochs have been reached; five plateaus."""
    expected = [0.2**k for k in (0, 0, 0, 1, 1, 2, 2, 3, 3, 4)]
    assert factors(stepped, 10) == pytest.approx(expected)


@pytest.mark.parametrize("epochs", range(1, 101))
def test_stepped_changes_at_the_first_epoch_that_reaches_the_fraction(epochs):
    for step, factor in enumerate(factors(stepped, epochs)):
        assert factor == pytest.approx(0.2 ** sum(10 * step >= tenths * epochs for tenths in (3, 5, 7, 9)))


def test_stepped_holds_within_an_epoch():
    assert factors(stepped, 10, steps=3) == pytest.approx([f for f in factors(stepped, 10) for _ in range(3)])


def test_cosine_is_torchs():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], 1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20, eta_min=0.1)
    expected = []
    for _ in range(20):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert factors(cosine, 5, steps=4, final=0.1) == pytest.approx(expected)


def test_warm_up_rises_evenly_to_the_full_rate():
    assert factors(cosine, 10, warmup=0.4)[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_constant():
    assert factors(constant, 3) == [1.0] * 3
