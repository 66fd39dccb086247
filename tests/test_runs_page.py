"""The page of all runs: its content, and how a browser shows it on a phone and on a desktop, offline."""

import json
import re
import shutil

import pandas as pd
import pytest

from browser import Browser, missing
from featherweight import paths
from featherweight.cli import main
from featherweight.runs import ledger, query
from featherweight.runs.history import EVERY_EPOCH


@pytest.fixture
def several(finished, home):
    """Make three runs of two competitions: one with its folder, one without, one with text that is unsafe in HTML."""
    shutil.copytree(finished, home, dirs_exist_ok=True)
    row = ledger.records(query.table())[0]
    row.pop("keys")
    ledger.record({**row, "run": "better", "date": "2027", "holdout": 0.99, "minutes": 10.5})
    ledger.record({**row, "run": "worse", "date": "2028", "holdout": 0.09, "command": "</script>"})
    ledger.record({**row, "run": "other", "competition": "cifar10", "date": "2026-01-01T00:00"})
    for run, slope in (("better", 0.01), ("worse", 0.005)):
        shutil.copytree(home / "runs" / "first", home / "runs" / run)
        epochs = range(1, 501)
        rising = {
            "epoch": epochs,
            "train_loss": [0.1 * n for n in epochs],
            "holdout_score": [slope * n / 5 for n in epochs],
        }
        history = pd.DataFrame({**dict.fromkeys(EVERY_EPOCH, float("nan")), "seconds": 1.0, **rising})
        history.to_csv(home / "runs" / run / "history.csv", index=False)
    return home


def page_of(home, capsys, *words):
    assert main.main(["runs", "--html", *words]) == 0
    assert "runs.html" in capsys.readouterr().out
    return home / "reports" / "runs.html"


def test_it_holds_every_run_with_its_curves(several, capsys):
    text = page_of(several, capsys).read_text()
    found = json.loads(re.search(r"const CURVES = (\{.*?\}), PANELS", text)[1])
    assert len(found) == 3
    long = next(curves for curves in found.values() if len(curves["holdout_score"][0]) > 2)
    assert (long["holdout_score"][0][0], long["holdout_score"][0][-1], len(long["holdout_score"][0])) == (1, 500, 200)
    outside = re.findall(r"""(?:src|href)=["']?((?!data:|#)[^"'> ]+)""", text)
    assert outside == []  # no report was written, and nothing else is fetched
    assert len(re.findall("<tr data-number", text)) == 4


def test_without_runs_no_page_is_made(home, capsys):
    assert main.main(["runs", "--html"]) == 0
    assert "there are no finished runs yet" in capsys.readouterr().out
    assert not list(home.rglob("*.html"))


@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desk"])
def test_in_a_browser(several, capsys, width):
    if missing():
        pytest.skip(missing())
    page = page_of(several, capsys)
    with Browser(width, dark=False) as browser:
        browser.open(page)
        assert browser.console() == []
        assert [address for address in browser.requests() if not address.startswith("data:")] == [page.as_uri()]
        assert browser.run("return document.documentElement.scrollWidth") == width

        def shown():
            return browser.run("return [...document.querySelectorAll('tbody tr')].filter(r => !r.hidden)"
                               ".map(r => r.cells[1].dataset.value)")  # fmt: skip

        def curves():
            return browser.run("return [...document.querySelectorAll('.panels section')].map(s => "
                               "[s.firstChild.textContent, s.querySelectorAll('path').length])")  # fmt: skip

        assert shown() == ["other"]  # of cifar10, which comes first
        assert curves() == []
        browser.run("const c = document.getElementById('competition'); c.value = 'ours'; c.onchange()")
        assert shown() == ["better", "first", "worse"]
        assert curves() == [["holdout accuracy", 3], ["holdout loss", 1], ["training loss", 3]]
        browser.run("document.querySelectorAll('th button')[1].click()")
        assert shown() == ["better", "first", "worse"]
        browser.run("document.querySelectorAll('th button')[1].click()")
        assert shown() == ["worse", "first", "better"]
        browser.run("document.querySelectorAll('tbody tr:not([hidden]) input')[0].click()")
        assert curves() == [["holdout accuracy", 2], ["holdout loss", 1], ["training loss", 2]]
        boxes = browser.run("return [...document.querySelectorAll('.panels svg, th, td')].map(e => "
                            "e.getBoundingClientRect()).filter(b => b.width).map(b => [b.left, b.right])")  # fmt: skip
        assert all(0 <= left < right <= width for left, right in boxes)


def test_a_report_is_linked_where_it_is_there(several, capsys):
    report = paths.runs() / "better" / "report" / "report.html"
    report.parent.mkdir()
    report.write_text("x")
    assert 'href="../runs/better/report/report.html"' in page_of(several, capsys).read_text()
