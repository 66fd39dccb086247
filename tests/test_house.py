"""The house rules that a machine can hold: style, types, and who may import whom."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

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


# From the ground up: a module imports only from its own place or from those below it, wherever the import stands;
# what is imported for annotations alone is free.
LAYERS = (
    "errors",
    "atomic yaml schema paths reading",
    "runtime",
    "console",
    "augment",
    "models",
    "evaluation",
    "plotting",
    "data",
    "training",
    "config",
    "budget",
    "submission",
    "runs",
    "quality",
    "planning",
    "export",
    "kaggle",
    "report",
    "search",
    "logbook",
    "api",
    "cli",
)
RANK = {place: rank for rank, places in enumerate(LAYERS) for place in places.split()}
OUTSIDE = ("featherweight", "featherweight.__main__")


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The modules and packages of this package that are imported when the code runs, each with its line."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        yield from imports(node)


def test_every_module_has_its_layer():
    assert {name.split(".")[1] for name in MODULES if name not in OUTSIDE} == set(RANK)


def test_layers_are_imported_from_above_alone():
    wrong = []
    for name, path in MODULES.items():
        if name in OUTSIDE:
            continue
        for imported, line in imports(ast.parse(path.read_text())):
            if imported in MODULES and imported not in OUTSIDE:
                ours, theirs = name.split(".")[1], imported.split(".")[1]
                if RANK[theirs] > RANK[ours]:
                    wrong.append(f"{path.relative_to(ROOT)}:{line}: {ours} imports {theirs}, which is above it")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_in_a_circle():
    graph = {
        name: {found for found, _ in imports(ast.parse(path.read_text())) if found in MODULES} - {name, *OUTSIDE}
        for name, path in MODULES.items()
    }
    # A package's own names are imported from its modules, so a module that imports its package back would be a circle.
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
