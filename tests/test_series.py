import json
import re

import numpy as np
import pytest

from featherweight.cli import main
from featherweight.config.recipe import ImageOfRecipe
from featherweight.errors import UserError
from featherweight.report import write
from featherweight.runs import ledger, request, series
from featherweight.runs.run import Run

QUICK = ["--set", "train.epochs=1", "--set", "predict.views=[]", "--threads", "1", "--no-report"]


@pytest.mark.parametrize(
    ("text", "expected"), [("0-4", [0, 1, 2, 3, 4]), ("0,3,7", [0, 3, 7]), ("2", [2]), ("0-1,5-6", [0, 1, 5, 6])]
)
def test_seeds(text, expected):
    assert series.seeds(text) == expected


@pytest.mark.parametrize("text", ["", "a", "3-1", "0,0", "1-", "0-2,1", "0-1-2", "5-3,7", "-1", "9" * 30])
def test_what_are_no_seeds_is_refused(text):
    with pytest.raises(UserError, match="expected seeds as in 0-4 or 0,3,7"):
        series.seeds(text)


@pytest.mark.usefixtures("few_digits")
def test_several_seeds_are_several_runs_and_their_mean(home, monkeypatch, capsys):
    monkeypatch.setattr(series, "SHORT_SECONDS", 0.0)
    assert main.main(["tiny", "--seeds", "0-2", *QUICK]) == 0
    rows = ledger.read()
    assert rows["run"].tolist() == ["tiny-digits-s0", "tiny-digits-s1", "tiny-digits-s2"]
    assert rows["seed"].tolist() == [0, 1, 2]
    holdout = rows["holdout"].astype(float)
    out = capsys.readouterr().out
    assert f"holdout  {holdout.mean():.2%} ± {holdout.std():.2%}" in out
    assert re.findall(r"(\d) of 3 runs are done; the others take about \d.*\n", out) == ["1", "2"]

    assert main.main(["tiny", "--seeds", "0-2", *QUICK]) == 0  # all of it is found done
    assert len(ledger.read()) == 3
    assert main.main(["tiny", "--seeds", "0-2", *QUICK, "--set", "optimizer.lr=0.3"]) == 2
    assert "there is a run called 'tiny-digits-s0' already, of other settings" in capsys.readouterr().err


@pytest.mark.usefixtures("few_digits")
def test_what_the_start_of_a_run_changed_is_no_other_setting(home, monkeypatch, capsys):
    """Its batch is cut into parts for want of memory, and its images are cropped as published with its weights."""
    monkeypatch.setattr(request, "cropped_as_published", cropped := lambda recipe, competition: with_crop(recipe))
    monkeypatch.setattr(series, "cropped_as_published", cropped)
    monkeypatch.setattr(request, "within_memory", lambda recipe, *more: with_accumulate(recipe))
    assert main.main(["tiny", "--seeds", "0", *QUICK]) == 0
    assert Run.find("tiny-digits-s0").recipe.train.accumulate == 2
    assert main.main(["tiny", "--seeds", "0", *QUICK]) == 0
    assert len(ledger.read()) == 1
    assert main.main(["tiny", "--seeds", "0", *QUICK, "--set", "train.accumulate=4"]) == 2


def with_crop(recipe):
    return recipe.model_copy(update={"image": ImageOfRecipe(crop=0.9)})


def with_accumulate(recipe):
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"accumulate": 2})})


@pytest.mark.usefixtures("few_digits")
def test_each_run_of_a_series_has_its_report_unless_that_is_left_out(home, monkeypatch):
    written = []

    def page(run):  # what is on it: test_report
        written.append(run.name)
        target = run.folder / "report" / "report.html"
        target.parent.mkdir()
        target.write_text(f"<title>{run.name}")
        return target

    monkeypatch.setattr(write, "write", page)
    assert main.main(["tiny", "--seeds", "0", *QUICK, "--name", "without"]) == 0
    assert not (home / "runs" / "without-s0" / "report").exists()
    for words in (["--seeds", "0"], ["--folds", "2"]):
        assert main.main(["tiny", *words, *QUICK[:-1], "--name", "with"]) == 0
    assert written == ["with-s0", "with-f0", "with-f1"]
    for name in written:
        assert f"<title>{name}" in (home / "runs" / name / "report" / "report.html").read_text()
    assert main.main(["tiny", "--seeds", "0", *QUICK[:-1], "--name", "with"]) == 0  # found done, with its report
    assert len(written) == 3


@pytest.mark.parametrize("folds", ["0", "1", "-1"])
def test_too_few_folds_are_refused(home, capsys, folds):
    assert main.main(["tiny", "--folds", folds]) == 2
    assert f"--folds {folds}: expected 2 to 1,000" in capsys.readouterr().err


def test_folds_hold_every_image_out_once(home, capsys):
    assert main.main(["tiny", "--folds", "3", *QUICK]) == 0
    held = [json.loads((home / "runs" / f"tiny-digits-f{n}" / "split.json").read_text())["holdout"] for n in range(3)]
    ids = [id for part in held for id in part]
    assert len(ids) == len(set(ids)) == 1438
    out = capsys.readouterr().out
    made = Run.find("tiny-digits-folds")
    score = json.loads((made.folder / "result.json").read_text())["holdout"]
    assert score["count"] == 1438
    assert f"out of fold  accuracy {score['value']:.2%}" in out
    members = [np.load(home / "runs" / f"tiny-digits-f{n}" / "predict_probs.npy") for n in range(3)]
    np.testing.assert_allclose(np.load(made.folder / "predict_probs.npy"), np.mean(members, 0), atol=1e-6)
    assert ledger.read().set_index("run").loc["tiny-digits-folds"]["parameters"] == 3 * 20_506


@pytest.mark.usefixtures("few_digits")
def test_folds_that_together_are_too_heavy_keep_their_score_and_get_no_csv(home, capsys):
    text = (home / "heavy.yaml").write_text(
        "title: Digits\nsource: digits\nimage: {size: 8, channels: 1, mirror: false}\n"
        'classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]\nlimit: {parameters: 30_000}\n'
    )
    assert text
    assert main.main(["tiny", "--folds", "2", *QUICK, "--competition", str(home / "heavy.yaml")]) == 0
    out = capsys.readouterr().out
    assert "out of fold" in out
    assert "no averaged submission: together the folds have 41,012 parameters, 11,012 over the limit" in out
    assert "if some images are kept for a test: --set split.test=0.1" in out
    assert not (home / "runs" / "tiny-heavy-folds").exists()
    again = [*QUICK, "--competition", str(home / "heavy.yaml"), "--name", "again"]
    assert main.main(["tiny", "--folds", "2", *again, "--set", "split.test=0.1"]) == 0
    told = capsys.readouterr().out
    assert "one model of their weights: ./run.sh soup again-f0 again-f1" in told
    assert main.main(["soup", "again-f0", "again-f1"]) == 0
    assert ledger.read().set_index("run").loc["soup-heavy-s0"]["holdout_images"] == len(
        json.loads((home / "runs" / "again-f0" / "split.json").read_text())["test"]
    )


@pytest.mark.parametrize("option", ["--seeds=0-1", "--folds=2"])
def test_a_series_that_is_stopped_says_how_it_goes_on(home, monkeypatch, capsys, option):
    monkeypatch.setattr(series.pipeline, "execute", lambda run: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main.main(["tiny", option, *QUICK]) == 130
    assert capsys.readouterr().err == "\nstopped; the same command continues, without repeating finished runs\n"
