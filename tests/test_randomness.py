import torch

from featherweight.runtime.rng import Draws, derive, generator, seed_layers

CPU = torch.device("cpu")


def test_derived_seeds_are_fixed_for_good():
    """A change here would silently change every recorded result."""
    assert derive(0, "init") == 1519069808562059438
    assert derive(0, "order", 1) != derive(0, "order", 2) != derive(1, "order", 2)


def test_purposes_do_not_run_into_each_other():
    assert derive(1, "a", 23) != derive(1, "a", 2, 3) != derive(12, "a", 3)


def test_layers_are_seeded_as_torch_seeds_them():
    torch.manual_seed(2**62 + 1)
    theirs = torch.nn.functional.dropout(torch.ones(50))
    seed_layers(2**62 + 1, CPU)
    assert torch.equal(torch.nn.functional.dropout(torch.ones(50)), theirs)


def test_processes_draw_together_what_one_process_draws():
    whole = Draws(generator(3, "draws"), 10, CPU)
    parts = [Draws(generator(3, "draws"), 10, CPU, part=slice(first, first + 5)) for first in (0, 5)]
    for draw in (lambda d: d.uniform(4), lambda d: d.normal(2, 2), lambda d: d.integers(7)):
        assert torch.equal(draw(whole), torch.cat([draw(part) for part in parts]))
    assert torch.equal(whole.samples, torch.cat([part.samples for part in parts]))


def test_draws_are_in_range():
    draws = Draws(generator(0, "draws"), 10_000, CPU)
    uniform, integers = draws.uniform(), draws.integers(3)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert set(integers.tolist()) == {0, 1, 2}
