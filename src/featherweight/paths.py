"""Where things lie: configurations, data, runs and submissions.

The workspace is `$FEATHERWEIGHT_HOME`, else the folder of this checkout. Configurations are looked up in the workspace
first and then in the checkout, so a workspace elsewhere needs only what is its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from featherweight.errors import UserError, nearest

MANY = 20  # names that an error still spells out
CHECKOUT = Path(__file__).resolve().parents[2]


def home() -> Path:
    """The workspace's folder."""
    return Path(os.environ.get("FEATHERWEIGHT_HOME") or CHECKOUT)


def config_folders(kind: str) -> list[Path]:
    """The folders that hold `recipes` or `competitions`, the first to be asked first."""
    return list(dict.fromkeys(root / "configs" / kind for root in (home(), CHECKOUT)))


def data() -> Path:
    """What competitions are made of, unpacked; `$FEATHERWEIGHT_DATA` points elsewhere (Kaggle: /kaggle/input)."""
    return Path(os.environ.get("FEATHERWEIGHT_DATA") or home() / "data")


def packs() -> Path:
    """The cache of decoded images; deleting it costs one decoding."""
    return Path(os.environ.get("FEATHERWEIGHT_CACHE") or home() / "data" / ".packs")


def runs() -> Path:
    """One folder a run."""
    return home() / "runs"


def studies() -> Path:
    """One folder a search."""
    return home() / "studies"


def submissions() -> Path:
    """The CSVs and the ledger."""
    return home() / "submissions"


def config_names(kind: str) -> list[str]:
    """Every recipe or competition there is, by name, sorted; a leading underscore marks a parent alone, not listed."""
    return sorted({path.stem for folder in config_folders(kind) for path in folder.glob("[!_]*.yaml")})


def find_config(kind: str, name: str, also: Iterable[str] = ()) -> Path:
    """The file of a recipe or competition, given its name or path.

    Raises UserError with the nearest name; `also` are words that would have been right in the same place.
    """
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise UserError(f"there is no file {name}")
    for folder in config_folders(kind):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = config_names(kind)
    what = kind.removesuffix("s")
    hint = nearest(name, [*known, *also]) or ";"
    listed = f"the {kind} are {', '.join(known)}" if len(known) <= MANY else f"see all {len(known)}: ./run.sh check all"
    raise UserError(f"there is no {what} called '{name}'{hint} {listed}")
