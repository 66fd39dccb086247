"""`import featherweight as fw`: fast, typed, every line of docs/python.md runs; and the installed command."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featherweight as fw
from conftest import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text()
EXAMPLE = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]


def test_importing_it_imports_nothing_heavy():
    program = "import sys, featherweight; print(sorted({'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert done.stdout == "[]\n"


def test_every_name_is_there_and_in_the_table_of_the_page():
    rows = set(re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE))
    functions = {name for name in fw.__all__ if name[0].islower()}
    assert rows == functions
    for name in fw.__all__:
        assert getattr(fw, name).__doc__, name
    assert set(fw.__all__) <= set(dir(fw))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        fw.trian  # noqa: B018


@pytest.mark.usefixtures("few_digits")
def test_the_pages_example_runs(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(name)
    sent = []
    monkeypatch.setattr("featherweight.kaggle.submit_and_score.submit", lambda what, **options: sent.append(what))
    space: dict = {}
    exec(EXAMPLE, space)
    out = capsys.readouterr().out
    assert "2,748,602 of 5,000,000 parameters" in out
    assert f"{space['run'].result.holdout}\n" in out
    assert space["answer"].probs.shape == (2, 10)
    assert space["table"]["run"].tolist()[0] in ("first", "second")
    assert sent == [str(home / "runs" / "ensemble-digits-s1")]  # not a run of that name elsewhere
    assert fw.list_runs("digits", "seed=1")["run"].tolist().count("first") == 1
    assert (
        space["run"].metadata.command
        == "./run.sh tiny --competition digits --set=train.epochs=2 --set=seed=1 --name=first"
    )
    assert fw.resume("first").result == space["run"].result
    assert fw.predict("first", ".").ids[:2] == ["a.png", "b.png"]
    assert fw.write_report("first").is_file()


def test_mistakes_are_user_errors(home):
    with pytest.raises(fw.UserError, match=r"optimizer__lrr=1: optimizer\.lrr: unknown key 'lrr'; did you mean 'lr'"):
        fw.train("tiny", optimizer__lrr=1)
    with pytest.raises(fw.UserError, match="there is no run called 'gone'"):
        fw.load("gone")
    with pytest.raises(fw.OverBudget):
        fw.weigh("resnet50", "digits").refuse_if_over()


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Make a folder with what `pip install .` installs, without the dependencies."""
    pytest.importorskip("setuptools")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("src", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--no-build-isolation",
        "--target",
    ]
    done = subprocess.run([*pip, str(target), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.slow
def test_the_installed_command_works_in_any_folder(installed, tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FEATHERWEIGHT")}
    environment |= {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(installed / "bin" / "featherweight"), *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = run("tiny", "--set", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    assert "next: featherweight runs" in done.stdout
    assert (tmp_path / "runs" / "tiny-digits-s0" / "report" / "report.html").is_file()
    done = run("tinny")
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no recipe or command called 'tinny'; did you mean 'tiny'?")
    assert "./run.sh" not in run("--help").stdout
