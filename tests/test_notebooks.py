"""The notebooks: kept as text, run here as they stand, on a small finished run."""

import os
import shutil
import subprocess
import sys

import jupytext
import pytest

from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def test_the_notebooks_are_these_and_define_no_logic():
    assert [path.stem for path in NOTEBOOKS] == ["01_look_at_the_data", "02_why_it_errs", "03_on_kaggle"]
    for path in NOTEBOOKS:
        assert not any(line.lstrip().startswith(("def ", "class ")) for line in path.read_text().splitlines()), path


@pytest.fixture
def workspace(finished, home):
    shutil.copytree(finished, home, dirs_exist_ok=True)
    return home


def test_every_notebook_runs(workspace, tmp_path):
    pytest.importorskip("nbmake", reason="nbmake is not installed (pip install nbmake)")
    made = []
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "src").symlink_to(ROOT / "src")  # a notebook finds the package above itself
    for path in NOTEBOOKS:
        target = tmp_path / "notebooks" / f"{path.stem}.ipynb"
        jupytext.write(jupytext.read(path), target)
        made.append(str(target))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),  # which the first two have from run.sh or an installation
        "COMPETITION": "ours",
        "SETTINGS": "train.epochs=1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    command = [sys.executable, "-m", "pytest", "--nbmake", "--overwrite", "-n", "0", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", "-c", os.devnull, *made],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, second, third = (jupytext.read(path) for path in made)
    outputs = [[out for cell in book.cells for out in cell.get("outputs", [])] for book in (first, second, third)]
    pictures = [sum("image/png" in out.get("data", {}) for out in outs) for outs in outputs]
    assert pictures[0] == 2
    assert pictures[1] >= 4
    assert (workspace / "submission.csv").read_text().startswith("Id,Category\n")
