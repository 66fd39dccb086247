"""The search: bad spaces are refused by line, candidates are weighed first, workers share and take over work."""

import json
import os
import re
import shutil
import signal
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest
import torch

from conftest import start
from featherweight import paths, yaml
from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.config.recipe import ImageOfRecipe
from featherweight.errors import UserError
from featherweight.evaluation.metrics import METRICS
from featherweight.runs import selection
from featherweight.runs.expected_score import Expected
from featherweight.runs.run import Run
from featherweight.schema import OneOf
from featherweight.search import costs, outcome, space, trial_answers, trials
from featherweight.search import study as studies
from featherweight.search.space import Dimension

DIGITS = load_competition("digits")
# Trials of a tenth of a second: 100 images, two steps an epoch.
QUICK = """\
base: tiny
short: {train.epochs: 3, split.subset: 200, train.batch_size: 64, predict.views: []}
"""
KEYS = """\
search:
  optimizer.lr: {low: 0.01, high: 1.0, log: true}
  model.width: {low: 0.25, high: 1.0, step: 0.25}
"""


def write(home: Path, text: str, name: str = "quick") -> str:
    folder = home / "configs" / "spaces"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(text)
    return name


def study_of(home: Path, name: str = "quick", storage: str | None = None) -> optuna.Study:
    storage = storage or f"sqlite:///{home / 'studies' / name / 'study.db'}"
    return optuna.load_study(study_name=name, storage=storage)


def trained(home: Path, name: str = "quick") -> list[tuple[int, dict, float | None]]:
    """Return the trials by candidate: its values and its result."""
    rows = [
        (trial.user_attrs["candidate"], trial.params, trial.value)
        for trial in study_of(home, name).get_trials()
        if trial.state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    ]
    return sorted(rows, key=lambda row: row[0])


# -------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: tiny\nsearhc: {}\n", ":2: searhc: unknown key 'searhc'; did you mean 'search'?"),
        ("base: tiny\nsearch: {}\n", ":2: search: dictionary should have at least 1 item"),
        (
            "base: wnr16_4\nsearch: {seed: [1, 2]}\n",
            ":1: base: there is no recipe called 'wnr16_4'; did you mean 'wrn16_4'?",
        ),
        (
            "base: tiny\ncompetition: digit\nsearch: {sam: [null, {}]}\n",
            ":2: competition: there is no competition called 'digit'; did you mean 'digits'?",
        ),
        (
            "base: tiny\nsearch:\n  optimizer.lrr: [0.1, 0.2]\n",
            ":3: optimizer.lrr: unknown key 'lrr'; did you mean 'lr'?",
        ),
        ("base: tiny\nsearch:\n  optimizer.lr: [0.1, -1]\n", ":3: optimizer.lr: must be greater than 0, got -1"),
        ("base: tiny\nsearch:\n  optimizer.lr: {low: -1, high: 1}\n", ":3: optimizer.lr: must be greater than 0"),
        ("base: tiny\nsearch:\n  optimizer.lr: {lo: 1, high: 2}\n", "unknown key 'lo'; did you mean 'low'?"),
        ("base: tiny\nsearch:\n  optimizer.lr: {low: 2, high: 1}\n", ":3: search.optimizer.lr: expected a list of"),
        (
            "base: tiny\nsearch:\n  optimizer.lr: {low: 0, high: 1, log: true}\n",
            "a range with log: true must begin above 0",
        ),
        ("base: tiny\nsearch:\n  optimizer.lr: [0.1, 0.1]\n", "at least two choices, all different"),
        ("base: tiny\nsearch:\n  optimizer.lr: [0.1]\n", "at least two choices, all different"),
        ("base: tiny\nsearch:\n  model.depth: {low: 10.5, high: 16, int: true}\n", "whole ends and a whole step"),
        ("base: tiny\nsearch:\n  train.batch_size: {low: 16, high: 64}\n", "for whole numbers set int: true"),
        (
            "base: tiny\nsearch:\n  model.depth: {low: 10, high: 16, int: true}\n",
            ":3: model.depth: expected 6n + 4, got 11; the nearest are 10 and 16",
        ),
        (
            "base: tiny\nsearch:\n  model: [{name: wrn, depth: 10}, fastnet]\n  model.width: [1.0, 2.0]\n",
            ":4: model.width: unknown key 'width'; did you mean 'widths'? (with model: fastnet: keys searched "
            "within a choice must be valid for every choice)",
        ),
        ("base: tiny\nsearch:\n  split.holdout: [0.1, 0.2]\n", ":3: search.split.holdout: trials with different"),
        ("base: tiny\nsearch:\n  seed: [1, 2]\n", ":3: search.seed: every trial has its own seed"),
        ("base: tiny\nsearch:\n  train.precision: [fp32, bf16]\n", ":3: search.train.precision: a search has one"),
        (
            "base: tiny\nshort: {train.epochs: 1}\nsearch:\n  train.epochs: [1, 2]\n",
            ":4: search.train.epochs: this key is also in `short`",
        ),
        ("base: tiny\nshort: {train.epohs: 1}\nsearch: {sam: [null, {}]}\n", ":2: train.epohs: unknown key 'epohs'"),
        ("base: tiny\npruner: ash\nsearch: {sam: [null, {}]}\n", ":2: pruner: there is no 'ash'; did you mean 'asha'?"),
    ],
)
def test_what_is_wrong_in_a_space_is_named_before_anything_starts(home, capsys, text, message):
    assert main.main(["search", write(home, text), "--trials", "2"]) == 2
    assert message in capsys.readouterr().err
    assert not (home / "studies").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quik", "--trials", "2"], "there is no space called 'quik'; did you mean 'quick'?"),
        (["quick"], "give --trials 50, --hours 2 or both, to say how long to search"),
        (["quick", "--trials", "0"], "--trials 0: expected 1 to 1,000,000"),
        (["quick", "--trials", "2", "--competition", "digit"], "did you mean 'digits'?"),
        (["quick", "--trials", "2", "--name", "a/b"], "--name a/b: expected a plain name"),
        (["quick", "--trials", "2", "--name", "mine"], "--name mine: there is already a recipe"),
        (["quick", "--trials", "2", "--storage", "nosql://x"], "--storage nosql://x: the storage cannot be used"),
        (["quick", "--trials", "2", "--storage", "sqlite:////dev/null/x.db"], "the storage cannot be used: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_users_mistake_is_one_line(home, capsys, words, message):
    write(home, QUICK + KEYS)
    (home / "configs" / "recipes").mkdir()
    (home / "configs" / "recipes" / "mine.yaml").write_text("extends: tiny\n")
    assert main.main(["search", *words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("name", paths.config_names("spaces"))
def test_the_spaces_that_come_along_are_sound(name):
    searched = space.load(name)
    searched.refuse_bad_values(load_competition(searched.file.competition))
    assert f"./run.sh search {name} --trials" in paths.find_config("spaces", name).read_text()


def test_ranges_and_choices_draw_what_they_say():
    dimensions = {
        "log": Dimension(low=0.001, high=1.0, log=True),
        "stepped": Dimension(low=0.1, high=0.7, step=0.2),
        "whole": Dimension(low=10, high=40, step=6, int=True),
        "list": Dimension(choices=[[1, 2], None, {"name": "wrn"}, 0.5, "auto"]),
    }
    drawn: dict[str, list] = {key: [] for key in dimensions}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for _ in range(60):
        trial = study.ask()
        for key, dimension in dimensions.items():
            drawn[key].append(dimension.draw(key, trial))
            assert dimension.draw(key, study.get_trials()[-1]) == drawn[key][-1]  # and once more, from what is stored
    assert 0.001 <= min(drawn["log"]) < 0.01 < 0.1 < max(drawn["log"]) <= 1
    assert all(float(f"{value:.4g}") == value for value in drawn["log"])  # short enough for a file
    assert set(drawn["stepped"]) == {0.1, 0.3, 0.5, 0.7}
    assert set(drawn["whole"]) == {10, 16, 22, 28, 34, 40}
    assert all(isinstance(value, int) for value in drawn["whole"])
    assert all(value in drawn["list"] for value in dimensions["list"].choices)


def test_what_a_recipe_differs_in_makes_it_again(home):
    base = load_recipe("tiny")
    changed = load_recipe(
        "tiny",
        [
            "model={name: fastnet, widths: [8, 8, 8]}",
            "optimizer.lr=0.3",
            "augment.0.padding=0.25",
            "sam={rho: 0.1}",
            "train.epochs=7",
            "averages=[{name: ema}]",
            "ship=ema",
            "seed=9",
        ],
    )
    said = outcome.differences(base, changed)
    assert set(said) == {"model", "optimizer", "augment", "sam", "train", "averages", "ship"}
    assert said["model"] == {"name": "fastnet", "widths": [8, 8, 8]}
    assert said["optimizer"] == {"lr": 0.3}
    (home / "again.yaml").write_text(yaml.dump({"extends": "tiny", **said}, compact=True))
    again = load_recipe(str(home / "again.yaml"), ["seed=9"])
    assert again == changed


# ------------------------------------------------------------------------------------------------ the search


def test_candidates_are_scored_as_their_own_recipe_sees_the_images_and_related_ones_count_together(home, monkeypatch):
    """The base has a warmup and first trains only its classifier; a probe of a few steps has no room for either."""
    folder = home / "configs" / "competitions"
    folder.mkdir(parents=True)
    (folder / "tens.yaml").write_text("extends: digits\ngroup: '^\\d{3}'\n")
    short = QUICK.replace("short: {", "short: {warmup: {epochs: 2}, head: {epochs: 1}, ")
    write(home, short + "search: {image.mirror: [true, false]}\nsampler: random\npruner: none\n")
    seen, scored = [], []
    views, score_of_part = trials.predictions.views, trials.score_of_part
    monkeypatch.setattr(trials.predictions, "views", lambda *what: seen.append(what) or views(*what))
    monkeypatch.setattr(
        trials,
        "score_of_part",
        lambda *what, groups, **of: scored.append(groups) or score_of_part(*what, groups=groups, **of),
    )
    assert main.main(["search", "quick", "--competition", "tens", "--trials", "2"]) == 0
    of_candidates = [(recipe.image.mirror, competition.image.mirror) for recipe, competition in seen if recipe.image]
    assert of_candidates
    assert all(wanted == given for wanted, given in of_candidates)
    assert len(scored) > 1
    assert all(len(set(groups)) < len(groups) for groups in scored[1:])  # the first is the probe's


def test_the_estimate_trains_on_few_images_also_where_weights_were_published_with_a_crop(home, monkeypatch):
    def cropped(recipe, competition):
        return recipe.model_copy(update={"image": ImageOfRecipe(crop=0.9)})

    monkeypatch.setattr(trials, "cropped_as_published", cropped)
    monkeypatch.setattr(costs, "cropped_as_published", cropped)
    train_model, counts = trials.pipeline.train_model, []
    monkeypatch.setattr(
        trials.pipeline,
        "train_model",
        lambda run, train, *more: counts.append(len(train)) or train_model(run, train, *more),
    )
    write(home, QUICK + KEYS)
    assert main.main(["search", "quick", "--trials", "1"]) == 0
    estimated, trial = counts
    assert estimated <= trial  # of all images it would be seven times as many


def test_a_search_ends_with_table_picture_recipe_and_the_next_command(home, capsys):
    write(home, QUICK + "pruner: none\n" + KEYS)
    assert main.main(["search", "quick", "--trials", "5"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"a trial like the base: 3 epochs of \d+\.\d seconds", out)
    assert re.search(r"5 trials: [\d.]+ seconds, at worst [\d.]+ (seconds|minutes)", out)
    assert out.index("at worst") < out.index("the best so far")  # what it costs is told first
    assert re.search(r"%: the best of \d finished trials on one holdout, so it is too good by about [\d.]+ points", out)
    assert out.rstrip().endswith("next: ./run.sh quick --competition digits")
    rows = pd.read_csv(home / "studies" / "quick" / "trials.csv")
    assert len(rows) == 5
    assert rows["score"].max() == rows["score"][0] == study_of(home).best_value
    assert (home / "studies" / "quick" / "importances.png").read_bytes().startswith(b"\x89PNG")

    text = (home / "configs" / "recipes" / "quick.yaml").read_text()
    assert "extends: tiny" in text
    assert "found by ./run.sh search quick" in text
    best, base = load_recipe("quick"), load_recipe("tiny")
    assert (best.optimizer.lr, best.model.width) == (rows["optimizer.lr"][0], rows["model.width"][0])
    assert (best.train, best.predict, best.split) == (base.train, base.predict, base.split)  # what was short is not

    assert main.main(["search", "quick", "--trials", "6"]) == 0  # gone on with
    assert "continuing after 5 trials" in capsys.readouterr().out
    assert len(trained(home)) == 6
    write(home, QUICK + "pruner: none\n" + KEYS.replace("1.0, log", "2.0, log"))
    assert main.main(["search", "quick", "--trials", "7"]) == 2
    assert "the study quick was started with another space" in capsys.readouterr().err


def test_a_trial_is_scored_as_the_run_of_its_recipe_is(home):
    write(home, QUICK.replace("[]", "[shift]") + "pruner: none\n" + KEYS)
    assert main.main(["search", "quick", "--trials", "1"]) == 0
    (trial,) = study_of(home).get_trials()
    searched = space.load("quick")
    recipe = searched.recipe(searched.draw(trial))
    seed = studies.derive(0, "trial", 0) % 10**6
    said = {**searched.file.short, "optimizer.lr": recipe.optimizer.lr, "model.width": recipe.model.width, "seed": seed}
    words = [word for key, value in said.items() for word in ("--set", f"{key}={space.spelled(value)}")]
    assert main.main(["tiny", "--name", "same", "--no-report", *words]) == 0
    held = json.loads((home / "runs" / "same" / "result.json").read_text())["holdout"]
    assert held["value"] == trial.value
    assert [held["low"], held["high"]] == trial.user_attrs["interval"]


@pytest.mark.slow
def test_log_loss_is_made_small(home, capsys):
    (home / "configs" / "competitions").mkdir(parents=True)
    loss = "extends: digits\nmetric: log_loss\nsubmission: {takes: probabilities}\n"
    (home / "configs" / "competitions" / "loss.yaml").write_text(loss)
    write(home, QUICK + "pruner: none\n" + KEYS)
    assert main.main(["search", "quick", "--trials", "4", "--competition", "loss"]) == 0
    rows = pd.read_csv(home / "studies" / "quick-loss" / "trials.csv")
    assert rows["score"].is_monotonic_increasing
    assert rows["score"].nunique() == 4
    assert study_of(home, "quick-loss").best_value == rows["score"][0]
    assert (home / "configs" / "recipes" / "quick-loss.yaml").is_file()


def test_what_is_over_the_limit_is_refused_untrained_and_not_counted(home, capsys):
    (home / "configs" / "competitions").mkdir(parents=True)
    (home / "configs" / "competitions" / "light.yaml").write_text("extends: digits\nlimit: {parameters: 12_000}\n")
    write(home, QUICK + KEYS)
    assert main.main(["search", "quick", "--trials", "4", "--competition", "light"]) == 0
    trials = study_of(home, "quick-light").get_trials()
    refused = [trial for trial in trials if "refused" in trial.user_attrs]
    assert refused
    assert len(trials) - len(refused) == 4
    for trial in refused:
        over = trial.user_attrs["parameters"] - 12_000
        assert trial.user_attrs["refused"] == f"{trial.user_attrs['parameters']:,} parameters, {over:,} over the limit"
        assert trial.constraints["weight"] == pytest.approx(over / 12_000)
        assert not trial.intermediate_values
        assert not (home / "studies" / "quick-light" / "trials" / str(trial.user_attrs["candidate"])).exists()
    out = capsys.readouterr().out
    assert f"{len(refused)} candidates refused" in out
    assert re.search(r"of 16 candidates drawn at random, [1-9]\d* are over the limit", out)


def test_a_candidate_that_cannot_be_trained_blocks_no_other(home, monkeypatch, capsys):
    """Otherwise every worker in turn would take a network that does not fit into memory."""
    write(home, QUICK + KEYS)
    train, tried = trials._train, []

    def short_of_memory(search, recipe, trial):
        tried.append(trial.number)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("out of memory.\nTried to allocate 9 GiB")
        return train(search, recipe, trial)

    monkeypatch.setattr(trials, "_train", short_of_memory)
    assert main.main(["search", "quick", "--trials", "3"]) == 0
    done = study_of(home).get_trials()
    assert done[0].user_attrs["refused"] == "could not be trained: out of memory."
    assert len([trial for trial in done if "refused" not in trial.user_attrs]) == 3
    assert "0  could not be trained: out of memory." in capsys.readouterr().out


def test_a_gpu_that_fails_ends_the_worker_and_costs_no_candidate(home, monkeypatch, capsys):
    write(home, QUICK + KEYS)

    def fail(*what):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore")

    monkeypatch.setattr(trials, "_train", fail)
    assert main.main(["search", "quick", "--trials", "3"]) == 2
    assert [trial.state.name for trial in study_of(home).get_trials()] == ["FAIL", "WAITING"]
    assert "the GPU failed: CUDA error: an illegal memory access was encountered\n" in capsys.readouterr().err


@pytest.mark.slow
def test_a_space_of_few_recipes_ends_when_all_are_tried(home, capsys, monkeypatch):
    monkeypatch.setattr("featherweight.search.trials.MOST_UNTRAINED", 20)
    write(home, QUICK + "search:\n  optimizer.lr: [0.1, 0.2]\n")
    assert main.main(["search", "quick", "--trials", "5"]) == 0
    assert sorted(params["optimizer.lr"] for _, params, _ in trained(home)) == ["0.1", "0.2"]
    assert "the space has no new ones" in capsys.readouterr().out


def test_a_rate_that_diverges_is_a_trial_that_failed_not_the_search(home, capsys):
    write(home, QUICK + "search:\n  optimizer.lr: [0.1, 1.0e+30]\n")
    assert main.main(["search", "quick", "--trials", "2"]) == 0
    assert "the loss became" in capsys.readouterr().out
    assert load_recipe("quick").optimizer.lr == 0.1


def test_hopeless_trials_are_given_up(home, monkeypatch):
    def value(metric, given, true):
        return next(values) if given.ndim == 2 else 0.0  # of the holdout; what is trained on is not looked at

    # The probe's score; a good trial; one that is worse at its first look.
    values = iter([0.0, 0.9, 0.9, 0.9, 0.1])
    monkeypatch.setattr("featherweight.training.trainer.value", value)
    write(home, QUICK + "pruner: {name: asha, first: 1, factor: 2}\n" + KEYS)
    assert main.main(["search", "quick", "--trials", "2"]) == 0
    good, bad = study_of(home).get_trials()
    assert good.state == optuna.trial.TrialState.COMPLETE
    assert (bad.state, bad.last_step) == (optuna.trial.TrialState.PRUNED, 1)


def test_hours_end_a_search_that_has_no_number_of_trials(home, capsys):
    write(home, QUICK + KEYS)
    assert main.main(["search", "quick", "--hours", "0.0003"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"0.0003 hours: about \d+ trials, at worst \d+", out)
    assert "0.0003 hours are over" in out
    assert len(trained(home)) >= 1


# ------------------------------------------------------------------------- workers, and what becomes of the dead


@pytest.mark.some(2)
@pytest.mark.parametrize("storage", ["database", "journal"])
def test_two_workers_share_a_study_and_do_nothing_twice(home, storage):
    write(home, QUICK + KEYS)
    where = {"database": f"sqlite:///{home / 'shared.db'}", "journal": str(home / "shared.journal")}[storage]
    words = ["search", "quick", "--trials", "6", "--storage", where, "--threads", "1"]
    workers = [start(words) for _ in range(2)]
    told = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], told
    if storage == "journal":
        backend = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(where))
        trials = optuna.load_study(study_name="quick", storage=backend).get_trials()
    else:
        trials = study_of(home, storage=where).get_trials()
    done = [trial for trial in trials if trial.state.is_finished() and "refused" not in trial.user_attrs]
    assert len(done) == 6
    assert sorted(trial.user_attrs["candidate"] for trial in done) == list(range(6))
    assert len({tuple(trial.params.items()) for trial in done}) == 6
    assert len({tuple(trial.user_attrs["worker"]) for trial in done}) == 2
    assert load_recipe("quick").optimizer.lr == float(f"{_best(trials).params['optimizer.lr']:.4g}")


def _best(trials):
    return max((trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE), key=lambda t: t.value)


def last_trial(home: Path) -> int:
    """Return the number of trials, including those of dead workers."""
    path = home / "studies" / "quick" / "study.db"
    if not path.exists():
        return 0
    with sqlite3.connect(path) as base:
        return int(base.execute("SELECT COUNT(*) FROM trials").fetchone()[0])


def begun(home: Path, at_least: int, before: int) -> bool:
    """True if a trial after the first `before` ones is running, after the given number of finished trials."""
    path = home / "studies" / "quick" / "study.db"
    if not path.exists():
        return False
    try:
        with sqlite3.connect(path) as base:
            states = [state for (state,) in base.execute("SELECT state FROM trials ORDER BY number")]
            last = "SELECT COUNT(*) FROM trial_intermediate_values WHERE trial_id = (SELECT MAX(trial_id) FROM trials)"
            looks = base.execute(last).fetchone()[0]
    except sqlite3.OperationalError:
        return False
    return len(states) > max(at_least, before) and states[-1] == "RUNNING" and looks > 1


@pytest.mark.slow
def test_a_candidate_that_kills_its_workers_is_given_up(home, capfd):
    """A candidate that needs too much memory: the system kills its worker, and the next worker would follow."""
    words = ["search", write(home, QUICK + KEYS), "--trials", "2"]
    for _ in range(studies.MOST_LOST):
        worker = os.fork()
        if not worker:
            studies.Worker.alive = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
            os._exit(main.main(words))
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -signal.SIGKILL
    assert main.main(words) == 0
    assert f"candidate 0: {studies.MOST_LOST} workers were killed while training it" in capfd.readouterr().out
    values = {number: value for number, _, value in trained(home)}
    assert values.pop(0) is None
    assert len(values) >= 1
    assert None not in values.values()


def test_a_killed_search_goes_on_to_the_same_end(home):
    longer = "train.epochs: 20, train.checkpoint_seconds: 0"  # still training when it is stopped
    text = QUICK.replace("train.epochs: 3", longer) + "pruner: none\n" + KEYS
    write(home, text)
    write(home, text, "whole")
    words = ["search", "quick", "--trials", "2", "--threads", "1"]
    for kill, at_least in ((signal.SIGKILL, 1), (signal.SIGINT, 2)):
        before = last_trial(home)  # a stale trial is not the new worker's
        worker = start(words, start_new_session=True)
        deadline = time.monotonic() + 300
        while not begun(home, at_least, before) and worker.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(worker.pid, kill)
        _, err = worker.communicate(timeout=60)
        if kill == signal.SIGINT:
            assert worker.returncode == 130
            assert "stopped; continue with: ./run.sh search quick --trials 2 --threads 1" in err
    assert main.main(words) == 0
    states = [trial.state.name for trial in study_of(home).get_trials()]
    assert states.count("FAIL") == 2  # those that were stopped, each of which was done again
    assert states.count("COMPLETE") == 2
    assert main.main(["search", "whole", *words[2:]]) == 0
    assert trained(home) == trained(home, "whole")
    assert not list((home / "studies" / "quick").glob("trials/*/checkpoint.pt"))


def test_a_search_is_not_interrupted_while_it_writes_to_its_storage(home, monkeypatch, capsys):
    write(home, QUICK + KEYS)
    claimed, written = studies.Worker.claim, []

    def stopped(worker, *rest):
        os.kill(os.getpid(), signal.SIGINT)
        trial = claimed(worker, *rest)
        written.append(trial)
        return trial

    monkeypatch.setattr(studies.Worker, "claim", stopped)
    assert main.main(["search", "quick", "--trials", "2", "--threads", "1"]) == 130
    assert len(written) == 1
    assert [trial.state.name for trial in study_of(home).get_trials()] == ["FAIL", "WAITING"]  # it can go on


def claim(worker):
    return worker.claim(None, lambda trial: {"x": trial.suggest_float("x", 0, 1)})


def open_quick(home, storage=None):
    searched = space.load(write(home, QUICK + KEYS))
    return studies.open_study("quick", storage, home / "studies" / "quick", searched, DIGITS)


def test_a_living_workers_trial_is_left_alone_and_a_silent_ones_elsewhere_is_taken_over(home):
    study = open_quick(home)
    folder = home / "studies" / "quick"
    with studies.Worker(study, None, folder) as first, studies.Worker(open_quick(home), None, folder) as second:
        ours = claim(first)
        theirs = claim(second)
        assert (ours.number, theirs.number) == (0, 1)
        # A trial of another machine, which has just said that it lives, and one that has long been silent.
        for seconds in (10, 2 * studies.SILENCE):
            far = study.ask()
            far.suggest_float("x", 0, 1)
            far.set_user_attr("candidate", far.number)
            far.set_user_attr("worker", ["elsewhere", "1-1"])
            far.set_user_attr("alive", time.time() - seconds)
        again = claim(second)
        states = [trial.state.name for trial in study.get_trials()]
        assert states == ["RUNNING", "RUNNING", "RUNNING", "FAIL", "RUNNING"]
        assert again.user_attrs["candidate"] == 3
        assert again.params == study.get_trials()[3].params


def test_a_worker_that_dies_while_it_draws_takes_no_candidate_with_it(home):
    study = open_quick(home)
    with studies.Worker(study, None, home / "studies" / "quick") as worker:
        study.ask()  # and then nothing
        trial = claim(worker)
        assert (trial.number, trial.user_attrs["candidate"]) == (1, 0)
        assert study.get_trials()[0].state.name == "FAIL"


def test_a_candidate_is_drawn_the_same_whoever_draws_it(home):
    study = open_quick(home)
    with studies.Worker(study, None, home / "studies" / "quick") as worker:
        values = [claim(worker).params["x"] for _ in range(3)]
    where = f"sqlite:///{home / 'other.db'}"
    other = open_quick(home, where)
    with studies.Worker(other, where, home / "studies" / "quick") as worker:
        assert [claim(worker).params["x"] for _ in range(3)] == values
    assert len(set(values)) == 3


def test_beats_are_heard_while_a_trial_lasts(home, monkeypatch):
    monkeypatch.setattr(studies, "BEAT", 0.02)
    study = open_quick(home)
    with studies.Worker(study, None, home / "studies" / "quick") as worker:
        trial = claim(worker)
        first = study.get_trials()[0].user_attrs["alive"]
        with worker.alive(trial):
            time.sleep(0.3)
        assert study.get_trials()[0].user_attrs["alive"] > first


@pytest.mark.slow
def test_hyperband_works_too(home):
    write(home, QUICK + "pruner: hyperband\n" + KEYS)
    assert main.main(["search", "quick", "--trials", "3"]) == 0
    assert len(trained(home)) == 3


def test_a_candidate_whose_values_do_not_go_together_is_refused_with_the_reason(home):
    # Each alone fits the base; together they do not.
    keys = "search:\n  train.normalize: [channel, pixel]\n  predict.views: [[], [scales]]\n"
    text = "base: tiny\nshort: {train.epochs: 1, split.subset: 200, train.batch_size: 64}\n" + keys
    write(home, text)
    searched = space.load("quick")
    searched.refuse_bad_values(DIGITS)
    with pytest.raises(UserError, match="scales cannot be combined with"):
        searched.recipe({"train.normalize": "pixel", "predict.views": ["scales"]})
    assert main.main(["search", "quick", "--trials", "3"]) == 0
    trials_of_all = study_of(home).get_trials()
    refused = [trial for trial in trials_of_all if "scales cannot be combined" in trial.user_attrs.get("refused", "")]
    assert refused
    assert all(trial.state == optuna.trial.TrialState.PRUNED for trial in refused)
    assert len(trained(home)) - len(refused) == 3


def test_importances_need_several_scores(home):
    study = optuna.create_study()
    for _ in range(2):
        assert not outcome.draw_importances(study, home / "none.png")
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 1))
    assert not (home / "none.png").exists()


def test_the_best_of_many_guessing_trials_flatters_by_what_it_is_above_chance(tmp_path):
    random = np.random.default_rng(0)
    labels, accuracy = random.integers(2, size=200), OneOf(METRICS).validate("accuracy")
    probs = [random.random((200, 2)) for _ in range(20)]
    probs.sort(key=lambda each: -(each.argmax(1) == labels).mean())
    folders = [tmp_path / str(number) for number in range(20)]
    held = SimpleNamespace(ids=[str(number) for number in range(200)], labels=labels)
    for folder, each in zip(folders, probs, strict=True):
        folder.mkdir()
        trial_answers.store(folder, each, held, None)
    best = (probs[0].argmax(1) == labels).mean() - 0.5

    def optimism():
        return trial_answers.chosen(folders, accuracy, "coins").optimism

    assert optimism() == pytest.approx(best, abs=0.03)
    (folders[5] / trial_answers.FILE).unlink()  # trained on another machine
    fewer = SimpleNamespace(ids=held.ids[:50], labels=labels[:50])
    trial_answers.store(folders[6], probs[6][:50], fewer, np.arange(50) // 2)  # other images
    assert optimism() == pytest.approx(best, abs=0.03)
    (folders[0] / trial_answers.FILE).write_bytes(b"x")
    assert trial_answers.chosen(folders, accuracy, "coins") is None


def test_the_bias_of_a_search_is_subtracted_from_what_its_recipe_is_expected_to_score(home):
    few = QUICK.replace("split.subset: 200", "split.subset: 200, split.holdout: 40")
    write(home, few + "pruner: none\n" + KEYS)
    assert main.main(["search", "quick", "--trials", "6"]) == 0
    stored = selection.Chosen.read("quick")
    assert stored.compared == len(pd.read_csv(home / "studies" / "quick" / "trials.csv").dropna(subset="score"))
    stored = replace(stored, optimism=0.03)
    stored.store(home / "studies" / "quick")
    words = ["quick", "--no-report", "--set", "train.epochs=1", "--set", "split.subset=200"]
    assert main.main([*words, "--name", "same", "--set", "split.holdout=40"]) == 0
    assert main.main([*words, "--name", "other", "--set", "split.holdout=41"]) == 0
    same, other = (Expected.read(Run.find(name)) for name in ("same", "other"))
    assert (same.optimism, same.compared) == (0.03, stored.compared)
    averaged, soup = home / "runs" / "averaged", selection.Soup(["same", "gone"])
    shutil.copytree(home / "runs" / "same", averaged)
    (averaged / "run.json").write_text((averaged / "run.json").read_text().replace('"quick"', '"soup"'))
    soup.write(averaged)
    assert selection.of_search(Run.find("averaged")) == (0.015, stored.compared)  # of the member that is here
    assert (other.optimism, other.compared) == (0.0, 1)
    assert (
        "selecting the best of 6 models on this validation set biases the score by 3.00 points (subtracted)"
        in same.details
    )
