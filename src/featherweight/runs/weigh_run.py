"""Counting anything: what `budget.weigh_anything` takes, and runs by name or folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featherweight import budget, paths
from featherweight.budget import ModelSize
from featherweight.budget.any_model import IMAGENET
from featherweight.errors import UserError, nearest
from featherweight.models.shape import Shape
from featherweight.runs.run import Run


def is_run(name: str) -> bool:
    """True for the name of a run here, or its folder."""
    return any((folder / "run.json").is_file() for folder in (paths.runs() / name, Path(name)))


def weigh_anything(
    what: nn.Module | Mapping[str, Any] | str | Path | Run, example: Tensor | None = None, shape: Shape = IMAGENET
) -> ModelSize:
    """Count the parameters of a run that it ships, an ensemble's members together, or of anything as
    `budget.weigh_anything`.

    Raises UserError for what cannot be counted; a run over its own competition's limit is counted like any other.
    """
    if not isinstance(what, Run):
        if not isinstance(what, str | Path) or not is_run(str(what)):
            _refuse_unknown(what)
            return budget.weigh_anything(what, example, shape)
        what = Run.find(str(what))
    size = what.weights.stat().st_size if what.weights.is_file() else None
    if what.is_ensemble:
        together = nn.ModuleDict({member.name: member.load_model() for member, _ in what.weighted_models})
        return budget.weigh_module(what.name, together, size=size)
    if size is None:
        raise UserError(f"{what.name} has no weights yet: ./run.sh resume {what.name}")
    if example is None:
        own = what.competition.shape
        example = torch.empty(1, own.channels, own.size, own.size, device="meta")
    return budget.weigh_module(what.name, what.load_model(), example, size)


def _refuse_unknown(what: Any) -> None:
    """Raise UserError for an address, and for a plain word that is no file: it was meant as a run, or as a recipe."""
    if isinstance(what, str) and "://" in what:
        raise UserError(f"{what}: an address; download the file, and weigh it here")
    if what in ("timm/", "torchvision/"):
        raise UserError(f"{what}: expected {what}NAME, such as {what}resnet18")
    if isinstance(what, str) and what.replace("-", "").replace("_", "").isalnum() and not Path(what).exists():
        if what in paths.config_names("recipes"):
            raise UserError(f"'{what}' is a recipe, weighed against a competition's limit: ./run.sh check {what}")
        known = sorted(path.parent.name for path in paths.runs().glob("*/run.json"))
        raise UserError(f"there is no file or run called '{what}'{nearest(what, known)}")
