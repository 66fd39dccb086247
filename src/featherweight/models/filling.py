"""The largest member of a family's structure within a limit, by closed forms: thousands of candidates per second."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from featherweight.models.family import FILLED, Arguments, FillTarget

SLACK = 0.05  # how far channels may be from a family's proportions
HEADS = (0.75, 1.5)  # how far a last convolution may be from its published width


def three_widths(search: FillTarget, proportions: Sequence[int], count: Callable[..., int]) -> list[int] | None:
    """Scale three groups' channels to the limit in proportion, then return the largest of all within SLACK of that."""

    def scaled(last: int) -> list[int]:
        return [max(1, round(part * last / proportions[-1])) for part in proportions]

    low, high = 0, 1
    while search.fits(count(scaled(high))):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if search.fits(count(scaled(middle))) else (low, middle)
    if low == 0:
        return None
    nearby = [range(round(width * (1 - SLACK)), round(width * (1 + SLACK)) + 1) for width in scaled(low)[:2]]
    around = itertools.product(*nearby, range(max(1, low - 2), low + 3))
    best, most = scaled(low), count(scaled(low))
    for widths in around:
        parameters = count(widths)
        if search.fits(parameters) and parameters > most and list(widths) == sorted(widths):
            best, most = list(widths), parameters
    return best


def cached_head(count: Callable[[float, int], int]) -> Callable[[float, int], int]:
    """Return the same count, computed from two of its values per width, since it is linear in the head."""
    known: dict[float, tuple[int, int]] = {}

    def linear(width: float, head: int) -> int:
        if width not in known:
            first = count(width, 1)
            known[width] = (first, count(width, 2) - first)
        first, slope = known[width]
        return first + (head - 1) * slope

    return linear


def width_and_head(
    search: FillTarget, count: Callable[[float, int], int], published: Callable[[float], int]
) -> Arguments | None:
    """Return the width, in hundredths, and the head that fills the limit with it, nearest to its published width."""
    best: tuple[float, Arguments] | None = None
    for hundredths in range(10, 1001):
        width = hundredths / 100
        nominal = published(width)
        slope = count(width, 2) - count(width, 1)
        head = 1 + (search.limit - count(width, 1)) // slope
        if not search.fits(count(width, max(head, 1))) or head < HEADS[0] * nominal:
            if head < 1:
                break
            continue
        head = min(head, round(HEADS[1] * nominal))
        off = abs(head / nominal - 1)
        full = count(width, head) >= FILLED * search.limit
        key = off if full else 10 + (search.limit - count(width, head)) / search.limit
        if best is None or key < best[0]:
            best = key, {"width": width, "head": head}
    return best[1] if best else None


def nearest_first(best: int, choices: range) -> list[int]:
    """Return structures in order of preference: those nearest to the best known one first."""
    return sorted(choices, key=lambda structure: abs(structure - best))
