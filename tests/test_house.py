"""The house rules that a machine can hold: style, types, and who may import whom."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

SOURCE = ROOT / "src" / "featherweight"
MODULES = {
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}


@pytest.mark.parametrize("tool", [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"]], ids=" ".join)
def test_tools_find_nothing(tool):
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def imports(path: Path, everywhere: bool) -> set[str]:
    """The modules of this package that a module imports: at its top, or `everywhere`, inside functions too."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else iter(tree.body)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(MODULES) - {"featherweight"}


def test_imports_go_one_way():
    core = ("data", "models", "training", "inference", "scoring")
    for name, path in MODULES.items():
        if name.split(".")[1:2] and name.split(".")[1] in core:
            above = {
                n
                for n in imports(path, everywhere=True)
                if n.split(".")[1] in ("cli", "report", "kaggle", "job", "tables")
            }
            assert not above, f"{name} imports {above}"


def test_nothing_imports_in_a_circle():
    graph = {name: imports(path, everywhere=False) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for inner in graph[name]:
                visit(inner, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_nothing_of_one_machine_is_in_the_repository():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("this is no git checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        assert path.stat().st_size < 1_000_000, f"{name} is over 1 MB"
        found = re.search(
            rb"(/ro" rb"ot/|/ho" rb"me/\w+/|/wo" rb"rk/|pypi\.o" rb"rg|pythonh" rb"osted)", path.read_bytes()
        )
        assert not found, f"{name}: {found and found.group()!r}"
