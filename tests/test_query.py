"""Queries of the ledger."""

import json
import re

import pytest
from filelock import FileLock

from featherweight import paths
from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.errors import UserError
from featherweight.kaggle.responses import LeaderboardRow
from featherweight.report import figures, tables
from featherweight.runs import ledger, query
from featherweight.runs.request import RunRequest


@pytest.fixture(autouse=True)
def workspace_of_its_own(home):
    return home


def record(run, *, recipe="tiny", competition="digits", seed=0, holdout=0.9, lr=0.1, sha="", **more):
    settings = ledger.settings({"optimizer": {"name": "sgd", "lr": lr}, "augment": [], "seed": seed})
    basis = {"date": f"2026-01-01T00:00:{seed:02d}+00:00", "parameters": 1000, "limit": 2000, "macs": 1, "epochs": 1}
    interval = {"holdout_low": holdout - 0.02, "holdout_high": holdout + 0.02, "holdout_images": 1000}
    named = {"run": run, "recipe": recipe, "competition": competition, "seed": seed, "holdout": holdout}
    ledger.record({**basis, **interval, **named, "minutes": 2.0, "settings": settings, "csv_sha256": sha, **more})


def public(sha, score):
    basis = {"date": "2026-01-02T00:00:00+00:00", "tag": f"fw-{sha}", "csv_sha256": sha}
    ledger.record_submission({**basis, "status": "COMPLETE", "public": score, "reference": 1})


def names(rows):
    return list(rows["run"])


def test_scores_by_different_metrics_have_no_mean():
    record("accurate", seed=0, metric="accuracy")
    record("likely", seed=1, metric="log_loss", holdout=0.3)
    assert sorted(query.by_seed(query.table())["metric"]) == ["accuracy", "log_loss"]


def test_scores_by_other_metrics_are_not_shown_as_percent_of_accuracy(capsys):
    record("accurate", metric="accuracy")
    record("unknown")
    tables.ledger(query.table(), ["", ""])
    assert "holdout %" in capsys.readouterr().out
    record("likely", seed=1, metric="log_loss", competition="cifar10", holdout=0.3)
    tables.ledger(query.table(), ["", "", ""])
    tables.by_seed(query.by_seed(query.table()))
    shown = capsys.readouterr().out
    assert "holdout %" not in shown
    assert [line.split().count("metric") for line in shown.splitlines() if "competition" in line] == [1, 1]
    assert [line.count("log loss") for line in shown.splitlines() if "0.3000" in line] == [1, 1]


def test_best_first_within_each_competition():
    record("low", holdout=0.8)
    record("high", holdout=0.95)
    record("other", competition="cifar10", holdout=0.5)
    assert names(query.ordered(query.table(), None)) == ["other", "high", "low"]


def test_sorting_by_a_column_or_a_recipes_key_with_what_has_none_last():
    record("a", lr=0.3)
    record("b", lr=0.1)
    record("c", lr=0.2)
    ledger.record({"run": "old", "date": "2025", "parameters": 5, "limit": 9, "macs": 1, "epochs": 1, "seed": 0})
    rows = query.table()
    assert names(query.ordered(rows, "optimizer.lr")) == ["a", "c", "b", "old"]
    assert names(query.ordered(rows, "optimizer.lr", ascending=True)) == ["b", "c", "a", "old"]
    assert names(query.ordered(rows, "parameters", ascending=True))[0] == "old"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("recipe=tiny", ["a", "b"]),
        ("optimizer.lr>0.1", ["b"]),
        ("optimizer.lr<=0.1", ["a", "c"]),
        ("optimizer=sgd", ["a", "b", "c"]),
        ("seed!=0", ["c"]),
        ("holdout>=0.9", ["a", "b", "c"]),
        ("recipe=none", []),
    ],
)
def test_conditions(condition, expected):
    record("a")
    record("b", lr=0.2)
    record("c", recipe="wide", seed=1)
    assert names(query.where(query.table(), [condition])) == expected


def test_an_order_without_a_key_is_refused(capsys):
    assert main.main(["runs", "--ascending"]) == 2
    assert "--ascending: name the column or the key too" in capsys.readouterr().err


def test_a_key_that_no_run_has_is_refused_with_the_nearest():
    record("a")
    with pytest.raises(UserError, match=r"no run has a 'optimiser.lr'; did you mean 'optimizer.lr'"):
        query.where(query.table(), ["optimiser.lr=1"])
    with pytest.raises(UserError, match="expected KEY=VALUE"):
        query.where(query.table(), ["tiny"])
    with pytest.raises(UserError, match="--sort hold"):
        query.ordered(query.table(), "hold")


def test_seeds_of_one_recipe_are_one_line_and_a_changed_key_is_another():
    record("s0", seed=0, holdout=0.90)
    record("s1", seed=1, holdout=0.94)
    record("s1-again", seed=1, holdout=0.92, date="2026-01-03")
    record("hotter", seed=0, lr=0.2, holdout=0.80)
    first, second = query.by_seed(query.table()).to_dict("records")
    assert (first["seeds"], second["seeds"]) == (2, 1)
    assert first["holdout"] == pytest.approx(0.91)
    assert first["holdout_sd"] == pytest.approx(0.0141421, abs=1e-6)
    assert second["holdout_sd"] != second["holdout_sd"]


def test_of_a_seed_run_twice_the_latest_counts_whatever_the_order_of_the_rows():
    record("s0", seed=0, holdout=0.90)
    record("s0-again", seed=0, holdout=0.95, date="2026-01-03", minutes=1.0)
    for rows in (query.table(), query.ordered(query.table(), None)):
        (line,) = query.by_seed(rows).to_dict("records")
        assert (line["seeds"], line["holdout"], line["minutes"]) == (1, 0.95, 1.0)
        assert (line["holdout_low"], line["holdout_high"]) == pytest.approx((0.93, 0.97))


def test_soups_and_ensembles_are_lines_of_their_own_and_not_seeds_of_their_first_member():
    """Their rows contain the first member's settings and seed."""
    record("s0", seed=0, holdout=0.90)
    record("s1", seed=1, holdout=0.92)
    record("soup", recipe="soup", holdout=0.93, command="./run.sh soup s0 s1")
    record("two", recipe="ensemble", holdout=0.94, parameters=2000)
    record("three", recipe="ensemble", holdout=0.95, parameters=3000)
    rows = query.by_seed(query.ordered(query.table(), None))
    found = [tuple(row) for row in rows[["recipe", "parameters", "seeds"]].to_numpy()]
    assert found == [("ensemble", 3000, 1), ("ensemble", 2000, 1), ("soup", 1000, 1), ("tiny", 1000, 2)]
    tiny = rows.iloc[3]
    assert tiny["holdout"] == pytest.approx(0.91)
    assert tiny["command"] != "./run.sh soup s0 s1"


def test_what_differs_is_told_against_what_most_have():
    record("a")
    record("b", seed=1)
    record("c", lr=0.2)
    record("d", competition="cifar10", lr=0.2)
    assert query.differences(query.table()) == ["", "", "optimizer.lr=0.2", ""]


def test_of_many_differences_the_first_are_told(monkeypatch):
    record("a")
    record("b")
    record("c", lr=0.2)
    monkeypatch.setattr(query, "KEYS_SHOWN", 0)
    assert query.differences(query.table()) == ["", "", "and 1 more"]


def test_the_public_score_stands_beside_the_run_whose_bytes_were_uploaded():
    record("a", sha="aa")
    record("b", sha="bb")
    public("bb", 0.85)
    rows = query.table().set_index("run")
    assert rows["public"]["b"] == 0.85
    assert rows["public"].isna()["a"]


def test_a_gap_larger_than_chance_is_said(capsys):
    record("near", sha="aa", holdout=0.9654, predict_images=10000)
    record("shifted", sha="bb", holdout=0.9654, predict_images=10000)
    record("easier", sha="cc", holdout=0.90, predict_images=10000)
    public("aa", 0.955)
    public("bb", 0.8809)
    public("cc", 0.99)
    near, shifted, easier = query.gaps(query.table())
    assert not near.surprising
    assert shifted.surprising
    assert "-8.45 points" in str(shifted)
    assert "shifted, or training images leak into the holdout" in str(shifted)
    assert "easier" in str(easier)
    # standard error 0.04 / 3.92 over 1,000 images, and a third of that spread for 3,000 of the 10,000
    assert near.chance == pytest.approx(2.576 * 0.0102041 * (1 + 1 / 3) ** 0.5, rel=1e-3)
    assert main.main(["runs", "--plot"]) == 0
    assert "the images to predict are shifted" in capsys.readouterr().out
    assert (paths.reports() / "holdout_against_public.png").read_bytes().startswith(b"\x89PNG")


def test_a_loss_is_worse_where_it_is_higher():
    record("loss", sha="aa", holdout=0.40, metric="log_loss", predict_images=10000)
    public("aa", 0.90)
    (gap,) = query.gaps(query.table())
    assert str(gap).startswith("loss: public 0.9000, holdout 0.4000: +0.5000 nats, more than sampling error (0.0")
    assert "shifted, or training images leak into the holdout" in str(gap)
    (axes,) = figures.holdout_against_public([gap]).axes
    assert axes.get_xlabel() == "holdout (95 % interval)"


def test_the_same_figure_has_the_same_bytes():
    gap = query.Gap("a", "digits", 0.9, 0.88, 0.92, 0.85, 0.03)
    assert figures.png(figures.holdout_against_public([gap])) == figures.png(figures.holdout_against_public([gap]))


def test_the_table_as_markdown(home, capsys):
    record("s0", holdout=0.90)
    record("s1", seed=1, holdout=0.94)
    assert main.main(["runs", "--markdown"]) == 0
    assert "| digits | tiny | 1,000 | 2 | 92.00 ± 2.83 |  | 2.0 | `" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--seeds"], ["--sort", "minutes"], ["--where", "seed=1"], ["--plot"]])
def test_the_command_shows_a_ledger_empty_or_not(capsys, options):
    assert main.main(["runs", *options]) == 0
    assert "no finished runs yet" in capsys.readouterr().out
    record("tiny-s1", seed=1)
    assert main.main(["runs", *options]) == 0
    assert ("tiny" in capsys.readouterr().out) == (options != ["--plot"])


def test_a_choice_that_no_run_fits_says_so(capsys):
    record("tiny-s1", seed=1)
    assert main.main(["runs", "--where", "seed=2"]) == 0
    assert "no finished runs like that" in capsys.readouterr().out
    assert main.main(["runs", "--competition", "digit"]) == 2
    assert (
        "there is no competition called 'digit'; did you mean 'digits'? the ledger has runs of digits"
        in capsys.readouterr().err
    )


def test_a_run_whose_folder_is_elsewhere_is_told(capsys):
    record("tiny-s1", seed=1)
    assert main.main(["runs"]) == 0
    assert "1 of 1 are not in" in capsys.readouterr().out
    assert main.main(["report", "tiny-s1"]) == 2
    assert "the ledger has a run 'tiny-s1', but its folder is not here" in capsys.readouterr().err


def test_what_others_call_themselves_is_no_markup(capsys):
    tables.leaderboard([LeaderboardRow(1, "[ods.ai] Anna [/x]", "0.9", "2026-01-01T00:00")])
    assert "[ods.ai] Anna [/x]" in capsys.readouterr().out


def stopped(home, name, epochs=2, competition="digits"):
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"recipe": "tiny", "competition": competition}))
    (folder / "history.csv").write_text("epoch,loss\n" + "".join(f"{epoch},1.0\n" for epoch in range(1, epochs + 1)))
    return folder


def test_a_stopped_run_is_listed_with_how_to_continue_it(home, capsys):
    folder = stopped(home, "cut")
    stopped(home, "elsewhere", competition="cifar10")
    once = stopped(home, "once") / "history.csv"
    once.write_text("".join(once.read_text().splitlines(keepends=True)[:2]))
    (stopped(home, "done") / "result.json").write_text("{}")
    (home / "runs" / "damaged").mkdir()
    (home / "runs" / "damaged" / "run.json").write_text("{")
    assert main.main(["runs", "--competition", "digits"]) == 0
    out = capsys.readouterr().out
    assert "cut: stopped after 2 epochs; continue with: ./run.sh resume cut\n" in out
    assert "once: stopped after 1 epoch; continue" in out
    assert "elsewhere" not in out
    assert "done: finished, and not in the ledger; add it with: ./run.sh resume done\n" in out
    with FileLock(folder / "run.lock"):
        assert main.main(["runs"]) == 0
    out = capsys.readouterr().out
    assert "cut: running after 2 epochs\n" in out
    assert "elsewhere: stopped" in out


def test_the_score_of_a_notebook_is_that_of_the_run_it_took_along():
    record("first", sha="a", holdout=0.9)
    record("first", sha="b", holdout=0.8, seed=1)  # a later run of the same name
    of_kernel = {"run": "first", "recipe": "tiny", "competition": "digits", "seed": 0, "parameters": 1000}
    basis = {"date": "2026-01-02T00:00:00+00:00", "status": "COMPLETE", "reference": 1}
    ledger.record_submission(
        {**basis, **of_kernel, "tag": "k", "csv_sha256": "kernel@2", "holdout": 0.9, "public": 0.7}
    )
    ledger.record_submission({**basis, "tag": "file", "csv_sha256": "of no run", "public": 0.1})
    assert query.table()["public"].fillna(0).tolist() == [0.7, 0.0]


def test_keys_of_earlier_versions_have_their_names_of_today():
    record("a")
    earlier = ledger.path().read_text().replace('{""', '{""split.kin"":false,""')
    ledger.path().write_text(earlier)
    record("b", seed=1)
    rows = query.table()
    assert rows["keys"][0]["split.grouped"] is False
    assert query.where(rows, ["split.kin=false"])["run"].tolist() == ["a"]
    assert query.where(rows, ["split.grouped=false"])["run"].tolist() == ["a"]


def test_a_ledger_with_damaged_settings_is_one_message_with_its_row():
    record("a")
    record("b", seed=1)
    text = ledger.path().read_text()
    for damage in ('"{""augment"":""broken"', '"[1]"'):
        ledger.path().write_text(re.sub(r'"\{""augment.*?\}"(?=[^\n]*\n$)', damage, text))
        for ask in (query.table, ledger.refuse_damaged):
            with pytest.raises(UserError, match=r"ledger.csv: .*row 3: its settings are damaged"):
                ask()


def test_the_chance_of_a_gap_is_that_of_the_stated_public_share(home, monkeypatch):
    record("stated", sha="aa", holdout=0.9654, predict_images=10000)
    public("aa", 0.955)
    (before,) = query.gaps(query.table())
    task = RunRequest(
        "tiny", load_recipe("tiny"), "digits", load_competition("digits", ["submission.public=0.5"]), ["x"]
    )
    task.start("stated")
    (after,) = query.gaps(query.table())
    assert after.chance / before.chance == pytest.approx(((1 + 1000 / 5000) / (1 + 1000 / 3000)) ** 0.5)


def test_every_metric_has_axes_of_its_own():
    shares = [query.Gap(name, "a", 0.9, 0.88, 0.92, 0.85, 0.03) for name in "ab"]
    loss = query.Gap("c", "b", 0.3, 0.2, 0.4, 2.0, 0.1, metric="log_loss")
    one, other = figures.holdout_against_public([shares[0], loss, shares[1]]).axes
    assert one.get_xlim()[0] == pytest.approx(81.0)
    assert other.get_xlim()[1] == pytest.approx(2.11)
    assert (one.get_xlabel(), other.get_xlabel()) == ("holdout % (95 % interval)", "holdout (95 % interval)")
