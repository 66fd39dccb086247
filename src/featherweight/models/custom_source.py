"""The source of a network of the user's: found, imported, and stored with a run, to be loaded from there."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from featherweight import paths
from featherweight.errors import UserError, nearest
from featherweight.untrusted_files import read_bytes, reason

MAX_SOURCE_BYTES = 2**20  # of a source file
OURS = str(Path(__file__).resolve().parents[1])
MAIN_HINT = "; what must not run at an import belongs below: if __name__ == '__main__':"

_stored: ContextVar[Path | None] = ContextVar("stored sources", default=None)


@contextmanager
def stored_sources(folder: Path) -> Iterator[None]:
    """Context in which the user's networks are loaded from a run's folder, as they were stored there."""
    token = _stored.set(folder / "source")
    try:
        yield
    finally:
        _stored.reset(token)


def load(name: str) -> tuple[Any, dict[str, str]]:
    """Return the class or function that a name refers to, and its sources, by their paths in a run's folder."""
    where, _, inner = (name if ":" in name else f"{name}:").rpartition(":")
    stored = _stored.get()
    if where and not inner:
        raise UserError(f"model: {name} does not say which network: {where}:NAME")
    if where.endswith(".py"):
        module, sources = _load_file(where, stored)
    elif not where or Path(where).is_file():
        raise UserError(f"model: {name}: expected FILE.py:NAME or PACKAGE.MODULE:NAME")
    else:
        module, sources = _load_module(where, stored)
    target: Any = module
    for part in inner.split("."):
        if not hasattr(target, part):
            there = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
            raise UserError(f"model: there is no '{inner}' in {where}{nearest(inner, there) or ''}")
        target = getattr(target, part)
    return target, sources


def _load_file(where: str, stored: Path | None) -> tuple[ModuleType, dict[str, str]]:
    """Import a file as a module of its own package, so that it can import modules beside it as `.parts`."""
    path = _found(where, stored).resolve()
    base = path.parent
    while (base / "__init__.py").is_file():
        base = base.parent
    code = read_bytes(path, MAX_SOURCE_BYTES)
    package = f"featherweight_own_{hashlib.sha256(str(path).encode() + code).hexdigest()[:16]}"
    above = [package, *path.parent.relative_to(base).parts]
    known = ".".join([*above, path.stem.replace(".", "_")])
    if known not in sys.modules:
        with _importing(where, base, [path.parent, base], package) as beside:
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = [str(base)]
            importlib.import_module(".".join(above))
            spec = importlib.util.spec_from_file_location(known, path)
            assert spec is not None
            module = sys.modules[known] = importlib.util.module_from_spec(spec)
            exec(compile(code, str(path), "exec", dont_inherit=True), module.__dict__)
        own = {path.relative_to(base).as_posix(): code.decode(errors="replace")}
        module.__dict__["_sources"] = {**own, **beside}
    module = sys.modules[known]
    return module, module.__dict__["_sources"]


def _found(where: str, stored: Path | None) -> Path:
    """Return the file itself, or its stored copy: by its name, and by the folders above it that are packages."""
    file = Path(where).expanduser()
    below = [Path(*file.parts[at:]) for at in range(len(file.parts)) if not Path(*file.parts[at:]).is_absolute()]
    tried = [*(stored / one for one in below if stored is not None), file, paths.home() / file]
    path = next((one for one in tried if one.is_file()), None)
    if path is None:
        raise UserError(f"model: there is no file {where}, here or in {paths.home()}")
    return path


def _load_module(where: str, stored: Path | None) -> tuple[ModuleType, dict[str, str]]:
    top = where.partition(".")[0]
    if (stored is not None and (stored / top).is_dir()) or (stored is not None and (stored / f"{top}.py").is_file()):
        folder = stored
    else:
        folder = None
    before = {key: sys.modules.pop(key) for key in list(sys.modules) if folder and key.partition(".")[0] == top}
    try:
        with _importing(where, folder or Path.cwd(), [folder or Path.cwd()], None):
            module = importlib.import_module(where)
    finally:
        if folder is not None:
            for key in [key for key in sys.modules if key.partition(".")[0] == top]:
                del sys.modules[key]
            sys.modules.update(before)
    file = getattr(module, "__file__", None)
    if file is None or "site-packages" in file:
        return module, {}
    root = Path(file).parents[where.count(".") + (Path(file).name == "__init__.py")]
    package = root / top
    files = sorted(package.rglob("*.py")) if package.is_dir() else [root / f"{top}.py"]
    return module, {file.relative_to(root).as_posix(): file.read_text(errors="replace") for file in files}


@contextmanager
def _importing(where: str, base: Path, searched: Sequence[Path], package: str | None) -> Iterator[dict[str, str]]:
    """Context in which modules of the searched folders can be imported.

    The given dict is filled with the sources of those below `base`. On exit all modules but those of `package` are
    removed again.
    """
    before = set(sys.modules)
    beside: dict[str, str] = {}
    sys.path[:0] = map(str, searched)
    importlib.invalidate_caches()
    try:
        with _undisturbed(where):
            yield beside
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        for key in [key for key in sys.modules if package is not None and key.partition(".")[0] == package]:
            del sys.modules[key]
        raise UserError(f"model: {where} cannot be imported: {told(error)}{MAIN_HINT * _ends(error)}") from None
    finally:
        for folder in searched:
            sys.path.remove(str(folder))
        if package is not None:
            for key in set(sys.modules) - before:
                file = getattr(sys.modules[key], "__file__", None)
                if file and Path(file).is_relative_to(base) and "site-packages" not in file:
                    beside[Path(file).relative_to(base).as_posix()] = Path(file).read_text(errors="replace")
                    if key.partition(".")[0] != package:
                        del sys.modules[key]


@contextmanager
def _undisturbed(where: str) -> Iterator[None]:
    """Context for importing a user's code: without command-line arguments; its prints and torch settings are undone."""
    words, dtype, gradients = sys.argv, torch.get_default_dtype(), torch.is_grad_enabled()
    sys.argv = [where]
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.argv = words
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)


def _ends(error: BaseException) -> bool:
    return isinstance(error, SystemExit)


def told(error: BaseException) -> str:
    """Return in words what a user's code raised, with the last line of that code in the traceback."""
    kind, what = type(error).__name__, reason(error)
    if isinstance(error, SyntaxError):
        return f"{kind}: {error.msg}" + (f" (line {error.lineno})" if error.lineno else "")
    if isinstance(error, OSError) and error.filename:
        what = f"{what}: {error.filename}"
    trace, line = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not (file.startswith((OURS, "<")) or "site-packages" in file or "/lib/python" in file):
            line = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{kind}: {what}{line}"
