"""Shared fixtures: an empty workspace, the real command line in a second process, and small real images."""

from __future__ import annotations

import dataclasses
import functools
import gc
import importlib
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import forked
from featherweight.kaggle import client as kaggle_client
from kaggle_server import TOKEN, FakeKaggle

# No deadline: pauses of a busy machine are no failures.
settings.register_profile("some", deadline=None, max_examples=25)
settings.register_profile("all", deadline=None, max_examples=100)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two pytest workers on two cores

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: children would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)

forked.wait_for_no_disk()

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"

LONGEST = [f"test_{name}.py" for name in ("processes", "targets", "end_to_end", "search", "kernel", "house")]

Command = Callable[..., subprocess.CompletedProcess[str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--all`, which also runs the slow tests and all cases."""
    parser.addoption(
        "--all", action="store_true", help="also slow tests, and every case of tests that run some of theirs"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Before any test is imported, say how many examples of a property are drawn: with `--all` four times as many."""
    settings.load_profile("all" if config.option.all else "some")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files with the longest tests first, so that at the end no worker is busy alone with one of them.

    Without `--all`, skip slow tests, and of a test marked `some(n)` run the first case and about one in `n` of the
    others, chosen by a hash of their names: every n-th would leave out the same values of one parameter. Tests named
    on the command line always run.
    """
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if config.option.all or any("::" in word for word in config.args):
        return
    seen: set[tuple[Path, str]] = set()
    left: list[pytest.Item] = []
    for item in items:
        some = item.get_closest_marker("some")
        test = (item.path, getattr(item, "originalname", item.name))
        skipped = some and test in seen and zlib.crc32(item.name.encode()) % some.args[0]
        if item.get_closest_marker("slow") or skipped:
            left.append(item)
        seen.add(test)
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in set(left)]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import everything without looking for garbage, and take it out of every later search, which would last long."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty workspace; the configurations of the checkout are still found."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(folder))
    for name in ("FEATHERWEIGHT_DATA", "FEATHERWEIGHT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def root(home: Path) -> Path:
    """An empty folder in the workspace's data, to lay out as a competition's download."""
    folder = home / "data" / "x"
    folder.mkdir(parents=True)
    return folder


def start(arguments: Sequence[str], fresh: bool = False, **options: object) -> subprocess.Popen[str]:
    """Start `./run.sh ARGUMENTS` as a process, with the Python environment of the tests.

    The process is forked from one that has imported everything; `fresh` starts it through run.sh, as a user does.
    """
    environment = {**os.environ, "FEATHERWEIGHT_PYTHON": sys.executable}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    if fresh or not forked.ABLE:
        return subprocess.Popen(["bash", str(ROOT / "run.sh"), *arguments], env=environment, **pipes)  # type: ignore
    words = ["-m", "featherweight", *arguments]
    return forked.Forked(words, env={**environment, "PYTHONPATH": forked.SOURCE}, **pipes)  # type: ignore


@pytest.fixture
def command(home: Path) -> Command:
    """Return a function that runs the real command line to its end."""

    def run(*arguments: str, fresh: bool = False) -> subprocess.CompletedProcess[str]:
        process = start(arguments, fresh)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a workspace with one finished run, `first`, for a Kaggle competition; it is made once, and tests copy it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "configs" / "competitions").mkdir(parents=True)
    (folder / "configs" / "competitions" / "ours.yaml").write_text("extends: digits\nkaggle: tiny-weights\n")
    words = ["tiny", "--competition", "ours", "--set", "train.epochs=2", "--name", "first", "--no-report"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_HOME", str(folder))
        process = start(words)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return folder


WEIGHED: dict[str, Any] = {}  # by network: recipes that differ in their training weigh the same


def weighed(recipe: str) -> Any:
    """Return the budget check of a recipe for 10 classes of 3x32x32 images; each network is weighed once."""
    from featherweight import budget
    from featherweight.config import load_competition, load_recipe

    loaded = load_recipe(recipe)
    network = f"{loaded.model.model_dump_json()} {loaded.image} {loaded.pseudo}"
    if network not in WEIGHED:
        WEIGHED[network] = budget.weigh(loaded, load_competition("cifar10"), recipe)
    return dataclasses.replace(WEIGHED[network], name=recipe)


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use only the first 400 digits, 320 of them for training: for tests that run many commands in this process."""
    source = importlib.import_module("featherweight.data.sources.digits")
    whole = source._digits
    monkeypatch.setattr(source, "_digits", lambda seed: tuple(part[:400] for part in whole(seed)))


@pytest.fixture
def measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache the strides of a library's network by its name, so that building it again does not measure them again."""
    from featherweight.models import library

    build_at_size, spared, known = library.build_at_size, library._spared_strides, {}

    def note(where: Any, *given: Any) -> Any:
        known[where] = spared(*given)
        return known[where]

    def once(make: Any, *where: Any) -> Any:
        if where not in known:
            known[where] = {}
            monkeypatch.setattr(library, "_spared_strides", functools.partial(note, where))
            return build_at_size(make, *where)
        model = make()
        library._set_strides(model, known[where])
        return model

    monkeypatch.setattr(library, "build_at_size", once)


@pytest.fixture
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home folder and an environment without Kaggle credentials; return the folder."""
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name.lower() in ("no_proxy", "verbose")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "person"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def fake_kaggle(no_credentials: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKaggle]:
    """Start the simulated Kaggle, point the client package at it, and set a token that it accepts."""
    fake = FakeKaggle()
    for name, value in {**fake.environment, "KAGGLE_API_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, fake.environment[name.upper()])
    monkeypatch.setattr(kaggle_client, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(kaggle_client, "LISTING_PAUSES", (0.0, 0.01))
    monkeypatch.setattr(kaggle_client, "ANSWER_SECONDS", 1.0)
    yield fake
    fake.shutdown()
    fake.server_close()


@pytest.fixture
def shared() -> Path:
    """Return the folder with real development data; skip the test if this machine does not have it."""
    if not SHARED.is_dir():
        pytest.skip("the development data are not on this machine")
    return SHARED
