"""A run's folder: its properties, damaged files, and folders of other versions."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featherweight.cli import main
from featherweight.config import load_competition, load_recipe, store
from featherweight.data import pack
from featherweight.data.pack import Pack
from featherweight.errors import UserError
from featherweight.runs import ledger, pipeline, selection, stored_probs, without_labels
from featherweight.runs.ensemble import ensemble
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run

FAST = ["train.epochs=1", "train.batch_size=256", "model.width=0.25", "split.test=0.2"]


def trained(name: str, *settings: str, competition: str = "digits") -> Run:
    recipe = load_recipe("tiny", [*FAST, *settings])
    task = RunRequest("tiny", recipe, competition, load_competition(competition), ["./run.sh", "tiny"], "cpu", 1)
    run = task.start(name)
    pipeline.execute(run)
    return run


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_HOME", str(folder))
        trained("one")
        trained("two", "seed=1")
        trained("large", "seed=1", "image.size=16")
    return folder


@pytest.fixture
def runs(workspace, home) -> Path:
    shutil.copytree(workspace, home, dirs_exist_ok=True)
    return home / "runs"


def test_a_run_hands_out_what_lies_in_its_folder(runs):
    run = Run.find("one")
    ids = [run.split.train, run.split.holdout, run.split.test]
    assert len({id for part in ids for id in part}) == sum(map(len, ids)) == 1438
    for part, count in (("holdout", len(ids[1])), ("test", len(ids[2])), ("predict", 359)):
        assert run.probs(part).shape == (count, 10)
        assert len(run.csv(part).read_text().splitlines()) == count + 1
    assert (run.epochs, len(run.history)) == (1, 1)
    result = run.result
    assert result.unbiased == result.predict
    assert result.test is not None
    assert result.test.count == len(ids[2])
    row = ledger.read().set_index("run").loc["one"]
    assert (row["test"], row["predict"]) == pytest.approx((result.test.value, result.predict.value), abs=1e-6)
    assert (row["test_images"], row["predict_images"]) == (len(ids[2]), 359)


def test_what_is_not_there_yet_says_how_to_get_it(runs):
    for file in ("result.json", "split.json", "history.csv", "holdout_probs.npy"):
        (runs / "one" / file).unlink()
    run = Run.find("one")
    for ask in (lambda: run.result, lambda: run.split, lambda: run.history, lambda: run.probs("holdout")):
        with pytest.raises(UserError, match=r"one .*: \./run.sh resume one"):
            ask()
    assert run.epochs is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        *((text, "damaged") for text in ("", "{", "[]", '{"recipe": 1, "competition": "digits", "format": 3}')),
        ('{"format": 99}', r"another version .* \(format 99, not 3, at commit unknown\)"),
        ('{"commit": "abc"}', r"another version .* \(format 1, not 3, at commit abc\)"),
    ],
)
def test_a_run_json_that_is_damaged_or_of_another_version_is_one_message(runs, text, fault):
    (runs / "one" / "run.json").write_text(text)
    with pytest.raises(UserError, match=rf"run\.json: .*{fault}"):
        Run.find("one")


def test_runs_at_different_image_sizes_are_compared_and_combined(runs, capsys):
    large = Run.find("large")
    assert large.competition.image.size == 16
    assert load_competition("digits").image.size == 8
    assert "size: 8" in (large.folder / "competition.yaml").read_text()
    assert main.main(["compare", "one", "large"]) == 0
    assert main.main(["ensemble", "two", "large", "--name", "both"]) == 0
    both = Run.find("both")
    mean = (Run.find("two").probs("predict").astype(float) + large.probs("predict")) / 2
    np.testing.assert_allclose(both.probs("predict"), mean, atol=1e-6)
    assert main.main(["soup", "two", "large"]) == 2
    assert "images of different sizes" in capsys.readouterr().err
    capsys.readouterr()
    assert main.main(["resume", "large", "--no-report"]) == 0
    assert capsys.readouterr().out.startswith("large is finished already: nothing is trained")


@pytest.fixture
def other_images(monkeypatch):
    """Replace the images to predict: as many, some with the same names, but with other pixels."""
    load = pack.load

    def changed(*arguments):
        data = load(*arguments)
        place = np.arange(len(data.predict))[::-1]
        ids = [*data.predict.ids[:-1], "new"]
        return replace(data, predict=Pack(ids, np.ascontiguousarray(data.predict.images[place])))

    monkeypatch.setattr(pack, "load", changed)
    monkeypatch.setattr(pack, "answers", lambda source: None)


def test_other_images_to_predict_are_answered_anew_and_never_by_the_answers_of_the_old(runs, other_images, capsys):
    before, weights = np.load(runs / "one" / "predict_probs.npy"), (runs / "one" / "weights.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"one has predicted other images than those to predict today: .*resume one"):
        ensemble(["one", "two"], fit=False, name="both", command=["x"])
    assert not (runs / "both").exists()
    assert main.main(["resume", "one", "--no-report"]) == 0
    assert "predict: these are other images than one has predicted" in capsys.readouterr().out
    np.testing.assert_allclose(np.load(runs / "one" / "predict_probs.npy"), before[::-1], atol=1e-5)
    assert (runs / "one" / "weights.safetensors").read_bytes() == weights
    csv = Run.find("one").csv()
    assert csv.read_text().splitlines()[-1].startswith("new,")
    rows = ledger.read()
    assert rows["run"].tolist().count("one") == 1
    assert rows.set_index("run").loc["one", "csv_sha256"] == ledger.sha256(csv)
    assert (runs / "one" / "result.json").is_file()


def test_images_replaced_under_their_names_are_other_images(runs, monkeypatch, capsys):
    load, note = pack.load, runs / "one" / "predict_ids.sha256"

    def of_files(*arguments):  # those of scikit-learn are in memory, and have no files
        data = load(*arguments)
        return replace(data, predict=replace(data.predict, content="today"))

    monkeypatch.setattr(pack, "load", of_files)
    monkeypatch.setattr(pack, "answers", lambda source: None)
    Run.find("one").probs("predict", load_competition("digits").load().predict.ids, "today")  # of an older run: unknown
    note.write_text(f"{note.read_text()}before\n")
    with pytest.raises(UserError, match="one has predicted other images than those to predict today"):
        ensemble(["one", "two"], fit=False, name="both", command=["x"])
    assert main.main(["resume", "one", "--no-report"]) == 0
    assert "predict: these are other images than one has predicted" in capsys.readouterr().out
    assert note.read_text().splitlines()[1] == "today"


def test_answers_are_computed_again_if_nothing_says_of_which_images_they_are(runs):
    note, probs = runs / "one" / "predict_ids.sha256", np.load(runs / "one" / "predict_probs.npy")
    said = note.read_text()
    note.unlink()
    np.save(runs / "one" / "predict_probs.npy", probs[::-1])
    ids = Run.find("one").competition.load().predict.ids
    assert stored_probs.read(Run.find("one"), "predict", ids) is None
    pipeline.execute(Run.find("one"))
    assert note.read_text() == said
    np.testing.assert_array_equal(np.load(runs / "one" / "predict_probs.npy"), probs)


def test_a_refused_run_is_deleted_by_the_command_that_made_it_alone(home):
    recipe = load_recipe("tiny", [*FAST, "distill.teachers=[nobody]"])
    task = RunRequest("tiny", recipe, "digits", load_competition("digits"), ["x"], "cpu", 1)
    task.start("begun")
    with pytest.raises(UserError, match="nobody"):
        pipeline.execute(Run.find("begun"))  # resumed: killed early, it has no checkpoint yet
    assert (home / "runs" / "begun" / "split.json").is_file()
    with pytest.raises(UserError, match="nobody"):
        pipeline.execute(task.start("refused"))
    assert not (home / "runs" / "refused").exists()


def test_a_checkpoint_that_a_kill_left_beside_the_weights_is_deleted(runs):
    """The run was killed after the weights were written and before the checkpoint was deleted."""
    (runs / "one" / "checkpoint.pt").write_bytes(b"of the last epoch")
    pipeline.execute(Run.find("one"))
    assert not (runs / "one" / "checkpoint.pt").exists()


def test_a_run_of_other_classes_is_no_rival(runs):
    """The competition's file was changed since: the classes are in another order."""
    competition = Run.find("two").competition
    backwards = competition.model_copy(update={"classes": competition.classes[::-1]})
    store(backwards, runs / "two" / "competition.yaml")
    assert [run.name for run in selection.on_the_same_images(Run.find("one"))] == ["one", "large"]


def test_scoring_a_run_deletes_no_file_of_another(runs):
    damaged = runs / "two" / "holdout_probs.npy"
    damaged.write_bytes(b"")
    assert [run.name for run in selection.on_the_same_images(Run.find("one"))] == ["one", "large"]
    assert damaged.exists()
    with pytest.raises(UserError, match=r"compute them again: \./run.sh resume two"):
        stored_probs.read(Run.find("two"), "holdout")
    pipeline.execute(Run.find("two"))
    assert stored_probs.read(Run.find("two"), "holdout") is not None


def test_another_seed_that_answered_other_images_says_nothing_of_these(runs):
    one, two = Run.find("one"), Run.find("two")
    test = one.probs("predict")
    assert list(without_labels._by_agreement(one, 0.9, test)) == ["agreement with two"]
    for note in (b"of other images, as many\n", b"\xff"):
        (two.folder / "predict_ids.sha256").write_bytes(note)
        assert without_labels._by_agreement(one, 0.9, test) == {}
