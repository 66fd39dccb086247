"""Where things lie: configurations, data, runs and submissions.

The workspace is `$FEATHERWEIGHT_HOME`, else the folder of this checkout or, where the package is installed, the current
one. Configurations are looked up in the workspace first and then among those that are shipped, so a workspace elsewhere
needs only what is its own.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from featherweight.errors import UserError, nearest

LONGEST_NAME = 150  # bytes; a file system takes 255, and a run's name is added to
MANY = 20  # names that an error still spells out
CHECKOUT = Path(__file__).resolve().parents[2]
INSTALLED = not (CHECKOUT / "run.sh").is_file()  # by pip, rather than used from a checkout
SHIPPED = Path(__file__).resolve().parent / "configs" if INSTALLED else CHECKOUT / "configs"


def home() -> Path:
    """The workspace's folder."""
    return Path(os.environ.get("FEATHERWEIGHT_HOME") or (Path.cwd() if INSTALLED else CHECKOUT))


def _roots() -> list[Path]:
    """The folders whose `configs` are searched, in this order."""
    return list(dict.fromkeys((home(), SHIPPED.parent)))


def data() -> Path:
    """What competitions are made of, unpacked; `$FEATHERWEIGHT_DATA` points elsewhere (Kaggle: /kaggle/input)."""
    return Path(os.environ.get("FEATHERWEIGHT_DATA") or home() / "data")


def packs() -> Path:
    """The cache of decoded images; deleting it costs one decoding."""
    return Path(os.environ.get("FEATHERWEIGHT_CACHE") or home() / "data" / ".packs")


def runs() -> Path:
    """One folder per run."""
    return home() / "runs"


def studies() -> Path:
    """One folder a search."""
    return home() / "studies"


def kernels() -> Path:
    """What is sent to competitions that take code: one folder for each notebook."""
    return home() / "kernels"


def reports() -> Path:
    """Pages and pictures that are of no one run: data pages, comparisons, previews."""
    return home() / "reports"


def shown(path: Path) -> str:
    """The path as printed: below the current folder without it, else whole."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def submissions() -> Path:
    """The CSVs and the ledger."""
    return home() / "submissions"


def refuse_name(name: str, option: str) -> None:
    """Raise UserError for a name that a file cannot have, or that a command line, a terminal or a shell would misread.

    A run's name becomes a folder, a CSV and what is written beside them under longer names; so it is checked for all of
    these before anything is done under it.
    """
    if not name or name.startswith((".", "-")) or not re.fullmatch(r"[\w.,+=@ ()-]+", name) or name != name.strip():
        raise UserError(
            f"{option} {name}: expected a plain name, with no folder in it; letters, digits and .,+=@()_- do"
        )
    if len(name.encode()) > LONGEST_NAME:
        many = len(name.encode())
        unit = "letters" if many == len(name) else "bytes"  # of UTF-8, where a letter may take four
        raise UserError(f"{option} {name[:40]}...: expected {LONGEST_NAME} {unit} or fewer, got {many}")


def refuse_unwritable(folder: Path) -> None:
    """Raise UserError unless files can be made in a folder, which is made where it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}") from None


def _configs(kind: str, root: Path) -> dict[str, list[str]]:
    """Every file of one root's recipes or competitions by its short name, in any folder."""
    by_name: dict[str, list[str]] = {}
    for folder, folders, files in os.walk(root / "configs" / kind):  # of strings: each recipe that is read asks
        folders.sort()
        for file in files:
            if file.endswith(".yaml"):
                by_name.setdefault(file.removesuffix(".yaml"), []).append(os.path.join(folder, file))  # noqa: PTH118
    return by_name


def config_names(kind: str) -> list[str]:
    """Every recipe or competition there is, by name, sorted; a leading underscore marks a parent alone, not listed."""
    names = {name for root in _roots() for name in _configs(kind, root)}
    return sorted(name for name in names if not name.startswith("_"))


def find_config(kind: str, name: str, also: Iterable[str] = ()) -> Path:
    """The file of a recipe or competition, given its short name, wherever below its folder it lies, or its path.

    Raises UserError with the nearest name, and for two files of one name; `also` are words that would have been right
    in the same place.
    """
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise UserError(f"there is no file {name}")
    what = kind.removesuffix("s")
    if Path(name).suffix in (".json", ".toml") and Path(name).is_file():
        raise UserError(f"{name}: a {what} is a YAML file, called {Path(name).with_suffix('.yaml').name}")
    for root in _roots():
        files = [Path(file) for file in _configs(kind, root).get(name, [])]
        if len(files) > 1:
            both = " and ".join(str(path.relative_to(root)) for path in files)
            raise UserError(f"there are two {kind} called '{name}', {both} in {root}: rename one, or give its path")
        if files:
            return files[0]
    if kind == "recipes" and Path(name.partition(":")[0]).suffix == ".py":
        own = name if ":" in name else f"{name}:NAME"
        raise UserError(f"{name} is code: ./run.sh check {own} weighs its network, and --set model={own} trains it")
    known = config_names(kind)
    hint = nearest(name, [*known, *also]) or ";"
    many = kind == "recipes" and len(known) > MANY
    listed = "./run.sh models lists them" if many else f"the {kind} are {', '.join(known)}"
    raise UserError(f"there is no {what} called '{name}'{hint} {listed}")


def own_config(kind: str, name: str, option: str) -> Path:
    """Where a command writes a recipe or competition of the user's: above the folders of those that are shipped.

    Raises UserError where a file of that name lies in one of these folders; whether one is there already, the caller
    decides.
    """
    path = home() / "configs" / kind / f"{name}.yaml"
    others = [other for other in map(Path, _configs(kind, home()).get(name, [])) if other != path]
    if others:
        raise UserError(f"{option} {name}: there is a {kind.removesuffix('s')} {others[0]} already; take another name")
    return path
