"""The source of a network of the user's: found, imported, and stored with a run, to be loaded from there."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from featherweight import paths
from featherweight.errors import UserError, nearest
from featherweight.untrusted_files import read_bytes, reason

LARGEST = 2**20  # bytes of a source file

_stored: ContextVar[Path | None] = ContextVar("stored sources", default=None)


@contextmanager
def stored_sources(folder: Path) -> Iterator[None]:
    """Within, networks of the user's are taken from a run's folder, as they were stored there."""
    token = _stored.set(folder / "source")
    try:
        yield
    finally:
        _stored.reset(token)


def load(name: str) -> tuple[Any, dict[str, str]]:
    """The class or function that a name means, and the sources of it, by their paths in a run's folder."""
    where, _, inner = name.rpartition(":")
    stored = _stored.get()
    if where.endswith(".py"):
        module, sources = _load_file(where, stored)
    else:
        module, sources = _load_module(where, stored)
    found: Any = module
    for part in inner.split("."):
        if not hasattr(found, part):
            there = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
            raise UserError(f"model: there is no '{inner}' in {where}{nearest(inner, there)}")
        found = getattr(found, part)
    return found, sources


def _load_file(where: str, stored: Path | None) -> tuple[ModuleType, dict[str, str]]:
    file = Path(where).expanduser()
    tried = [*([stored / file.name] if stored else []), file, paths.home() / file]
    path = next((one for one in tried if one.is_file()), None)
    if path is None:
        raise UserError(f"model: there is no file {where}, here or in {paths.home()}")
    path = path.resolve()
    code = read_bytes(path, LARGEST)
    known = f"featherweight_own_{hashlib.sha256(str(path).encode() + code).hexdigest()[:16]}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module
        with _importing(where, path.parent, known) as beside:
            exec(compile(code, str(path), "exec", dont_inherit=True), module.__dict__)
        module.__dict__["_sources"] = {path.name: code.decode(errors="replace"), **beside}
    module = sys.modules[known]
    return module, module.__dict__["_sources"]


def _load_module(where: str, stored: Path | None) -> tuple[ModuleType, dict[str, str]]:
    top = where.partition(".")[0]
    if (stored is not None and (stored / top).is_dir()) or (stored is not None and (stored / f"{top}.py").is_file()):
        folder = stored
    else:
        folder = None
    before = {key: sys.modules.pop(key) for key in list(sys.modules) if folder and key.partition(".")[0] == top}
    try:
        with _importing(where, folder or Path.cwd(), None):
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
def _importing(where: str, folder: Path, known: str | None) -> Iterator[dict[str, str]]:
    """Within, modules of the folder can be imported; this gives their sources, and they are forgotten again."""
    before = set(sys.modules)
    beside: dict[str, str] = {}
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield beside
    except UserError:
        raise
    except Exception as error:
        if known is not None:
            sys.modules.pop(known, None)
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else line_of(error)
        raise UserError(f"model: {where} cannot be imported: {type(error).__name__}: {reason(error)}{line}") from None
    finally:
        sys.path.remove(str(folder))
        if known is not None:
            for key in set(sys.modules) - before - {known}:
                file = getattr(sys.modules[key], "__file__", None)
                if file and Path(file).is_relative_to(folder) and "site-packages" not in file:
                    beside[Path(file).relative_to(folder).as_posix()] = Path(file).read_text(errors="replace")
                    del sys.modules[key]


def line_of(error: BaseException) -> str:
    """The last line of the user's own code on the way to an error."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "featherweight" not in file and "site-packages" not in file and "/lib/python" not in file:
            found = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found
