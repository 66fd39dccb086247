"""The ledger: append-only, one row per run and one per submission event, even with several writers."""

import os
import signal
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forked
from conftest import ROOT
from featherweight.errors import UserError
from featherweight.runs import ledger, unfinished


@pytest.fixture(autouse=True)
def workspace(home):
    return home


def row(run="a", date="2026-01-01T00:00:00+00:00", **more):
    basis = {"recipe": "tiny", "competition": "digits", "seed": 0, "parameters": 10, "limit": 100, "macs": 5}
    return {"run": run, "date": date, "epochs": 1, "holdout": 0.5, **basis, **more}


def sent(tag="fw-1", status="SENDING", **more):
    return {"date": "2026-01-01T00:00:00+00:00", "run": "a", "tag": tag, "status": status, **more}


def test_a_run_is_recorded_once_however_often_it_is_resumed():
    ledger.record(row())
    ledger.record(row())
    ledger.record(row(date="2026-01-02T00:00:00+00:00"))
    assert list(ledger.read()["run"]) == ["a", "a"]


def test_values_come_back_as_what_they_were():
    command = "./run.sh x --name 'a, \"b\"'"
    ledger.record(row(run="007", holdout=0.1 + 0.2, test="", command=command, commit="0123456"))
    (read,) = ledger.read().to_dict("records")
    assert (read["run"], read["commit"], read["holdout"], read["seed"]) == ("007", "0123456", 0.1 + 0.2, 0)
    assert read["command"] == command
    assert read["test"] != read["test"]  # not a number
    assert isinstance(read["parameters"], int)


def test_an_unknown_column_is_a_programming_error():
    with pytest.raises(ValueError, match="accuracy"):
        ledger.record(row(accuracy=1))
    assert not ledger.path().exists()


def test_rows_are_only_ever_appended():
    ledger.record(row("a"))
    before = ledger.path().read_bytes()
    ledger.record_submission(sent())
    ledger.record(row("b"))
    assert ledger.path().read_bytes().startswith(before)
    assert len(ledger.path().read_text().splitlines()) == 4


def test_a_submission_is_what_its_last_row_says_and_nothing_new_is_no_row():
    ledger.record_submission(sent())
    ledger.record_submission(sent(status="PENDING", reference=7))
    later = "2026-01-01T01:00:00+00:00"
    ledger.record_submission(sent(status="COMPLETE", reference=7, public=0.9) | {"date": later})
    size = ledger.path().stat().st_size
    ledger.record_submission(sent(status="COMPLETE", reference=7, public=0.9) | {"date": "2026-01-01T02:00:00+00:00"})
    assert ledger.path().stat().st_size == size
    (read,) = ledger.submissions().to_dict("records")
    assert (read["status"], read["reference"], read["public"]) == ("COMPLETE", "7", 0.9)
    assert read["date"] == "2026-01-01T00:00:00+00:00"
    assert ledger.read().empty


def test_a_clock_that_is_set_back_makes_no_submission_unsent():
    ledger.record_submission(sent())
    for status, hour in (("PENDING", 22), ("COMPLETE", 21)):
        ledger.record_submission(sent(status=status, reference=7) | {"date": f"2025-12-31T{hour}:00:00+00:00"})
    (read,) = ledger.submissions().to_dict("records")
    assert (read["status"], read["reference"]) == ("COMPLETE", "7")


def test_a_ledger_of_an_earlier_version_is_read_and_goes_on():
    ledger.path().parent.mkdir(parents=True)
    ledger.path().write_text("date,run,recipe,holdout\n2025-01-01T00:00:00+00:00,old,tiny,0.25\n")
    ledger.record(row("new"))
    assert list(ledger.read()["run"]) == ["old", "new"]
    assert list(ledger.read()["holdout"]) == [0.25, 0.5]


def test_a_row_that_a_merge_brought_twice_counts_once():
    ledger.record(row("a"))
    header, line = ledger.path().read_text().splitlines()
    ledger.path().write_text("\n".join([header, line, "", line]) + "\n")
    assert len(ledger.read()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "row 1: this is not a ledger"),
        (b"id,label\n1,cat\n", "row 1: this is not a ledger"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"date,run\n2025,a\n<<<<<<< ours\n", "row 3: expected 2 fields, got 1 .a merge conflict?."),
        (b"date,run\n2025,a,b\n", "row 2: expected 2 fields, got 3"),
    ],
)
def test_what_is_not_a_ledger_is_said_and_left_alone(content, message):
    ledger.path().parent.mkdir(parents=True)
    ledger.path().write_bytes(content)
    for use in (ledger.read, lambda: ledger.record(row())):
        with pytest.raises(UserError, match=message):
            use()
    assert ledger.path().read_bytes() == content


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.sampled_from(["command", "message", "device"]), st.text(max_size=40)))
def test_any_text_survives_as_one_line(tmp_path_factory, texts):
    os.environ["FEATHERWEIGHT_HOME"] = str(tmp_path_factory.mktemp("any"))
    texts = {key: value.encode(errors="ignore").decode() for key, value in texts.items()}
    ledger.record(row(**texts))
    ledger.record(row("b"))
    assert len(ledger.path().read_bytes().split(b"\n")) == 4
    (read, _) = ledger.read().to_dict("records")
    assert all(read[key] == " ".join(value.splitlines()) for key, value in texts.items())


def _write_ten(writer):
    for number in range(10):
        ledger.record(row(f"{writer}-{number}"))
        ledger.record_submission(sent(f"{writer}-{number}"))


def test_several_processes_lose_no_row():
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import test_ledger; test_ledger._write_ten"
    writers = [forked.begin(["-c", f"{program}({writer})"]) for writer in range(4)]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == [""] * 4
    assert len(set(ledger.read()["run"])) == 40
    assert len(ledger.submissions()) == 40


def test_a_writer_killed_at_any_moment_leaves_whole_rows_and_no_lock(workspace):
    program = "from featherweight.runs import ledger; import itertools\n"
    program += "for n in itertools.count(): ledger.record(dict(date=str(n), run='a' * 2000, seed=n))"
    for pause in (0.05, 0.11, 0.17):
        writer = forked.begin(["-c", program])
        rows = len(ledger.read())
        while len(ledger.read()) <= rows and writer.poll() is None:
            time.sleep(0.01)
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert len(ledger.read()) > rows
        ledger.path().unlink()
    ledger.record(row("after"))
    assert list(ledger.read()["run"]) == ["after"]


def test_settings_name_everything_that_can_differ():
    recipe = {
        "optimizer": {"name": "sgd", "lr": 0.1},
        "augment": [{"name": "crop", "padding": 0.1}, {"name": "flip", "p": 1}, {"name": "crop", "padding": 0.2}],
        "predict": {"views": []},
        "seed": 3,
    }
    assert ledger.settings(recipe) == (
        '{"augment":"crop+flip+crop","augment.crop#2.padding":0.2,"augment.crop.padding":0.1,"augment.flip.p":1,'
        '"optimizer.lr":0.1,"optimizer.name":"sgd","predict.views":[]}'
    )


def test_a_run_with_a_damaged_file_is_listed_as_such(home):
    folder = home / "runs" / "broken copy"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{")
    (found,) = unfinished.unfinished()
    assert str(found) == "broken copy: damaged; see what is wrong with: ./run.sh resume 'broken copy'"
    assert list(unfinished.unfinished("digits")) == []
