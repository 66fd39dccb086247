"""Every kind of Kaggle fault with every command: no traceback, no second submission, no lost record.

Afterwards the same command runs with a healthy Kaggle, and must end as if nothing had happened.
"""

import contextlib
import io
import json
import shutil
import threading
import time

import pytest

from featherweight.cli import main
from featherweight.runs import ledger
from kaggle_server import Fault

WELL = 5  # times that a fault may befall one request: more than anything is repeated
KINDS = {
    "500": Fault(500, {"message": "Internal error"}),
    "502 page": Fault(502, b"<html>Bad gateway</html>"),
    "503": Fault(503, {"message": "busy"}, {"Retry-After": "30"}),
    "429": Fault(429, {"message": "Too many requests"}, {"Retry-After": "7"}),
    "403 rules": Fault(403, {"message": "You must accept this competition's rules before you can continue"}),
    "404": Fault(404, {"message": "Not found"}),
    "401 expired": Fault(401, {"message": "Unauthenticated"}),
    "hang": Fault(seconds=1.4),
    "cut": Fault(drop="before"),
    "lost reply": Fault(drop="after"),
    "wrong JSON": Fault(200, b"{not json"),
    "a list": Fault(200, json.dumps([1, 2]).encode(), {"Content-Type": "application/json"}),
    "nothing": Fault(200, b""),
    "odd fields": Fault(200, {"submissions": "many", "ref": "no", "token": 3, "numAllowedNow": "x", "numToday": []}),
    "daily limit": Fault(400, {"message": "Your team has used its daily submission limit (5) today"}),
}
REQUESTS = {
    "submit first": ("ListSubmissions", "GetSubmissionLimits", "StartSubmissionUpload", "PUT", "CreateSubmission"),
    "scores": ("ListSubmissions",),
    "leaderboard tiny-weights": ("GetLeaderboard",),
    "download tiny-weights": ("DownloadDataFiles", "GET"),
}
ALL = [(line, name, kind) for line, names in REQUESTS.items() for name in names for kind in KINDS]


def run(line):
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()) as out:
        code = main.main(line.split())
    return code, out.getvalue(), err.getvalue()


@pytest.mark.some(16)
@pytest.mark.parametrize(("line", "name", "kind"), ALL, ids=["-".join(case).replace(" ", "_") for case in ALL])
def test_a_fault_costs_a_message_and_nothing_else(finished, home, fake_kaggle, line, name, kind):
    shutil.copytree(finished, home, dirs_exist_ok=True)
    if line == "scores":
        assert run("submit first")[0] == 0
    before = len(fake_kaggle.submissions)
    fake_kaggle.faults[name] = [KINDS[kind]] * WELL
    code, out, err = run(line)
    assert code in (0, 2, 4), err
    assert "Traceback" not in out + err
    assert err.count("\n") <= 5
    assert (code == 0) == (err == "")
    if kind in ("500", "502 page", "503", "429", "hang", "cut", "wrong JSON") and code != 0:
        assert code == 4, err
    if kind in ("403 rules", "404", "401 expired", "daily limit") and code != 0:
        assert code in (2, 4) if name == "PUT" or name == "GET" else code == 2, err

    fake_kaggle.faults.clear()
    time.sleep(KINDS[kind].seconds)  # by the time that a person tries again, what was slow has arrived
    again, _, told = run(line)
    made = len(fake_kaggle.submissions) - before
    if line == "submit first":
        # Arrived at the first time or at the second: one submission, and the ledger knows its number.
        assert again == 0 or "these very bytes were submitted" in told, told
        assert made == 1
        known = [row for row in ledger.records(ledger.submissions()) if row.get("reference")]
        assert [row["reference"] for row in known] == ["1000"]
    else:
        assert made == 0
        assert again in (0, 2), told  # the archive of the tests is no competition that can be described
        assert line != "scores" or list(ledger.submissions()["reference"]) == ["1000"]


def test_two_submissions_of_the_same_at_once_are_one(finished, home, fake_kaggle):
    shutil.copytree(finished, home, dirs_exist_ok=True)
    fake_kaggle.faults["GetSubmissionLimits"] = [Fault(seconds=0.3), Fault(seconds=0.3)]
    codes = []
    threads = [threading.Thread(target=lambda: codes.append(main.main(["submit", "first"]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [0, 2]
    assert len(fake_kaggle.submissions) == 1
