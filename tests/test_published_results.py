"""The published results: rows whose commits anybody can check out, and the tables made from them."""

import subprocess

import pytest

from conftest import ROOT, weighed
from featherweight import budget, paths
from featherweight.cli import main
from featherweight.runs import ledger, published_results, query

PAGE = "before\n<!-- results -->\nstale\n<!-- /results -->\nafter\n"


@pytest.fixture
def checkout(home, tmp_path, monkeypatch):
    """Make a git checkout with two commits, a page and no published results; return the folder and the first commit."""
    folder = tmp_path / "checkout"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "results.md").write_text(PAGE)
    (folder / "README.md").write_text("<!-- results: tiny@digits -->\n<!-- /results -->\n")
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    for message in ("one", "two"):
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True)
    first = subprocess.run([*git, "rev-parse", "--short=10", "HEAD~1"], check=True, capture_output=True, text=True)
    monkeypatch.setattr(paths, "CHECKOUT", folder)
    return folder, first.stdout.strip()


def record(run, commit, **more):
    numbers = {"seed": 0, "parameters": 1000, "limit": 2000, "macs": 1, "epochs": 1, "minutes": 2.0, "settings": "{}"}
    scores = {"metric": "accuracy", "holdout": 0.9, "holdout_low": 0.88, "holdout_high": 0.92, "holdout_images": 1000}
    named = {"date": "2026-01-01T00:00:00+00:00", "run": run, "recipe": "tiny", "competition": "digits"}
    ledger.record(
        {**named, **numbers, **scores, "commit": commit, "csv_sha256": run, "command": "./run.sh tiny", **more}
    )


def test_a_run_is_published_once_with_its_public_score_and_the_tables_follow(checkout, capsys):
    folder, commit = checkout
    record("a", commit)
    record("other", commit, competition="cifar10")
    ledger.record_submission(
        {"date": "2026-01-02", "tag": "t", "csv_sha256": "a", "status": "COMPLETE", "public": 0.85}
    )
    assert main.main(["publish", "a"]) == 0
    assert main.main(["publish", "other"]) == 0
    assert capsys.readouterr().out.count("wrote") == 5
    row = "| digits | tiny | 1,000 | 1 | 90.00 [88.00, 92.00] | 85.00 | 2.0 | `./run.sh tiny` |\n"
    table = (folder / "docs" / "results.md").read_text()
    assert row in table
    assert "| cifar10 |" in table
    assert table.startswith("before\n")
    assert table.endswith("<!-- /results -->\nafter\n")
    readme = (folder / "README.md").read_text()
    assert row in readme
    assert "cifar10" not in readme
    published_rows = (folder / "docs" / "results.csv").read_text()
    assert main.main(["publish", "a"]) == 0
    assert (folder / "docs" / "results.csv").read_text() == published_rows
    capsys.readouterr()
    assert main.main(["publish"]) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("commit", "why"),
    [
        ("", "was not run from a git checkout"),
        ("FIRST+", "was run from changed code (commit FIRST+)"),
        ("0123456789", "was run at commit 0123456789, which is not in this checkout's history"),
    ],
)
def test_a_run_of_code_that_nobody_can_check_out_is_refused(checkout, capsys, commit, why):
    folder, first = checkout
    record("good", first)
    record("bad", commit.replace("FIRST", first))
    assert main.main(["publish", "good", "bad"]) == 2
    assert f"error: publish: bad {why.replace('FIRST', first)}; run it again" in capsys.readouterr().err
    assert not (folder / "docs" / "results.csv").exists()
    assert (folder / "docs" / "results.md").read_text() == PAGE
    assert main.main(["publish", "nothing"]) == 2
    assert "the ledger has no run 'nothing'" in capsys.readouterr().err


def test_what_this_repository_publishes_can_be_checked_out_and_stands_in_its_tables():
    shallow = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--is-shallow-repository"], capture_output=True)
    rows = query.table(published_results.path())
    assert len(rows)
    assert not any(commit.endswith("+") for commit in rows["commit"])
    if shallow.stdout.strip() == b"false":
        assert [run for run in ledger.records(rows) if published_results.unpublishable(run["commit"])] == []
    rows = query.ordered(rows, None)
    for page in published_results.pages()[:2]:
        found = published_results.MARKERS.search(page.read_text())
        assert found, f"{page} has no table"
        table = published_results.markdown(published_results._chosen(rows, found["recipes"]))
        assert found["table"] == table, f"{page}: run ./run.sh publish"


@pytest.mark.slow
def test_the_page_of_models_is_not_stale(monkeypatch):
    monkeypatch.setattr(budget, "weigh_all", lambda recipes, _: [weighed(name) for name in recipes])
    text = (ROOT / "docs" / "models.md").read_text()
    assert published_results.MODELS.search(text)
    assert published_results.models() in text, "run ./run.sh publish"
