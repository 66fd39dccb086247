"""What test-time views gain, so that a plan takes those that are worth the epochs which their time would be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from featherweight.config import Competition, Recipe
from featherweight.runs import predictions

# Gains in logits, measured by `./run.sh bench views` on the narrow fast net (95 % intervals: ± 0.024, 0.010, 0.024).
# For other networks the same is assumed. Other views were not measured.
GAINS = {
    frozenset[str](): 0.0,
    frozenset({"flip"}): 0.056,
    frozenset({"shift"}): 0.016,
    frozenset({"flip", "shift"}): 0.064,
}


def settings(recipe: Recipe, seen: Competition) -> Iterator[tuple[str, ...]]:
    """Yield settings, each of fewer of the recipe's views: of all of them first, of none last.

    Views whose gain is not known are not left out.
    """
    names = [view.name for view in predictions.views(recipe, seen)]
    yield ()
    if frozenset(names) in GAINS:
        for count in reversed(range(len(names))):
            for kept in itertools.combinations(names, count):
                yield (f"predict.views=[{', '.join(kept)}]",)


def lost(recipe: Recipe, usual: Recipe, seen: Competition) -> float:
    """Return the logits that a recipe loses against the usual one, since it has fewer views."""
    kept, all_of_them = (frozenset(view.name for view in predictions.views(one, seen)) for one in (recipe, usual))
    return GAINS.get(all_of_them, 0.0) - GAINS.get(kept, 0.0)
