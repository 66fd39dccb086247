"""From a finished run to a score in the ledger, with a simulated Kaggle, through the command line."""

import io
import os
import shutil
import signal
import stat
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from conftest import start
from featherweight.cli import main, parser
from featherweight.config import load_competition
from featherweight.errors import OverBudget, UserError
from featherweight.kaggle import client as kaggle_client
from featherweight.kaggle import download as kaggle_download
from featherweight.kaggle import polling, submit_and_score
from featherweight.runs import ledger
from kaggle_server import TOKEN, Fault, archive

RUN = ("tiny", "--competition", "ours", "--set", "train.epochs=1", "--no-report", "--name")


@pytest.fixture(autouse=True)
def workspace(finished, home, fake_kaggle):
    shutil.copytree(finished, home, dirs_exist_ok=True)
    return home


def test_a_run_is_submitted_and_its_score_comes_back(fake_kaggle, workspace, capsys):
    assert main.main(["submit", "first"]) == 0
    told = capsys.readouterr().out
    assert "359 rows, checked" in told
    assert "(5 left today)" in told
    assert "kaggle competitions submit tiny-weights -f" in told
    assert "first is submission 1000 of tiny-weights: pending\nnext: ./run.sh scores" in told
    run = ledger.records(ledger.read())[0]
    (row,) = ledger.records(ledger.submissions())
    assert (row["status"], row["reference"], row["run"]) == ("PENDING", "1000", "first")
    assert [row[key] for key in ("holdout", "holdout_low", "csv_sha256")] == [
        run[key] for key in ("holdout", "holdout_low", "csv_sha256")
    ]
    assert row.get("commit") == run.get("commit")
    sent = fake_kaggle.uploads[fake_kaggle.submissions[0]["content"]]
    assert sent == (workspace / "submissions" / "first.csv").read_bytes()

    edited = {"description": "edited on the site, so known by its number alone"}
    fake_kaggle.submissions[0].update(status="COMPLETE", publicScore="0.875", privateScore="0.75", **edited)
    assert main.main(["scores"]) == 0
    assert "0.87500" in capsys.readouterr().out
    (row,) = ledger.records(ledger.submissions())
    assert (row["status"], row["public"], row["private"]) == ("COMPLETE", 0.875, 0.75)
    assert main.main(["runs"]) == 0
    assert "87.50" in capsys.readouterr().out


def test_the_main_job_submits_when_asked(fake_kaggle, capsys):
    assert main.main([*RUN, "second", "--submit", "--seed", "1"]) == 0
    assert "second is submission 1000" in capsys.readouterr().out


def test_the_main_job_is_refused_before_it_trains_where_it_could_not_be_submitted(fake_kaggle, monkeypatch, capsys):
    assert main.main(["tiny", "--submit", "--name", "none"]) == 2
    assert "the competition digits has no Kaggle name" in capsys.readouterr().err
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert main.main([*RUN, "none", "--submit"]) == 2
    assert "there are no Kaggle credentials" in capsys.readouterr().err
    with pytest.raises(UserError, match="there is no run called 'none'"):
        submit_and_score.submit("none", competition=None, message=None, again=False)


def test_the_same_bytes_are_not_submitted_twice_unless_asked(fake_kaggle, workspace, capsys):
    assert main.main(["submit", "first"]) == 0
    assert main.main(["submit", "first"]) == 2
    assert "these very bytes were submitted on 2026-11-22 12:00 as 1000" in capsys.readouterr().err
    ledger.path().unlink()  # another machine's ledger does not know, but Kaggle does
    shutil.copy(workspace / "submissions" / "first.csv", workspace / "other.csv")
    assert main.main(["submit", str(workspace / "other.csv"), "--competition", "ours"]) == 2
    assert main.main(["submit", str(workspace / "other.csv"), "--competition", "ours", "--again", "-m", "twice"]) == 0
    first, second = (s["description"].rpartition("[")[2] for s in reversed(fake_kaggle.submissions))
    assert (first[-3:], second[-3:]) == ("-1]", "-2]")
    assert first[:-3] == second[:-3]


@pytest.mark.parametrize("drop", ["after", "before"])
def test_a_lost_answer_is_neither_a_second_submission_nor_a_lost_record(fake_kaggle, monkeypatch, capsys, drop):
    fake_kaggle.faults["CreateSubmission"] = [Fault(drop=drop)]
    fake_kaggle.hidden = True
    assert main.main(["submit", "first"]) == 4
    assert "Run the same command again" in capsys.readouterr().err
    assert list(ledger.submissions()["status"]) == ["SENDING"]
    fake_kaggle.hidden = False
    assert main.main(["submit", "first"]) == 0
    assert ("the last attempt had arrived" in capsys.readouterr().out) == (drop == "after")
    assert len(fake_kaggle.submissions) == 1
    assert sorted(ledger.submissions()["status"]) == (["PENDING"] if drop == "after" else ["LOST", "PENDING"])


def test_killed_while_submitting_nothing_is_lost(fake_kaggle, workspace, capsys, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(kaggle_client.Kaggle, "look_for", killed)  # the submission was made, its record was not
    assert main.main(["submit", "first"]) == 130
    monkeypatch.undo()
    os.environ.update(FEATHERWEIGHT_HOME=str(workspace), KAGGLE_API_TOKEN=TOKEN, **fake_kaggle.environment)
    monkeypatch.setenv("HOME", str(workspace))
    assert main.main(["scores"]) == 0
    assert list(ledger.submissions()["reference"]) == ["1000"]


def test_a_process_killed_between_the_submission_and_its_answer_loses_nothing(fake_kaggle, capsys):
    fake_kaggle.faults["CreateSubmission"] = [Fault(seconds=0.5)]
    process = start(["submit", "first"], start_new_session=True)
    while "CreateSubmission" not in fake_kaggle.asked and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert list(ledger.submissions()["status"]) == ["SENDING"]
    while not fake_kaggle.submissions:
        time.sleep(0.02)
    assert main.main(["submit", "first"]) == 0
    assert "the last attempt had arrived" in capsys.readouterr().out
    assert len(fake_kaggle.submissions) == 1
    assert list(ledger.submissions()["reference"]) == ["1000"]


def test_a_refusal_is_recorded_and_may_be_tried_again(fake_kaggle, capsys):
    fake_kaggle.faults["CreateSubmission"] = [Fault(200, {"message": "Submission not accepted", "ref": 0})]
    assert main.main(["submit", "first"]) == 2
    assert "Kaggle refused to submit to tiny-weights: Submission not accepted" in capsys.readouterr().err
    assert list(ledger.submissions()["status"]) == ["REFUSED"]
    assert main.main(["submit", "first"]) == 0
    assert len(fake_kaggle.submissions) == 1


def test_without_submissions_left_nothing_is_uploaded(fake_kaggle, capsys):
    fake_kaggle.left = 0
    assert main.main(["submit", "first"]) == 2
    assert "no submissions left today in tiny-weights (1 made)" in capsys.readouterr().err
    assert "StartSubmissionUpload" not in fake_kaggle.asked


def test_weights_over_the_limit_are_not_submitted(fake_kaggle, workspace):
    path = workspace / "runs" / "first" / "competition.yaml"
    path.write_text(path.read_text().replace("parameters: 5000000", "parameters: 20000"))
    with pytest.raises(OverBudget):
        submit_and_score.submit("first", competition=None, message=None, again=False)
    assert not fake_kaggle.asked


def test_weights_that_are_not_the_recipes_are_not_submitted(fake_kaggle, workspace):
    path = workspace / "runs" / "first" / "recipe.yaml"
    path.write_text(path.read_text().replace("width: 0.5", "width: 0.25"))
    with pytest.raises(UserError, match="these weights do not fit the recipe"):
        submit_and_score.submit("first", competition=None, message=None, again=False)
    assert not fake_kaggle.asked


def test_a_spoiled_csv_is_not_submitted(fake_kaggle, workspace):
    path = workspace / "submissions" / "first.csv"
    path.write_text(path.read_text().replace("\n", "\nextra,1\n", 1))
    with pytest.raises(UserError, match="not what first wrote"):
        submit_and_score.submit("first", competition=None, message=None, again=False)
    with pytest.raises(UserError, match="row 2: the id 'extra' is not one of the images to predict"):
        submit_and_score.submit(str(path), competition="ours", message=None, again=False)
    with pytest.raises(UserError, match="is of no run in the ledger: name its competition with --competition"):
        submit_and_score.submit(str(path), competition=None, message=None, again=False)
    assert not fake_kaggle.asked


def test_waiting_ends_with_the_score_whatever_happens_meanwhile(fake_kaggle, monkeypatch, capsys):
    monkeypatch.setattr(polling, "POLL_SECONDS", (0.01,))
    looks = iter(range(100))

    def answer(name, asked, plain=fake_kaggle.answer):
        if name == "ListSubmissions" and fake_kaggle.submissions and next(looks) == 4:
            fake_kaggle.submissions[0].update(status="COMPLETE", publicScore="0.5")
        return plain(name, asked)

    monkeypatch.setattr(fake_kaggle, "answer", answer)
    fake_kaggle.faults["ListSubmissions"] = [None, None, Fault(429, {"code": 429, "message": ""}), Fault(500, {})]
    assert main.main(["submit", "first", "--wait"]) == 0
    assert "public score 0.50000, holdout 0." in capsys.readouterr().out


def test_what_kaggle_cannot_score_is_an_error(fake_kaggle, monkeypatch, capsys):
    monkeypatch.setattr(polling, "POLL_SECONDS", (0.01,))
    plain = fake_kaggle.answer

    def answer(name, asked):
        for made in fake_kaggle.submissions:
            made.update(status="ERROR", errorDescription="Evaluation Exception")
        return plain(name, asked)

    monkeypatch.setattr(fake_kaggle, "answer", answer)
    assert main.main(["submit", "first", "--wait"]) == 2
    assert "could not score it: Evaluation Exception" in capsys.readouterr().err


def test_scores_of_nothing_ask_nobody(fake_kaggle, monkeypatch, capsys):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert main.main(["scores"]) == 0
    assert "no submissions yet" in capsys.readouterr().out
    assert not fake_kaggle.asked


def test_the_leaderboard(fake_kaggle, capsys):
    assert main.main(["leaderboard", "ours", "--top", "2"]) == 0
    assert "Grace" in capsys.readouterr().out
    assert main.main(["leaderboard", "digits"]) == 2
    assert main.main(["leaderboard", "what is this"]) == 2


# Downloads


def photographs() -> bytes:
    """Make a small competition of real images, zipped as by Kaggle."""
    files = {"sample_submission.csv": b"id,label\n1.png,bright\n2.png,bright\n"}
    rng = np.random.default_rng(0)
    for name, low in (
        (f"{part}/{place}.png", low)
        for part, low in (("train/bright", 150), ("train/dark", 0), ("test", 90))
        for place in (1, 2)
    ):
        picture = io.BytesIO()
        Image.fromarray(rng.integers(low, low + 100, (64, 64, 3), dtype=np.uint8)).save(picture, "PNG")
        files[name] = picture.getvalue()
    return archive(files)


def test_data_are_fetched_unpacked_and_described(fake_kaggle, workspace, capsys):
    fake_kaggle.data = photographs()
    assert main.main(["download", "tiny-weights"]) == 0
    folder = workspace / "data" / "tiny-weights"
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 7
    assert load_competition("tiny-weights").kaggle == "tiny-weights"
    assert [path.name for path in (workspace / "data").iterdir()] == ["tiny-weights"]
    asked = len(fake_kaggle.asked)
    assert main.main(["download", "tiny-weights"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert len(fake_kaggle.asked) == asked


def test_what_is_downloaded_is_described_with_the_options_of_init(fake_kaggle, capsys):
    fake_kaggle.data = photographs()
    stated = ["--metric", "macro_f1", "--limit", "300k", "--size", "32", "--no-mirror", "--pretrained"]
    command = ["download", "tiny-weights", *stated]
    assert main.main(["download", "tiny-weights", "--metric", "f7"]) == 2
    assert "--metric f7: there is no such metric" in capsys.readouterr().err
    assert not fake_kaggle.asked
    assert main.main([*command, "--name", "tiny", "--label", "x"]) == 0
    told = capsys.readouterr().out
    assert "no competition file was written: --label x" in told
    assert f"tiny-weights --kaggle tiny-weights {' '.join(stated)} --name tiny --label x, when that is fixed" in told
    assert main.main(command) == 0
    written = load_competition("tiny-weights")
    assert (written.kaggle, written.metric.name, written.limit.parameters) == ("tiny-weights", "macro_f1", 300_000)
    assert (written.image.size, written.image.mirror, written.limit.allow_pretrained) == (32, False, True)
    capsys.readouterr()
    assert main.main(command) == 2
    assert "the competition tiny-weights is described already: change" in capsys.readouterr().err


def test_init_and_download_describe_by_the_same_options():
    ours, theirs = (parser.options(parser.build([name]), name) for name in ("download", "init"))
    assert [option for option in theirs if option not in ours] == ["--kaggle"]
    assert set(ours) < set(theirs)


def test_zips_inside_are_unpacked_too(fake_kaggle, workspace):
    inner = {"train.zip": archive({"train/a/1.png": b"1"}), "test.zip": archive({"1.png": b"2", "2.png": b"3"})}
    fake_kaggle.data = archive({**inner, "sample.csv": b"id,label\n"})
    folder = kaggle_download.download("tiny-weights")
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == ["sample.csv", "test/1.png", "test/2.png", "train/a/1.png"]


def test_a_damaged_archive_is_fetched_anew_and_twice_damaged_is_said(fake_kaggle, workspace, capsys):
    fake_kaggle.data = photographs()
    (workspace / "data").mkdir()
    damaged = bytearray(fake_kaggle.data)
    damaged[5000] ^= 255
    (workspace / "data" / "tiny-weights.zip").write_bytes(damaged)
    assert main.main(["download", "tiny-weights"]) == 0
    assert "fetching it anew" in capsys.readouterr().out
    shutil.rmtree(workspace / "data" / "tiny-weights")
    fake_kaggle.data = bytes(damaged)
    assert main.main(["download", "tiny-weights"]) == 4
    assert "is not a whole archive" in capsys.readouterr().err
    assert not list((workspace / "data").iterdir())


def hostile(name, mode=0o644):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        target.writestr(member, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "a/../../outside.txt"])
def test_an_archive_that_reaches_outside_is_refused_whole(fake_kaggle, workspace, name):
    fake_kaggle.data = hostile(name)
    with pytest.raises(UserError, match="would land outside"):
        kaggle_download.download("tiny-weights")
    assert [path.name for path in (workspace / "data").iterdir()] == ["tiny-weights.zip"]


def test_a_link_in_an_archive_is_refused(fake_kaggle):
    fake_kaggle.data = hostile("link", stat.S_IFLNK | 0o777)
    with pytest.raises(UserError, match="is a link"):
        kaggle_download.download("tiny-weights")


def test_a_disk_too_small_is_said(fake_kaggle, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, 1000))
    with pytest.raises(UserError, match="unpacks to more than 950 bytes"):
        kaggle_download.download("tiny-weights")


@pytest.mark.parametrize(
    ("words", "fault", "code", "message"),
    [
        (["download", "tiny-weights"], {"DownloadDataFiles": Fault(404, {"code": 404})}, 2, "no competition called"),
        (["download", "tiny-weights"], {"DownloadDataFiles": Fault(403, {"message": "accept the rules"})}, 2, "/rules"),
        (["leaderboard", "ours"], {"GetLeaderboard": Fault(401, {"code": 401})}, 2, "refused the credentials"),
        (["leaderboard", "ours"], {"GetLeaderboard": Fault(429, {}, {"Retry-After": "5"})}, 4, "again in 5 seconds"),
    ],
)
def test_the_real_command_line_ends_in_one_sentence_and_its_code(command, fake_kaggle, words, fault, code, message):
    fake_kaggle.faults = {name: [each] * 3 for name, each in fault.items()}
    done = command(*words)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert TOKEN not in done.stderr + done.stdout
