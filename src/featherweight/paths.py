"""The places of configurations, data, runs and submissions.

The workspace is `$FEATHERWEIGHT_HOME`, or else the folder of this checkout or, if the package is installed, the current
one. Configurations are looked up in the workspace first and then among the shipped ones, so a workspace elsewhere needs
only its own.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from featherweight.errors import UserError, nearest

LONGEST_NAME = 150  # bytes; a file system allows 255, and run names are extended
PLAIN = r"[\w.,+=@-]"  # a character of a name, which no shell needs quotes for
MANY = 20  # names that an error still lists
CHECKOUT = Path(__file__).resolve().parents[2]
INSTALLED = not (CHECKOUT / "run.sh").is_file()  # by pip, rather than used from a checkout
SHIPPED = Path(__file__).resolve().parent / "configs" if INSTALLED else CHECKOUT / "configs"


def home() -> Path:
    """Return the workspace's folder."""
    return Path(os.environ.get("FEATHERWEIGHT_HOME") or (Path.cwd() if INSTALLED else CHECKOUT))


def _roots() -> list[Path]:
    """Return the folders whose `configs` are searched, in this order."""
    return list(dict.fromkeys((home(), SHIPPED.parent)))


def data() -> Path:
    """Return the folder of the competitions' data; `$FEATHERWEIGHT_DATA` overrides it (Kaggle: /kaggle/input)."""
    return Path(os.environ.get("FEATHERWEIGHT_DATA") or home() / "data")


def packs() -> Path:
    """Return the folder of the cache of decoded images; deleting it costs decoding them again."""
    return Path(os.environ.get("FEATHERWEIGHT_CACHE") or home() / "data" / ".packs")


def runs() -> Path:
    """Return the folder of runs, which has a folder per run."""
    return home() / "runs"


def studies() -> Path:
    """Return the folder of searches, which has a folder per search."""
    return home() / "studies"


def kernels() -> Path:
    """Return the folder of notebooks for code competitions, which has a folder per notebook."""
    return home() / "kernels"


def plans() -> Path:
    """Return the folder of the plans of `auto`, which has a folder per competition."""
    return home() / "plans"


def reports() -> Path:
    """Return the folder of pages and pictures that belong to no single run: data pages, comparisons, previews."""
    return home() / "reports"


def shown(path: Path) -> str:
    """Return the path as it is printed: relative to the current folder if it is below it, else in full."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def submissions() -> Path:
    """Return the folder of the CSVs and the ledger."""
    return home() / "submissions"


def refuse_name(name: str, option: str) -> None:
    """Raise UserError for a name that is not valid for a file, or that a command line, terminal or shell would misread.

    A run's name is used for a folder, a CSV and files with longer names beside it, so it is checked for all of these
    before anything is done. Messages print commands with it, which a shell must read as they are.
    """
    if not re.fullmatch(rf"(?![.-]){PLAIN}+", name):
        raise UserError(f"{option} {name}: expected a plain name without folder or spaces, of letters, digits, .,+=@_-")
    if len(name.encode()) > LONGEST_NAME:
        many = len(name.encode())
        unit = "letters" if many == len(name) else "bytes"  # of UTF-8, where a letter may take four
        raise UserError(f"{option} {name[:40]}...: expected {LONGEST_NAME} {unit} or fewer, got {many}")


def plain(name: str) -> str:
    """Return the name with `_` in place of all that `refuse_name` refuses, such as the spaces in a file's name."""
    return re.sub(rf"(?!{PLAIN}).|^[.-]", "_", name, flags=re.DOTALL)


def refuse_unwritable(folder: Path) -> None:
    """Raise UserError unless files can be created in a folder, which is created if it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}") from None


def refuse_unwritable_file(path: Path) -> None:
    """Raise UserError unless a file can be created or replaced at `path`; its folder need not exist yet."""
    if path == Path("-"):
        raise UserError("cannot write -: this output goes into a file only, so name one")
    if path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it is {'a folder; name a file in it' if path.is_dir() else 'no file'}")
    target = Path(os.path.realpath(path))  # a link stays one: the file that it leads to is replaced
    folder = next(one for one in target.parents if one.exists())
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=".")
        os.close(handle)
        Path(name).unlink()
    except OSError as error:
        raise UserError(f"cannot read or write {path}: {error.strerror}; nothing was done") from None


def refuse_overwriting(path: Path | None, inputs: Iterable[str | Path]) -> None:
    """Raise UserError if a file to be written is one of those that a command reads."""
    if path is not None and path.exists():
        for one in map(Path, inputs):
            if one.exists() and one.samefile(path):
                raise UserError(f"{path} would be overwritten: it is read, too; name another file for the output")


def _configs(kind: str, root: Path) -> dict[str, list[str]]:
    """Return all files of one root's recipes or competitions by short name, in any subfolder."""
    by_name: dict[str, list[str]] = {}
    for folder, folders, files in os.walk(root / "configs" / kind):  # of strings: each recipe that is read asks
        folders.sort()
        for file in files:
            if file.endswith(".yaml"):
                by_name.setdefault(file.removesuffix(".yaml"), []).append(os.path.join(folder, file))  # noqa: PTH118
    return by_name


def config_names(kind: str) -> list[str]:
    """Return the names of all recipes or competitions, sorted, without mere parents (with a leading underscore)."""
    names = {name for root in _roots() for name in _configs(kind, root)}
    return sorted(name for name in names if not name.startswith("_"))


def find_config(kind: str, name: str, also: Iterable[str] = (), command: bool = False) -> Path:
    """Return the file of a recipe or competition, given its path, or its short name in any subfolder.

    Raises UserError with the nearest name, and for two files of one name; `also` are words that are valid in the same
    place. `command` says that a command may have been meant.
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
    if kind == "recipes" and "." in name and hint == ";":
        hint = "; a network of yours is FILE.py:NAME or PACKAGE.MODULE:NAME;"
    many = kind == "recipes" and len(known) > MANY
    listed = "./run.sh models lists them" if many else f"the {kind} are {', '.join(known)}"
    if command:
        what, listed = f"{what} or command", "./run.sh lists the commands, ./run.sh models the recipes"
    raise UserError(f"there is no {what} called '{name}'{hint} {listed}")


def own_recipe(name: str, option: str) -> Path:
    """Return the path for a new recipe of the user's: above the folders of the shipped ones.

    Raises UserError if a file of that name is in one of these folders; whether the path itself exists is for the caller
    to check.
    """
    path = home() / "configs" / "recipes" / f"{name}.yaml"
    others = [other for other in map(Path, _configs("recipes", home()).get(name, [])) if other != path]
    if others:
        raise UserError(f"{option} {name}: there is a recipe {others[0]} already: use another name")
    return path
