"""The house rules that can be checked automatically: style, types, and which module may import which."""

import ast
import functools
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

SOURCE = ROOT / "src" / "featherweight"
MODULES = {
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}


@pytest.mark.parametrize("tool", [["ruff", "format", "--check", "."], ["ruff", "check", "."]], ids=" ".join)
def test_tools_find_nothing(tool):
    """mypy takes half a minute without its cache, so only .ci/run calls it."""
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# From the ground up: a module imports only from its own place or from those below it, wherever the import stands;
# what is imported for annotations alone is free.
LAYERS = (
    "errors",
    "atomic yaml schema paths untrusted_files",
    "runtime",
    "console",
    "augment",
    "models",
    "evaluation",
    "plotting pages",
    "data",
    "training",
    "config",
    "budget",
    "submission",
    "runs",
    "inspection describe",
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
STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)  # no expression imports a module or defines a function


@functools.cache
def imports(path: Path) -> list[tuple[str, int]]:
    """Return what this file imports at run time, each with its line; it is looked up once for all rules."""
    return list(_imports(tree(path)))


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, STATEMENTS) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        yield from _imports(node)


@functools.cache
def tree(path: Path) -> ast.Module:
    """Return the parsed file; it is parsed once for all rules."""
    return ast.parse(path.read_text())


def test_every_module_has_its_layer():
    assert {name.split(".")[1] for name in MODULES if name not in OUTSIDE} == set(RANK)


def test_layers_are_imported_from_above_alone():
    wrong = []
    for name, path in MODULES.items():
        if name in OUTSIDE:
            continue
        for imported, line in imports(path):
            if imported in MODULES and imported not in OUTSIDE:
                ours, theirs = name.split(".")[1], imported.split(".")[1]
                if RANK[theirs] > RANK[ours]:
                    wrong.append(f"{path.relative_to(ROOT)}:{line}: {ours} imports {theirs}, which is above it")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_in_a_circle():
    graph = {
        name: {found for found, _ in imports(path) if found in MODULES} - {name, *OUTSIDE}
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


# A file has at most 300 lines, a function 60 without signature and docstring, a call six parameters; or a reason.
# What a configuration may name has its keys as parameters, so many of them are no fault.
LONG_FILES = {
    "training/trainer.py": "the training as one story, read from top to bottom",
    "benchmarks/_pipelines.py": "the peers beside each other, as their authors would write them",
}
LONG_FUNCTIONS = {"benchmarks/race.py main": "the race, in the order in which it is run"}
MANY_PARAMETERS = {
    "benchmarks/_pipelines.py loop": "a plain training loop, all of it in sight",
    "data/split.py divide": "what a division depends on; all but two are keyword-only",
    "evaluation/inference.py predict_probs": "the one inference; all but two are keyword-only",
    "logbook/rerun.py rerun": "what the command line says, keyword-only",
    "search/command.py search": "what the command line says, keyword-only",
    "models/efficientnet.py __init__": "a block as the paper's table describes it",
    "models/fpn.py __init__": "the levels of a pyramid",
    "models/library.py build_adapted": "what the three libraries' constructors share",
    "models/resnet.py __init__": "a stage as the paper's table describes it",
    "models/transformer.py __init__": "an encoder's layer, as torch's own",
    "models/wrn.py __init__": "a block with what the ablations switch off",
    "runtime/rng.py __init__": "what a batch's draws depend on",
    "runtime/sync.py batch_norm": "the signature of torch's",
    "runtime/sync.py forward": "the signature of torch's",
    "runtime/torch_internals.py _convolution": "the signature of torch's",
}


def keys_of_configurations() -> set[str]:
    """Return the functions whose keyword-only parameters are keys of a recipe or a competition file."""
    from featherweight.augment.table import AUGMENTATIONS
    from featherweight.data.sources import SOURCES
    from featherweight.models import FAMILIES
    from featherweight.training.optimizers import OPTIMIZERS
    from featherweight.training.schedules import SCHEDULES

    tables = (AUGMENTATIONS, SOURCES, FAMILIES.table, OPTIMIZERS, SCHEDULES)
    named = [inspect.unwrap(target) for table in tables for target in table.values()]
    return {f"{made.__module__}.{made.__qualname__}" for made in named if hasattr(made, "__qualname__")}


def functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield every function with its qualified name."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, STATEMENTS):
            continue
        name = f"{inside}{getattr(node, 'name', '')}"
        if isinstance(node, ast.FunctionDef):
            yield name, node
        yield from functions(node, f"{name}." if isinstance(node, ast.ClassDef | ast.FunctionDef) else inside)


def over_the_limits() -> Iterator[tuple[str, dict[str, str], str]]:
    """Return the names that are over a limit, the reasons listed for them, and the limit."""
    files = {str(path.relative_to(SOURCE)): (path, f"{name}.") for name, path in MODULES.items()}
    files |= {f"benchmarks/{path.name}": (path, "") for path in (ROOT / "benchmarks").glob("*.py")}
    chosen = keys_of_configurations()
    for shown, (path, module) in files.items():
        text = path.read_text()
        if text.count("\n") > 300:
            yield shown, LONG_FILES, "300 lines"
        for name, node in functions(tree(path)):
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0].lineno
            if (node.end_lineno or 0) - first >= 60:
                yield f"{shown} {node.name}", LONG_FUNCTIONS, "60 lines"
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len(parameters) - any(one.arg in ("self", "cls") for one in parameters[:1])
            if count > 6 and f"{module}{name}".removesuffix(".__init__") not in chosen:
                yield f"{shown} {node.name}", MANY_PARAMETERS, "six parameters"


def test_what_is_over_a_limit_has_a_reason():
    over = list(over_the_limits())
    wrong = [f"{name} is over {limit}" for name, reasons, limit in over if name not in reasons]
    assert not wrong, "\n".join(wrong)
    used = {(id(reasons), name) for name, reasons, _ in over}
    stale = [
        n for reasons in (LONG_FILES, LONG_FUNCTIONS, MANY_PARAMETERS) for n in reasons if (id(reasons), n) not in used
    ]
    assert not stale, f"no longer over a limit: {', '.join(stale)}"
