"""Pseudo-labels: test images join the training set with another run's classes; which ones, and what is not read."""

import json
import os
import shutil
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import start
from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.data.listing import Listing
from featherweight.errors import UserError
from featherweight.runs import pipeline, teachers
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run
from featherweight.training.trainer import Examples

ALLOWED = "limit.allow_pseudo_labels=true"


def run(name, *changes, competition=(ALLOWED,)):
    recipe = load_recipe("tiny", ["train.epochs=2", "predict.views=[]", *changes])
    told = load_competition("digits", competition)
    made = RunRequest("tiny", recipe, "digits", told, ["x"], "cpu", 1).start(name)
    return made, pipeline.execute(made)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labeller")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_HOME", str(folder))
        run("labeller", "train.epochs=6")
    return folder


@pytest.fixture
def labeller(trained, home):
    shutil.copytree(trained, home, dirs_exist_ok=True)
    return Run.find("labeller")


def test_the_test_images_a_run_is_sure_of_join_the_training_images(labeller, capsys, monkeypatch):
    seen = {}

    def spy(train, holdout, *rest):
        seen.update(train=train, holdout=holdout)
        return Examples(train, holdout, *rest)

    monkeypatch.setattr(pipeline, "Examples", spy)
    made, result = run("taught", "pseudo.run=labeller", "pseudo.confidence=0.5")
    probs = np.load(labeller.folder / "predict_probs.npy")
    test = made.competition.load().predict
    sure = probs.max(1) >= 0.5
    assert 0 < sure.sum() < len(test)
    told = f"{sure.sum()} of 359 images to predict, pseudo-labelled by labeller with a confidence of 0.5"
    assert told in capsys.readouterr().out

    split = json.loads((made.folder / "split.json").read_text())
    joined, own = seen["train"], len(split["train"])
    assert joined.ids == [*split["train"], *np.array(test.ids)[sure]]
    assert joined.labels[own:].tolist() == probs.argmax(1)[sure].tolist()
    np.testing.assert_array_equal(joined.images[own:], test.images[sure])
    assert seen["holdout"].ids == split["holdout"]
    assert not set(joined.ids) & set(split["holdout"])
    assert split == json.loads((labeller.folder / "split.json").read_text())
    assert result.predict is not None


def test_the_hidden_answers_are_not_read_before_the_score(labeller, monkeypatch):
    """With test labels that must not be read the run gives the same bytes."""
    options = ("pseudo.run=labeller", "pseudo.confidence=0.5")
    plain, _ = run("plain", *options)

    def forbidden():
        raise AssertionError("the answers were read")

    digits = type(plain.competition.source).target
    monkeypatch.setattr(
        type(plain.competition.source),
        "target",
        staticmethod(
            lambda root, **keys: Listing(digits(root, **keys).train, digits(root, **keys).predict, answers=forbidden)
        ),
    )
    with pytest.raises(AssertionError, match="the answers were read"):
        run("blind", *options)  # by the scorer, at the end
    blind = Run.find("blind")
    assert (blind.folder / "predict_probs.npy").read_bytes() == (plain.folder / "predict_probs.npy").read_bytes()


@pytest.mark.slow
def test_killed_and_resumed_it_ends_in_the_same_bytes_though_the_labeller_is_gone(labeller, home, capsys):
    (home / "configs" / "competitions").mkdir(parents=True)
    (home / "configs" / "competitions" / "ours.yaml").write_text(
        "extends: digits\nlimit: {allow_pseudo_labels: true}\n"
    )
    words = ["tiny", "--competition", "ours", "--no-report", "--threads", "1", "--set", "train.epochs=5"]
    words += ["--set", "train.checkpoint_seconds=0", "--set", "pseudo={run: labeller, confidence: 0.5}"]
    assert main.main([*words, "--name", "whole"]) == 0
    assert "pseudo-labelled by" in capsys.readouterr().out
    process = start([*words, "--name", "killed"], start_new_session=True)
    while not (home / "runs" / "killed" / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (home / "runs" / "killed" / "weights.safetensors").exists(), "it was not killed in the middle"
    (home / "runs" / "labeller").rename(home / "elsewhere")
    assert main.main(["resume", "killed", "--no-report"]) == 0
    for name in ("weights.safetensors", "predict_probs.npy", "holdout.csv"):
        assert (home / "runs" / "killed" / name).read_bytes() == (home / "runs" / "whole" / name).read_bytes()


def test_what_is_not_allowed_or_makes_no_sense_is_refused(labeller, home, capsys):
    with pytest.raises(UserError, match="pseudo: Digits does not allow training on its images to predict"):
        run("refused", "pseudo.run=labeller", competition=())
    assert not (home / "runs" / "refused").exists()
    assert main.main(["check", "tiny", "--set", "pseudo.run=labeller"]) == 2
    assert "limit.allow_pseudo_labels in the competition's file" in capsys.readouterr().err
    with pytest.raises(
        UserError, match=r"pseudo.run: labeller is confident of no image to predict at 1: its highest is 0\.9"
    ):
        run("too-sure", "pseudo.run=labeller", "pseudo.confidence=1")
    with pytest.raises(UserError, match=r"pseudo.run: labeller was trained on \d+ of the 143 images held out here"):
        run("leaking", "pseudo.run=labeller", "split.seed=5")
    np.save(labeller.folder / "predict_probs.npy", np.load(labeller.folder / "predict_probs.npy")[1:])
    with pytest.raises(UserError, match="has predicted other images than those of digits"):
        run("other", "pseudo.run=labeller")
    (labeller.folder / "predict_probs.npy").unlink()
    with pytest.raises(
        UserError, match=r"labeller has not predicted the competition's images yet: \./run.sh resume labeller"
    ):
        run("early", "pseudo.run=labeller")


@pytest.mark.parametrize("text", ["", "[]", '{"a": 3}', '{"a": "no class"}'])
def test_a_damaged_list_of_pseudo_labels_is_one_message(labeller, text):
    recipe = load_recipe("tiny", ["pseudo.run=labeller"])
    made = RunRequest("tiny", recipe, "digits", load_competition("digits", [ALLOWED]), ["x"], "cpu", 1).start("taught")
    (made.folder / "pseudo.json").write_text(text)
    data = made.competition.load()
    with pytest.raises(UserError, match=r"pseudo.json: .*damaged; delete it, and \./run.sh resume taught"):
        teachers.with_pseudo_labels(made, data.train, data.train, data.predict)


def test_a_run_knows_what_its_teachers_teachers_were_trained_on(monkeypatch):
    def a_run(name, train, distill=None, pseudo=None):
        recipe = SimpleNamespace(distill=distill, pseudo=pseudo)
        return SimpleNamespace(
            name=name, recipe=recipe, members=[], is_divided=True, split=SimpleNamespace(train=train)
        )

    runs = [
        a_run("a", ["1"], pseudo=SimpleNamespace(run="c")),
        a_run("b", ["2"], distill=SimpleNamespace(teachers=["a", "gone", "x.npz"])),
        a_run("c", ["3"], distill=SimpleNamespace(teachers=["b"])),
    ]
    known = {run.name: run for run in runs}
    monkeypatch.setattr(teachers.Run, "exists", lambda name: name in known)
    monkeypatch.setattr(teachers.Run, "find", lambda name: known[name])
    assert teachers._trained_on(runs[1]) == {"1", "2", "3"}
