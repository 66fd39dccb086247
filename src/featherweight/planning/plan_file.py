"""Store a plan as a recipe with every key, in a file that no other plan takes."""

from __future__ import annotations

import itertools
from pathlib import Path

from filelock import FileLock

from featherweight import atomic, paths
from featherweight.config import Recipe, load_recipe, store
from featherweight.errors import UserError
from featherweight.planning.plan import Plan


def write(plan: Plan, name: str, competition: str) -> Path:
    """Store the plan's recipe as `plans/<competition>/<name>.yaml`, with a number if that name is taken."""
    folder = paths.plans() / competition
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # two commands may plan at the same time
        names = (f"{name}-{number}" if number > 1 else name for number in itertools.count(1))
        path = next(path for each in names if _is_free(path := folder / f"{each}.yaml", plan.best.recipe))
        store(plan.best.recipe, path)
        atomic.write_text(path, "".join(f"# {line}\n" for line in plan.lines()) + path.read_text())
    return path


def _is_free(path: Path, recipe: Recipe) -> bool:
    """True if nothing is stored at the path, or the same recipe."""
    if not path.exists():
        return True
    try:
        return load_recipe(str(path)) == recipe
    except UserError:  # edited, or of another version
        return False
