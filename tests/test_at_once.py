"""The same task started twice at the same time, in two real processes: nothing is done twice or half done."""

import hashlib
import shutil
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from conftest import start
from featherweight.config import load_competition
from featherweight.runs import pipeline
from kaggle_server import Fault

WORDS = ("--set", "train.epochs=1", "--threads", "1", "--no-report")


def pictures(folder, count=60):
    """Write images of two classes, and some to predict."""
    random = np.random.default_rng(0)
    for number in range(count):
        file = folder / "train" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    (folder / "test").mkdir()
    for number in range(9):
        (folder / "test" / f"{number}.png").write_bytes((folder / "train" / "a" / "0.png").read_bytes())
    return folder


def both(*commands):
    """Start two commands at the same time; return the exit code and the output of each."""
    running = [start(words) for words in commands]
    ends = [(process.communicate(timeout=300), process.returncode) for process in running]
    for (_, err), code in ends:
        assert "Traceback" not in err, err
        assert code == 0 or err.startswith("error: "), err
    return [(code, out + err) for (out, err), code in ends]


def litter(home):
    return [str(path.relative_to(home)) for path in home.rglob("*") if path.name.endswith(".part")]


@pytest.mark.parametrize("archive", [False, True], ids=["folder", "archive"])
def test_two_init_of_one_name(home, tmp_path, archive):
    given = pictures(tmp_path / "pics")
    if archive:
        given = shutil.make_archive(str(tmp_path / "pics"), "zip", given)
    ends = both(*[["init", str(given), "--name", "pics"]] * 2)
    assert sorted(code for code, _ in ends) in ([0, 0], [0, 2])
    for code, said in ends:
        # The second comes too late for the folder's name, or for the competition's.
        assert code == 0 or "already" in said or "another process is unpacking it" in said
    assert load_competition("pics").classes == ["a", "b"]
    assert litter(home) == []


def test_two_packings_of_one_competition(home, tmp_path):
    pictures(tmp_path / "pics")
    assert both(["init", str(tmp_path / "pics"), "--name", "pics"])[0][0] == 0
    ends = both(*[["tiny", "--competition", "pics", *WORDS, "--name", name] for name in ("one", "two")])
    assert [code for code, _ in ends] == [0, 0], ends
    files = [home / "runs" / name / "predict_probs.npy" for name in ("one", "two")]
    assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in files}) == 1
    packs = [path for path in (home / "data" / ".packs").iterdir() if path.is_dir()]
    assert len(packs) == 2  # to train on and to predict, each once
    assert litter(home) == []
    assert len((home / "submissions" / "ledger.csv").read_text().splitlines()) == 3


def test_two_runs_of_one_name(home):
    ends = both(*[["tiny", *WORDS, "--name", "same"]] * 2)
    assert sorted(code for code, _ in ends) == [0, 2], ends
    assert len((home / "submissions" / "ledger.csv").read_text().splitlines()) == 2
    assert [path.name for path in (home / "runs").iterdir() if path.name != ".new"] == ["same"]


def test_a_run_begins_although_another_command_looks_whether_it_is_going_on(tmp_path):
    """`runs` takes the lock of each run for an instant."""
    looking = threading.Event()

    def look():
        with FileLock(tmp_path / "run.lock"):
            looking.set()
            time.sleep(0.2)

    thread = threading.Thread(target=look)
    thread.start()
    assert looking.wait(10)  # seconds
    with ExitStack() as until_done:
        pipeline._claim(SimpleNamespace(folder=tmp_path, name="one"), until_done)
    thread.join()


def test_two_submit_of_one_run(finished, home, fake_kaggle):

    shutil.copytree(finished, home, dirs_exist_ok=True)
    fake_kaggle.faults["StartSubmissionUpload"] = [Fault(seconds=0.5)]  # so that both are at it
    ends = both(*[["submit", "first"]] * 2)
    assert len(fake_kaggle.submissions) == 1, ends
    assert sorted(code for code, _ in ends) == [0, 2], ends
    (refused,) = [said for code, said in ends if code == 2]
    assert "another submission is being made" in refused or "these very bytes were submitted" in refused
