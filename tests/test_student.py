"""One model distilled from several runs: which teacher predicts which image, and what is held out."""

import shutil

import pytest

from featherweight.cli.main import main
from featherweight.errors import UserError
from featherweight.runs.run import Run
from featherweight.runs.student import student

FAST = ["--set", "train.epochs=1", "--threads", "1", "--no-report"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Make a workspace with two folds that did not train on a common test part."""
    folder = tmp_path_factory.mktemp("folds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_HOME", str(folder))
        assert main(["tiny", "--folds", "2", "--set", "split.test=0.2", *FAST, "--name", "k"]) == 0
    return folder


@pytest.fixture
def folds(trained, home):
    shutil.copytree(trained, home, dirs_exist_ok=True)
    return ["k-f0", "k-f1"]


def test_folds_teach_each_image_by_the_one_that_did_not_train_on_it(folds, capsys):
    assert main(["student", *folds, "--name", "pupil", "--set", "train.epochs=3", "--no-report"]) == 0
    assert "taught by 2 folds, each image by the one that held it out: k-f0, k-f1" in capsys.readouterr().out
    pupil, teachers = Run.find("pupil"), [Run.find(name) for name in folds]
    assert pupil.split.holdout == teachers[0].split.test  # what no teacher has seen
    assert sorted(pupil.split.train) == sorted(id for teacher in teachers for id in teacher.split.holdout)
    assert pupil.result.parameters == teachers[0].result.parameters  # teachers do not count


def test_folds_are_known_by_their_folders_too(folds, home, capsys):
    named = [str(home / "runs" / name) for name in folds]
    assert main(["student", *named, "--name", "pupil", "--set", "train.epochs=1", "--no-report"]) == 0
    assert "taught by 2 folds" in capsys.readouterr().out
    assert Run.find("pupil").recipe.distill.teachers == folds


@pytest.mark.slow
def test_what_folds_teach_is_felt_and_repeats(folds):
    hashes = []
    for name, weight in (("one", "0.9"), ("two", "0.9"), ("three", "0.1")):
        assert main(["student", *folds, "--name", name, "--set", f"distill.weight={weight}", "--no-report"]) == 0
        hashes.append(Run.find(name).weights.read_bytes())
    assert hashes[0] == hashes[1] != hashes[2]


def test_folds_that_leave_no_image_unseen_are_refused(home, capsys):
    assert main(["tiny", "--folds", "2", *FAST, "--set", "train.epochs=1", "--name", "k"]) == 0
    assert main(["student", "k-f0", "k-f1"]) == 2
    assert "hold out a test part when you train them: --set split.test=0.1" in capsys.readouterr().err


def test_a_missing_fold_is_named(folds):
    with pytest.raises(UserError, match="name at least two runs"):
        student(folds[:1], None, [], None, ["./run.sh"])


def test_runs_of_one_split_teach_what_the_student_sees(home, capsys):
    assert main(["tiny", "--seeds", "0-1", *FAST, "--name", "s"]) == 0
    assert main(["student", "s-s0", "s-s1", "--recipe", "tiny", "--set", "train.epochs=2", "--no-report"]) == 0
    assert "taught by s-s0: 20,506 parameters, which do not ship and do not count" in capsys.readouterr().out
    assert Run.find("tiny-digits-s0").split == Run.find("s-s0").split
