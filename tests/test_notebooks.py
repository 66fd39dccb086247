"""The notebooks, kept as text: each runs here unchanged on a small finished run."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import jupyter_client.launcher
import jupytext
import numpy as np
import pytest

import forked
from conftest import ROOT
from featherweight import config
from featherweight.data.pack import Data, Pack
from featherweight.data.photos import Crop, Photos
from featherweight.report import figures

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def test_the_notebooks_are_these_and_define_no_logic():
    assert [path.stem for path in NOTEBOOKS] == ["01_look_at_the_data", "02_why_it_errs", "03_on_kaggle"]
    for path in NOTEBOOKS:
        assert not any(line.lstrip().startswith(("def ", "class ")) for line in path.read_text().splitlines()), path


# What each shows: pictures, at least.
PICTURES = {"01_look_at_the_data": 2, "02_why_it_errs": 4, "03_on_kaggle": 0}


@pytest.mark.some(5)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_as_it_stands(path, home, tmp_path, monkeypatch, request):
    """With nbmake's own runner, in this process, with forked kernels where possible."""
    nbmake = pytest.importorskip("nbmake.nb_run", reason="nbmake is not installed (pip install nbmake)")
    if path.stem == "02_why_it_errs":
        shutil.copytree(request.getfixturevalue("finished"), home, dirs_exist_ok=True)
    else:
        (home / "configs" / "competitions").mkdir(parents=True)
        (home / "configs" / "competitions" / "ours.yaml").write_text("extends: digits\n")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "src").symlink_to(ROOT / "src")  # a notebook finds the package above itself
    target = tmp_path / "notebooks" / f"{path.stem}.ipynb"
    text = path.read_text().replace('COMPETITION = "tiny", "digits"', 'COMPETITION = "tiny", "ours"')
    jupytext.write(
        jupytext.reads(text.replace("SETTINGS = {}", 'SETTINGS = {"train.epochs": 1}'), "py:percent"), target
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))  # which the first two have from run.sh or an installation
    monkeypatch.setenv("COMPETITION", "ours")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    if forked.ABLE:
        monkeypatch.setattr(jupyter_client.launcher, "Popen", lambda words, **given: forked.Forked(words[1:], **given))
    ran = nbmake.NotebookRun(target, 300).execute()
    assert ran.error is None, ran.error.trace
    outputs = [output for cell in ran.nb.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= PICTURES[path.stem]
    if path.stem == "03_on_kaggle":
        assert (home / "submission.csv").read_text().startswith("Id,Category\n")


def cells(path):
    """Return the code cells of a notebook."""
    return [
        cell.source.replace("%matplotlib inline", "") for cell in jupytext.read(path).cells if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("kind", ["photographs", "several"])
def test_data_of_every_kind_are_looked_at(kind, monkeypatch):
    """Stored photographs, which are not an array, and multi-label images."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    rows = np.array([[0, place * 192, 8, 8] for place in range(6)])
    images = Photos([pixels.reshape(-1)], rows, 3, Crop(4, 1.0, "bilinear")) if kind == "photographs" else pixels
    labels = np.array([0, 1, 1, 0, 1, 1]) if kind == "photographs" else np.array([[1, 1], [0, 1]] * 3, np.uint8)
    data = Data(Pack(list("abcdef"), images, labels), None)
    competition = SimpleNamespace(
        title="x", classes=["cat", "dog"], metric=SimpleNamespace(name="accuracy"), load=lambda: data
    )
    monkeypatch.setattr(config, "load_competition", lambda name: competition)
    shown = {}
    monkeypatch.setattr(figures, "bars", lambda counts: shown.update(counts))
    *above, last = cells(NOTEBOOKS[0])
    inside = {}
    for source in above:
        exec(source, inside)
    assert shown == ({"dog": 4, "cat": 2} if kind == "photographs" else {"dog": 6, "cat": 3})
    exec(last, inside)
    assert inside["channels"].shape[1] == 3


def test_on_kaggle_the_trial_is_refused_and_what_is_written_in_the_first_cell_counts(tmp_path, monkeypatch):
    settings, setup, *_ = cells(NOTEBOOKS[2])
    inside = {}
    exec(settings, inside)
    assert (inside["RECIPE"], inside["COMPETITION"], inside["SETTINGS"]) == ("tiny", "digits", {})
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    with pytest.raises(AssertionError, match="name your competition in the first cell"):
        exec(setup, inside)
    assert "environ.get(" not in "".join(cells(NOTEBOOKS[2]))
