"""The notebooks: kept as text, run here as they stand, on a small finished run."""

import shutil

import jupyter_client.launcher
import jupytext
import pytest

import forked
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def test_the_notebooks_are_these_and_define_no_logic():
    assert [path.stem for path in NOTEBOOKS] == ["01_look_at_the_data", "02_why_it_errs", "03_on_kaggle"]
    for path in NOTEBOOKS:
        assert not any(line.lstrip().startswith(("def ", "class ")) for line in path.read_text().splitlines()), path


# What each shows: pictures, at least.
PICTURES = {"01_look_at_the_data": 2, "02_why_it_errs": 4, "03_on_kaggle": 0}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_as_it_stands(path, home, tmp_path, monkeypatch, request):
    """By nbmake's own runner, in this process, with kernels that are forked where they can be."""
    nbmake = pytest.importorskip("nbmake.nb_run", reason="nbmake is not installed (pip install nbmake)")
    if path.stem == "02_why_it_errs":
        shutil.copytree(request.getfixturevalue("finished"), home, dirs_exist_ok=True)
    else:
        (home / "configs" / "competitions").mkdir(parents=True)
        (home / "configs" / "competitions" / "ours.yaml").write_text("extends: digits\n")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "src").symlink_to(ROOT / "src")  # a notebook finds the package above itself
    target = tmp_path / "notebooks" / f"{path.stem}.ipynb"
    jupytext.write(jupytext.read(path), target)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))  # which the first two have from run.sh or an installation
    monkeypatch.setenv("COMPETITION", "ours")
    monkeypatch.setenv("SETTINGS", '{"train.epochs": 1}')
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    if forked.ABLE:
        monkeypatch.setattr(jupyter_client.launcher, "Popen", lambda words, **given: forked.Forked(words[1:], **given))
    ran = nbmake.NotebookRun(target, 300).execute()
    assert ran.error is None, ran.error.trace
    outputs = [output for cell in ran.nb.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= PICTURES[path.stem]
    if path.stem == "03_on_kaggle":
        assert (home / "submission.csv").read_text().startswith("Id,Category\n")
