import os
import subprocess
import sys
from pathlib import Path

import pytest

from featherweight import ledger
from featherweight.errors import UserError


def row(run: str, **changes):
    return {
        **dict.fromkeys(ledger.COLUMNS, ""),
        "date": "2026-01-01T00:00:00+00:00",
        "run": run,
        "holdout": 0.5,
        **changes,
    }


def test_rows_are_kept_in_order_and_never_twice(home):
    for name in ("one", "two", "one"):
        ledger.record(row(name))
    assert ledger.read()["run"].tolist() == ["one", "two"]
    ledger.record(row("one", date="2026-01-02T00:00:00+00:00"))
    assert len(ledger.read()) == 3


def test_text_stays_text(home):
    ledger.record(row("007", commit="0123", command='./run.sh x --set "a,b"'))
    read = ledger.read().iloc[0]
    assert (read["run"], read["commit"], read["command"]) == ("007", "0123", './run.sh x --set "a,b"')


def test_runs_that_end_at_once_all_stand_there(home):
    code = "import sys; sys.path.insert(0, 'tests'); from test_ledger import row; from featherweight import ledger\n"
    code += "for i in range(10): ledger.record(row(f'{sys.argv[1]}-{i}'))"
    root = Path(__file__).resolve().parents[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(n)], cwd=root, env={**os.environ, "PYTHONPATH": f"{root}/src"}
        )
        for n in range(4)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    names = ledger.read()["run"].tolist()
    assert sorted(names) == sorted(f"{n}-{i}" for n in range(4) for i in range(10))


def test_a_file_that_is_no_ledger_is_refused(home):
    ledger.path().parent.mkdir()
    ledger.path().write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"ledger\.csv: row 1: expected the columns date,run"):
        ledger.read()
    with pytest.raises(UserError):
        ledger.record(row("one"))
    assert ledger.path().read_text() == "a,b\n1,2\n"
