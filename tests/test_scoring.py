import numpy as np
import pytest

from featherweight.scoring import accuracy


def test_accuracy_has_the_exact_interval():
    """8 of 10 by Clopper and Pearson: 0.4439 to 0.9748 (their 1934 tables, and every statistics package)."""
    score = accuracy(np.array([1] * 8 + [0] * 2), np.ones(10, dtype=np.int64))
    assert (score.value, score.count) == (0.8, 10)
    assert (score.low, score.high) == (pytest.approx(0.4439, abs=1e-4), pytest.approx(0.9748, abs=1e-4))
    assert str(score) == "80.00% (95 % interval 44.39% to 97.48%, 10 images)"


def test_a_perfect_score_still_has_a_lower_end():
    score = accuracy(np.ones(100, dtype=np.int64), np.ones(100, dtype=np.int64))
    assert score.high == 1
    assert score.low == pytest.approx(0.025 ** (1 / 100))
