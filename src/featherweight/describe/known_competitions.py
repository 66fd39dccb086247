"""Facts about known competitions, from `known_competitions.yaml`, by their names on Kaggle."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featherweight import yaml
from featherweight.errors import UserError
from featherweight.evaluation.metrics import METRICS

FILE = Path(__file__).with_name("known_competitions.yaml")
FORCED = ("bengaliai-cv19",)  # one of its targets can be trained alone, where --label names it


@dataclass(frozen=True)
class KnownCompetition:
    """The known facts about a competition; None or empty if unknown."""

    metric: str | None = None
    target: str | None = None
    id: str | None = None
    label: str | None = None
    group: str | None = None
    group_pattern: str | None = None
    takes: str | None = None
    k: int | None = None
    positive: str | None = None
    rename: dict[str, str] = field(default_factory=dict)
    unsupported: str | None = None


@functools.cache
def competitions() -> dict[str, KnownCompetition]:
    """Return all known competitions by their names on Kaggle in lower case."""
    return {slug.lower(): KnownCompetition(**entry) for slug, entry in yaml.read(FILE).data.items()}


def known(slug: str | None, label: str | None = None) -> KnownCompetition:
    """Return what is known about a competition; empty facts for an unknown one.

    Raises UserError if it is not a classification of images, unless `label` names one of its columns to train alone.
    """
    competition = competitions().get((slug or "").lower(), KnownCompetition())
    if competition.unsupported and not (label and str(slug).lower() in FORCED):
        only = "; --label COLUMN trains one of them alone" if str(slug).lower() in FORCED else ""
        raise UserError(
            f"{slug}: this competition asks for {competition.unsupported}, and this program trains classifiers of "
            f"whole images{only}"
        )
    return competition


def slug_of(text: str) -> str:
    """Return a competition's name on Kaggle from that name or its address.

    Raises UserError for other text.
    """
    address = re.search(r"kaggle\.com/(?:c|competitions)/([^/?#\s]+)", text)
    slug = address[1] if address else text
    if not re.fullmatch(r"[\w-]+", slug):
        raise UserError(
            f"--kaggle {text}: expected the competition's name in its address, https://www.kaggle.com/competitions/NAME"
        )
    return slug


def chosen_slug(wish: str | None, folder: str, assumed: list[str]) -> str | None:
    """Return a competition's name on Kaggle: as the user says it or, of a known one, as its folder is called."""
    if wish is not None:
        slug = slug_of(wish)
        return None if slug == "none" else slug
    if folder.lower() in competitions():
        assumed.append(f"  kaggle: {folder}, since the folder is called so (pass --kaggle none, if it is not that)")
        return folder
    return None


def metric(name: str | None) -> dict[str, Any] | str | None:
    """Return a metric as a competition file writes it: `map@5` is map_at_k with its k, `samples_f2` is samples_fbeta
    with its beta. None if there is no such metric.
    """
    if name is None or name in METRICS:
        return name
    stem, _, number = name.partition("@")
    stem = {"map": "map_at_k"}.get(stem, stem)
    if number.isdecimal() and int(number) > 0 and stem in METRICS:
        return {"name": stem, "k": int(number)}
    stem = f"{name[:-1]}beta"
    return {"name": stem, "beta": float(name[-1])} if name[-2:] == "f2" and stem in METRICS else None
