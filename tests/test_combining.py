import json
import os
import shutil
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from sklearn.metrics import log_loss

from conftest import start
from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.data.pack import Pack
from featherweight.errors import OverBudget, UserError
from featherweight.evaluation.bootstrap import halves
from featherweight.evaluation.calibration import temper, temper_cross_fitted
from featherweight.evaluation.metrics import METRICS
from featherweight.export.exportable import ExportSource
from featherweight.kaggle import entry
from featherweight.report import tensorboard, write
from featherweight.runs import bundle, ensemble, ledger, members, pipeline, predictions, series, soup, stored_probs
from featherweight.runs.comparison import true_classes
from featherweight.runs.ensemble import fit_weights
from featherweight.runs.expected_score import Expected
from featherweight.runs.paired_tests import HoldoutPredictions
from featherweight.runs.predictor import Predictor
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run
from featherweight.runs.soup import mean

SETTINGS = ["train.epochs=1", "predict.views=[]", "split.holdout=0.3", "optimizer.lr=0.05"]


def make(name, *changes):
    """Make a real run of one epoch with 20,506 parameters, under a limit for two such runs but not three."""
    competition = load_competition("digits", ["limit.parameters=50_000"])
    run = RunRequest("tiny", load_recipe("tiny", [*SETTINGS, *changes]), "digits", competition, ["x"], "cpu", 1).start(
        name
    )
    pipeline.execute(run)
    return run


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Make a workspace with three runs, once."""
    folder = tmp_path_factory.mktemp("three")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_HOME", str(folder))
        for seed, name in enumerate("abc"):
            make(name, f"seed={seed}")
    return folder


@pytest.fixture
def finished(three, home):
    """Copy the three runs to a workspace of the test."""
    shutil.copytree(three, home, dirs_exist_ok=True)
    return [Run.find(name) for name in "abc"]


def test_a_mean_is_over_every_tensor_and_counts_are_the_firsts():
    states = [
        {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(7)},
        {"w": torch.tensor([3.0, 6.0]), "n": torch.tensor(9)},
    ]
    averaged = mean(states)
    assert torch.equal(averaged["w"], torch.tensor([2.0, 4.0]))
    assert averaged["w"].dtype == torch.float32
    assert averaged["n"] == 7


def test_an_ensemble_weighs_its_members_and_averages_their_answers(finished):
    a, b, _ = finished
    made, result = ensemble.ensemble(["a", "b"], fit=False, name="both", command=["./run.sh", "ensemble"])
    single = json.loads((a.folder / "result.json").read_text())["parameters"]
    assert result.parameters == 2 * single
    for part in ("holdout", "predict"):
        one, other = (np.load(run.folder / f"{part}_probs.npy") for run in (a, b))
        np.testing.assert_allclose(np.load(made.folder / f"{part}_probs.npy"), (one + other) / 2, atol=1e-6)
    row = ledger.read().set_index("run").loc["both"]
    assert row["recipe"] == "ensemble"
    assert row["parameters"] == 2 * single
    assert row["macs"] == 2 * ledger.read().set_index("run").loc["a"]["macs"]
    assert result.holdout.value > 0.2
    assert result.predict is not None
    assert made.csv().exists()
    assert sum(t.numel() for name, t in load_file(made.weights).items() if name.startswith("1.")) > single
    assert Run.find("both").weigh().counted == 2 * single
    with pytest.raises(UserError, match="both is an ensemble, which is made in one step"):
        pipeline.execute(Run.find("both"))
    with pytest.raises(UserError, match="both is an ensemble already; name its members: a, b"):
        ensemble.ensemble(["both", "c"], fit=False, name="more", command=["x"])


def test_an_ensemble_is_of_calibrated_answers_and_scores_what_was_kept_for_the_end(home):
    runs = [make(f"s{seed}", "predict.calibrate=true", "split.test=0.1", f"seed={seed}") for seed in (0, 1)]
    made, result = ensemble.ensemble(["s0", "s1"], fit=False, name="both", command=["x"])
    raw = [np.load(run.folder / "predict_probs.npy") for run in runs]
    temperatures = [float(run.temperature.read_text()) for run in runs]
    assert all(abs(temperature - 1) > 0.01 for temperature in temperatures)
    tempered = [temper(probs, temperature) for probs, temperature in zip(raw, temperatures, strict=True)]
    np.testing.assert_allclose(np.load(made.folder / "predict_probs.npy"), sum(tempered) / 2, atol=1e-6)
    split = json.loads((made.folder / "split.json").read_text())
    assert split["test"] == runs[0].split.test
    assert len((made.folder / "test.csv").read_text().splitlines()) == len(split["test"]) + 1
    assert result.predict is not None


def test_an_ensemble_has_a_test_part_if_its_members_have_the_same():
    one, same, other = (SimpleNamespace(split=SimpleNamespace(test=ids)) for ids in (["x"], ["x"], ["y"]))
    assert ensemble._shared_test([one, same]) == ["x"]
    assert ensemble._shared_test([one, other]) == ensemble._shared_test([other, one]) == []


def test_an_ensemble_over_the_limit_is_refused_before_anything_is_made(finished, home):
    with pytest.raises(OverBudget, match=r"three has 6\d,\d{3} parameters, 1\d,\d{3} over the limit of 50,000"):
        ensemble.ensemble(["a", "b", "c"], fit=False, name="three", command=["x"])
    assert not (home / "runs" / "three").exists()


def test_a_soup_is_one_model_with_the_mean_weights_and_statistics_of_its_own(finished):
    a, b, _ = finished
    made = soup.soup(["a", "b"], greedy=False, name="mixed", command=["./run.sh", "soup"])
    weights, *parts = (load_file(run.weights) for run in (made, a, b))
    for name in weights:
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(weights[name], (parts[0][name] + parts[1][name]) / 2)
    assert not torch.allclose(
        weights["net.norm.running_mean"], (parts[0]["net.norm.running_mean"] + parts[1]["net.norm.running_mean"]) / 2
    )
    result = pipeline.execute(made)
    assert result.parameters == json.loads((a.folder / "result.json").read_text())["parameters"]
    assert ledger.read().set_index("run").loc["mixed"]["recipe"] == "soup"
    assert result.minutes == pytest.approx(sum(run.minutes for run in (a, b)))


@pytest.fixture
def folds(home):
    """Return a function that makes a run of one epoch per fold (two folds), with or without a test fifth."""

    def make_folds(*changes, folds=(0, 1)):
        return [make(f"f{fold}{len(changes)}", "split.folds=2", f"split.fold={fold}", *changes) for fold in folds]

    return make_folds


def test_a_soup_of_frozen_norms_keeps_their_statistics(home):
    """Recomputed, they turned a soup of two fine-tuned networks of 99 % into one of 74 %."""
    for name, seed in (("a", 0), ("b", 1)):
        make(name, "train.freeze_norms=true", f"seed={seed}")
    made = load_file(soup.soup(["a", "b"], greedy=False, name="mixed", command=["x"]).weights)
    parts = [load_file(Run.find(name).weights) for name in ("a", "b")]
    statistics = [name for name in made if "running" in name]
    assert statistics
    for name in statistics:
        assert torch.equal(made[name], parts[0][name])
    assert not all(torch.equal(made[name], parts[0][name]) for name in made)
    make("c", "seed=2")  # its norms were trained
    mixed = load_file(soup.soup(["a", "c"], greedy=False, name="other", command=["x"]).weights)
    of_means = soup.mean([parts[0], load_file(Run.find("c").weights)])
    assert not any(torch.allclose(mixed[name], of_means[name]) for name in statistics)


def test_a_soup_of_folds_holds_out_what_they_kept_for_the_end(folds):
    runs = folds("split.test=0.2")
    made = soup.soup([run.name for run in runs], greedy=False, name="mixed", command=["x"])
    result = pipeline.execute(made)
    of_folds = [json.loads((run.folder / "split.json").read_text()) for run in runs]
    split = json.loads((made.folder / "split.json").read_text())
    assert split["holdout"] == of_folds[0]["test"] == of_folds[1]["test"]
    assert sorted(split["train"]) == sorted(of_folds[0]["train"] + of_folds[0]["holdout"])
    assert result.holdout.count == len(split["holdout"])
    assert result.predict is not None
    assert made.csv().exists()
    weights, *parts = (load_file(run.weights) for run in (made, *runs))
    torch.testing.assert_close(
        weights["net.head.weight"], (parts[0]["net.head.weight"] + parts[1]["net.head.weight"]) / 2
    )
    assert "Held out: 20% of each class" in write.write(made).read_text()


def test_a_soup_of_folds_that_nothing_could_score_is_refused(folds):
    one, other = (run.name for run in folds())
    with pytest.raises(UserError, match=rf"{one}, {other} are folds: .*--set split.test=0.1"):
        soup.soup([one, other], greedy=False, name=None, command=["x"])
    with pytest.raises(UserError, match="a greedy soup is picked by the holdout, and folds share none"):
        soup.soup([one, other], greedy=True, name=None, command=["x"])
    (third,) = (run.name for run in folds("split.test=0.2", folds=[1]))
    with pytest.raises(UserError, match=f"{third} and {one} are not folds of one division"):
        soup.soup([one, third], greedy=False, name=None, command=["x"])


def test_a_soup_is_not_scored_by_images_that_a_part_of_it_was_trained_on(finished):
    b = finished[1]
    split = json.loads((b.folder / "split.json").read_text())
    split["train"].append(split["holdout"][0])
    (b.folder / "split.json").write_text(json.dumps(split))
    with pytest.raises(UserError, match="the images are not those that b was trained on"):
        soup.soup(["a", "b"], greedy=False, name=None, command=["x"])


def test_runs_from_before_and_after_a_competition_was_named_go_together(finished):
    a, b, _ = finished
    stored = b.folder / "competition.yaml"
    stored.write_text(
        stored.read_text().replace("kaggle: null", "kaggle: some-digits").replace("Digits", "Some digits")
    )
    assert Run.find("b").competition != a.competition
    _, result = ensemble.ensemble(["a", "b"], fit=False, name=None, command=["x"])
    assert result.holdout.count > 0
    assert ledger.read()["run"].tolist()[-1] == "ensemble-digits-s0"


def test_what_was_not_trained_shows_no_history_as_its_own(finished):
    made = soup.soup(["a", "b"], greedy=False, name="mixed", command=["./run.sh", "soup"])
    pipeline.execute(made)
    page = write.write(made)
    text = page.read_text()
    assert "mixed was not trained: its weights are the mean of those of a, b." in text
    assert "<code>./run.sh report a</code>, <code>./run.sh report b</code>" in text
    assert "epochs of" not in text
    assert sorted(path.stem for path in page.parent.glob("*.png")) == ["balance", "confusion", "reliability"]
    both, _ = ensemble.ensemble(["a", "b"], fit=False, name="both", command=["x"])
    for run in (made, both):
        assert (run.folder / "history.csv").read_text().splitlines()[0] == "seconds"
        with pytest.raises(UserError, match=f"{run.name} was not trained, so it has no history; it is made of a, b"):
            tensorboard.write(run)


def test_a_greedy_soup_is_never_worse_on_the_holdout_than_its_best_part(finished):
    shutil.copytree(finished[0].folder, finished[0].folder.with_name("twin"))
    made = soup.soup(["b", "a", "c", "twin"], greedy=True, name="picked", command=["x"])
    kept = json.loads((made.folder / "soup.json").read_text())["members"]
    assert ("a" in kept) == ("twin" in kept)  # with a copy of what is in, nothing changes
    scores = {run.name: json.loads((run.folder / "result.json").read_text())["holdout"]["value"] for run in finished}
    assert kept[0] == max(scores, key=lambda name: scores[name])
    assert pipeline.execute(made).holdout.value >= max(scores.values())
    about = json.loads((made.folder / "soup.json").read_text())
    assert about["compared"] == 7  # four runs, and three means
    expected = Expected.read(made)
    assert expected.optimism >= about["optimism"] >= 0
    assert expected.compared >= 7
    twins = soup.soup(["a", "twin"], greedy=True, name="twins", command=["x"])
    assert json.loads((twins.folder / "soup.json").read_text())["members"] == ["a", "twin"]


def test_a_greedy_soup_is_picked_by_the_competitions_metric(finished, capsys):
    for run in finished:
        file = run.folder / "competition.yaml"
        spec = yaml.safe_load(file.read_text()) | {"metric": "log_loss"}
        spec["submission"] = {**spec.get("submission", {}), "takes": "probabilities"}
        file.write_text(yaml.safe_dump(spec))
    capsys.readouterr()
    made = soup.soup(["a", "b", "c"], greedy=True, name="picked", command=["x"])
    kept = json.loads((made.folder / "soup.json").read_text())["members"]
    labels = true_classes(finished[0], finished[0].split.holdout)
    losses = {run.name: log_loss(labels, run.probs("holdout"), labels=range(10)) for run in finished}
    assert kept[0] == min(losses, key=lambda name: losses[name])
    assert f"without {losses[kept[0]]:.4f}" in capsys.readouterr().out


def test_damaged_answers_of_an_ensemble_are_named_and_left(finished):
    both, _ = ensemble.ensemble(["a", "b"], fit=False, name="both", command=["x"])
    file = stored_probs.path(both, "holdout")
    file.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"make it again: delete .*both, then \./run\.sh ensemble a b"):
        Run.find("both").probs("holdout")
    assert file.read_bytes() == b"damaged"


def test_what_cannot_be_combined_is_refused(finished, home):
    shutil.copytree(finished[0].folder, home / "elsewhere" / "a")
    with pytest.raises(UserError, match="is not among your runs in"):
        soup.soup([str(home / "elsewhere" / "a"), "b"], greedy=False, name=None, command=["x"])
    with pytest.raises(UserError, match="at least two runs, each once"):
        soup.soup(["a", str(finished[0].folder)], greedy=False, name=None, command=["x"])
    with pytest.raises(UserError, match="at least two runs, each once"):
        soup.soup(["a", "a"], greedy=False, name=None, command=["x"])
    recipe = load_recipe("tiny", [*SETTINGS, "model.width=0.25"])
    competition = load_competition("digits", ["limit.parameters=50_000"])
    other = RunRequest("tiny", recipe, "digits", competition, ["x"], "cpu", 1).start("thin")
    with pytest.raises(UserError, match=r"thin is not finished: \./run.sh resume thin"):
        soup.soup(["a", "thin"], greedy=False, name=None, command=["x"])
    pipeline.execute(other)
    make("by-pixel", "train.normalize=pixel")
    with pytest.raises(UserError, match=r"by-pixel and a have different train.normalize; their weights cannot be"):
        soup.soup(["a", "by-pixel"], greedy=False, name=None, command=["x"])
    with pytest.raises(UserError, match="thin and a are different models; their weights cannot be averaged"):
        soup.soup(["a", "thin"], greedy=False, name=None, command=["x"])


def test_a_greedy_soup_is_asked_as_its_members_were(monkeypatch):
    """With temperature and in the recipe's batches; without temperature an overconfident soup would never win."""
    random, asked = np.random.default_rng(0), []
    labels = random.integers(10, size=300)
    poor, sure = (
        np.where(random.random((300, 1)) < right, np.eye(10)[labels], np.eye(10)[(labels + 1) % 10]) * 0.999 + 1e-4
        for right in (0.7, 0.8)
    )
    recipe = load_recipe("tiny", ["predict.calibrate=true", "predict.batch_size=77"])
    competition = load_competition("digits", ["metric=log_loss", "submission.takes=probabilities"])
    runs = [SimpleNamespace(name=name, recipe=recipe, competition=competition) for name in "ab"]
    answered = [HoldoutPredictions(run.name, temper_cross_fitted(poor, labels, groups=None), labels) for run in runs]

    def predict(models, images, **options):
        asked.append(options["batch_size"])
        return sure.astype(np.float32)

    monkeypatch.setattr(predictions, "predict_probs", predict)
    holdout = Pack([str(n) for n in range(300)], np.zeros((300, 8, 8, 1), np.uint8), labels)
    assert METRICS["log_loss"].value(sure, labels) > METRICS["log_loss"].value(answered[0].probs, labels)
    assert soup._greedy(runs, answered, lambda indices: None, holdout, None)[0] == [0, 1]
    assert asked == [77]


def test_fitted_weights_are_the_likeliest_mixture():
    """Compared with a grid search, also if one member is random."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    good, other = (
        HoldoutPredictions(
            name, (np.eye(3)[labels] * sharp + rng.dirichlet(np.ones(3), 500)).astype(np.float32) / (1 + sharp), labels
        )
        for name, sharp in (("good", 0.6), ("other", 0.5))
    )
    found = fit_weights([good, other])
    likelihood = [
        np.log(w * good.probs[np.arange(500), labels] + (1 - w) * other.probs[np.arange(500), labels]).sum()
        for w in np.linspace(0, 1, 1001)
    ]
    assert found[0] == pytest.approx(np.argmax(likelihood) / 1000, abs=0.005)
    chance = HoldoutPredictions("chance", np.full((500, 3), 1 / 3, dtype=np.float32), labels)
    assert fit_weights([HoldoutPredictions("sure", np.eye(3, dtype=np.float32)[labels], labels), chance])[0] > 0.99


def test_the_holdout_of_a_fitted_ensemble_is_scored_with_weights_it_was_not_fitted_to(finished):
    made, result = ensemble.ensemble(["a", "b"], fit=True, name="fitted", command=["x"])
    weights = made.metadata.weights
    assert sum(weights) == pytest.approx(1)
    probs = [np.load(run.folder / "holdout_probs.npy") for run in finished[:2]]
    fitted = weights[0] * probs[0] + weights[1] * probs[1]
    assert not np.allclose(np.load(made.folder / "holdout_probs.npy"), fitted, atol=1e-6)
    assert 0 < result.holdout.value < 1


def test_no_half_is_mixed_by_weights_that_its_own_labels_have_chosen():
    random = np.random.default_rng(0)
    one, other = random.dirichlet(np.ones(3), (2, 60)).astype(np.float32)
    half, labels = halves(60, None), one.argmax(1)
    changed = np.where(half, other.argmax(1), labels)
    mixed, again = (
        ensemble.cross_fitted_mixture([HoldoutPredictions("a", one, of), HoldoutPredictions("b", other, of)])
        for of in (labels, changed)
    )
    assert (mixed[half] == again[half]).all()
    assert (mixed[~half] != again[~half]).any()


@pytest.mark.some(3)
@pytest.mark.parametrize(("what", "until"), [("ensemble", "weights.safetensors"), ("soup", "recipe.yaml")])
def test_killed_half_way_nothing_is_left_and_the_same_command_works(finished, home, capsys, what, until):
    """SIGKILL as soon as a file of the result has been written."""
    hidden, name, words = home / "runs" / ".new" / "made", "made", [what, "a", "b"]
    process = start([*words, "--name", name], start_new_session=True)
    while not (hidden / until).exists() and process.poll() is None:
        time.sleep(0.0005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert (hidden / until).exists(), "it was not killed in the middle"
    assert not (home / "runs" / name).exists()
    with pytest.raises(UserError, match="there is no run called 'made'"):
        Run.find(name)
    assert main.main([*words, "--name", name]) == 0
    assert (home / "runs" / name / "result.json").exists()
    assert not hidden.exists()
    assert main.main([*words, "--name", name]) == 2
    assert "there is a run called 'made' already" in capsys.readouterr().err
    assert main.main([*words, "--name", "whole"]) == 0
    for file in ("weights.safetensors", "holdout_probs.npy", "predict_probs.npy"):
        one, other = ((home / "runs" / run / file).read_bytes() for run in (name, "whole"))
        assert one == other, file


def test_a_name_being_made_is_taken(finished, home):
    """Two processes never write to one folder: the second takes the next name, or is refused the same name."""
    recipe = load_recipe("tiny")
    task = RunRequest("tiny", recipe, "digits", load_competition("digits"), ["x"], "cpu", 1)
    with task.new_folder(None) as one:
        two = task.start()
        assert (one.name, two.name) == ("tiny-digits-s0", "tiny-digits-s0-2")
        with pytest.raises(UserError, match="there is a run called 'tiny-digits-s0' already"):
            task.start("tiny-digits-s0")
    assert Run.find("tiny-digits-s0").recipe == recipe
    with pytest.raises(ZeroDivisionError), task.new_folder("bad"):
        1 / 0  # noqa: B018
    assert {path.name for path in (home / "runs").glob("*") if path.is_dir()} >= {one.name, two.name}
    assert not (home / "runs" / "bad").exists()


def test_an_ensemble_answers_by_the_models_it_was_made_of_or_not_at_all(finished, home, capsys):
    made, _ = ensemble.ensemble(["a", "b"], fit=False, name="both", command=["x"])
    assert [(run.name, share) for run, share in made.weighted_models] == [("a", 0.5), ("b", 0.5)]
    for file in ("weights.safetensors", "holdout_probs.npy", "predict_probs.npy"):  # as if trained anew
        shutil.copy(home / "runs" / "c" / file, home / "runs" / "a" / file)
    message = "both was made of another run called a than the one here now"
    for ask in (Run.weigh, ExportSource.of, Predictor, lambda run: bundle.write(run, home / "both.zip")):
        with pytest.raises(UserError, match=message):
            ask(Run.find("both"))
    told = series._as_before(Run.find("both"), [Run.find("a"), Run.find("b")])
    assert told.startswith("no submission: both is of other models")
    shutil.rmtree(home / "runs" / "both")
    again, _ = ensemble.ensemble(["a", "b"], fit=False, name="both", command=["x"])
    assert series._as_before(again, [Run.find("a"), Run.find("b")]) == "both (as before)"


def test_an_ensemble_stands_in_its_folder_before_it_stands_in_the_ledger(finished, home, monkeypatch, capsys):
    def killed(run):
        assert (home / "runs" / run.name / "result.json").is_file()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ensemble, "record", killed)
        with pytest.raises(KeyboardInterrupt):
            ensemble.ensemble(["a", "b"], fit=False, name="both", command=["x"])
    assert main.main(["runs"]) == 0
    assert "both: finished, and not in the ledger; add it with: ./run.sh resume both" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"both is not in the ledger .*resume both adds it"):
        entry.find("both", None)
    assert main.main(["resume", "both"]) == 0
    assert ledger.read()["run"].tolist() == ["a", "b", "c", "both"]
    with pytest.raises(UserError, match="nothing to continue"):
        pipeline.execute(Run.find("both"))
    Run.find("both").csv().unlink()
    with pytest.raises(UserError, match=r"both has no submission, its CSV is not here"):
        entry.find("both", None)


def test_a_run_of_another_machines_device_goes_on_with_this_ones_and_says_so_once(finished, home, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in "ab":
        path = home / "runs" / name / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "cuda"}))
    Predictor(Run.find("a"))
    soup.soup(["a", "b"], greedy=False, name="mean", command=["x"])
    assert Run.find("mean").metadata.device == "auto"
    said = "a was started with --device cuda, which this machine lacks: it continues with --device auto"
    assert capsys.readouterr().out.count(said) == 1


def test_a_run_behind_a_link_is_among_the_runs_and_a_folder_that_is_no_run_is_called_none(finished, home, tmp_path):
    (home / "runs" / "a").rename(tmp_path / "moved")
    (home / "runs" / "a").symlink_to(tmp_path / "moved")
    assert [run.name for run in members.finished(["a", "b"])] == ["a", "b"]
    with pytest.raises(UserError, match="is not among your runs"):
        members.finished([str(tmp_path / "moved"), "b"])
    (home / "runs" / "left").mkdir()
    with pytest.raises(UserError, match="left exists and is not a run: move it away, or use another --name"):
        RunRequest("tiny", load_recipe("tiny"), "digits", load_competition("digits"), ["x"], "cpu", 1).start("left")
