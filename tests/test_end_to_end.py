"""The product through its real command line, in separate processes."""

from __future__ import annotations

import csv
import hashlib
import http.server
import json
import os
import pickle
import random
import shutil
import signal
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Command, start

TINY = ("tiny", "--set", "train.epochs=2", "--threads", "1", "--no-report")
PRODUCTS = ("weights.safetensors", "holdout_probs.npy", "predict_probs.npy", "holdout.csv")


def digest(home: Path, run: str) -> dict[str, str]:
    """Return a digest of what a run promises to repeat to the byte."""
    files = {name: home / "runs" / run / name for name in PRODUCTS} | {"csv": home / "submissions" / f"{run}.csv"}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


@pytest.fixture
def photos(home: Path) -> Path:
    """Make a competition of generated photographs of several sizes and formats, one class bright and one dark."""
    rng = random.Random(0)
    for part, count in (("train", 24), ("test", 6)):
        for name, shade in (("bright day", 200), ("dark night", 60)):
            folder = home / "data" / "photos" / part / name
            folder.mkdir(parents=True)
            for place in range(count):
                size = (rng.randint(9, 30), rng.randint(9, 30))
                pixels = np.random.default_rng(place).integers(shade - 50, shade + 50, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{place:03d}.{rng.choice(['png', 'jpg', 'bmp'])}")
    path = home / "configs" / "competitions" / "photos.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        "title: Photos\nsource: {name: folders, path: photos}\nimage: {size: 8, mirror: true}\n"
        "classes: [bright day, dark night]\nlimit: {parameters: 100_000}\n"
    )
    return path


def test_the_main_job_from_nothing_to_a_scored_submission(home: Path, command: Command) -> None:
    """Started as a user does; the same seed gives the same bytes, with another hash order and without a report."""
    words = ("tiny", "--set", "train.epochs=5", "--threads", "1")
    done = command(*words, fresh=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "parameters  20,506 of 5,000,000 (0.4%)" in done.stdout
    assert "95 % interval" in done.stdout
    assert "submissions/tiny-digits-s0.csv" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("next: ./run.sh")

    rows = list(csv.reader((home / "submissions" / "tiny-digits-s0.csv").open()))
    assert rows[0] == ["Id", "Category"]
    assert len(rows) == 1 + 359
    assert all(len(row[0]) == 4 for row in rows[1:])  # ids are text: 0007 has not become 7

    folder = home / "runs" / "tiny-digits-s0"
    result = json.loads((folder / "result.json").read_text())
    assert 0.85 < result["predict"]["value"] <= 1
    split = json.loads((folder / "split.json").read_text())
    assert len(split["train"]) + len(split["holdout"]) == 1797 - 359
    assert not {row[0] for row in rows} & {*split["train"], *split["holdout"]}
    assert not (folder / "checkpoint.pt").exists()

    told = command("runs")
    assert "tiny-digits-s0" in told.stdout
    scored = command("score", str(home / "submissions" / "tiny-digits-s0.csv"))
    assert f"accuracy {result['predict']['value']:.2%}" in scored.stdout
    again = command("resume", "tiny-digits-s0", "--no-report")
    assert again.returncode == 0
    assert len((home / "submissions" / "ledger.csv").read_text().splitlines()) == 2

    assert command(*words, "--no-report", "--name", "same").returncode == 0  # another seed's bytes: test_targets
    assert digest(home, "same") == digest(home, folder.name)


def curve(home: Path, run: str) -> list[dict[str, str]]:
    """Return a run's history without its times."""
    with (home / "runs" / run / "history.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def test_killed_again_and_again_it_ends_in_the_same_bytes(home: Path, command: Command) -> None:
    """SIGKILL at random moments and while a checkpoint is written; each time a new process resumes."""
    slow = ("tiny", "--set", "train.epochs=4", "--set", "train.checkpoint_seconds=0", "--threads", "1", "--no-report")
    assert command(*slow, "--name", "whole").returncode == 0
    rng, kills = random.Random(0), 0
    folder = home / "runs" / "cut"
    process = start([*slow, "--name", "cut"])
    for attempt in range(3):
        deadline = time.monotonic() + 120
        while not (folder / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if attempt % 2:  # after the first epoch, which has a row in the history
            while not (folder / "history.csv").exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
        else:  # in the middle of a checkpoint's write
            while not list(folder.glob(".checkpoint.pt.*")) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.0002)
        kills += process.poll() is None
        process.kill()
        process.wait()
        process = start(["resume", "cut", "--no-report"])
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert kills == 3, "the runs ended before they could be killed: this test has tested nothing"
    assert digest(home, "cut") == digest(home, "whole")
    assert curve(home, "cut") == curve(home, "whole")
    assert not list(folder.glob(".*.part"))
    assert "cut" in out
    with (home / "submissions" / "ledger.csv").open(newline="") as ledger:
        assert [row["run"] for row in csv.DictReader(ledger)] == ["whole", "cut"]


def test_ctrl_c_leaves_a_run_that_can_be_resumed(home: Path, command: Command) -> None:
    long = ("tiny", "--set", "train.epochs=400", "--threads", "1", "--name", "long")
    process = start(long, start_new_session=True)
    history = home / "runs" / "long" / "history.csv"
    deadline = time.monotonic() + 120
    while not history.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    asked, told = filter(None, err.splitlines())
    assert asked == "Stopping after this step; the state will be saved. Press Ctrl-C again to stop at once."
    assert told == "stopped; continue with: ./run.sh resume long"
    assert (home / "runs" / "long" / "checkpoint.pt").exists()


def test_an_overweight_model_is_refused_before_any_data_is_looked_for(home: Path, command: Command) -> None:
    (home / "configs" / "competitions").mkdir(parents=True)
    (home / "configs" / "competitions" / "gone.yaml").write_text(
        "title: Gone\nsource: {name: folders, path: not/there}\nimage: {size: 32, mirror: true}\n"
        "classes: [a, b, c, d, e, f, g, h, i, j]\nlimit: {parameters: 5_000_000}\n"
    )
    over = command("wrn40_3", "--competition", "gone")
    assert over.returncode == 3
    assert "wrn40_3 has 5,038,554 parameters, 38,554 over the limit of 5,000,000" in over.stderr
    assert "group3 3,838,272" in over.stderr
    assert not (home / "runs").exists()
    missing = command("wrn16_4", "--competition", "gone")
    assert missing.returncode == 2
    assert "there is no data folder" in missing.stderr
    assert not list((home / "runs").glob("[!.]*"))
    assert "Traceback" not in over.stderr + missing.stderr


def test_folders_of_photographs(home: Path, photos: Path, command: Command) -> None:
    done = command(
        *("tiny", "--competition", "photos", "--no-report", "--set", "train.epochs=1"),
        *("--set", "split.holdout=0.25", "--set", "train.batch_size=8"),
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.reader((home / "submissions" / "tiny-photos-s0.csv").open()))
    assert rows[0] == ["id", "label"]
    assert len(rows) == 13
    assert {row[1] for row in rows[1:]} <= {"bright day", "dark night"}
    assert len(list((home / "data" / ".packs").glob("*/images.npy"))) == 2
    assert not list((home / "data" / ".packs").glob("*.part"))


def test_unreadable_images_are_listed_all_at_once(home: Path, photos: Path, command: Command) -> None:
    for name in ("train/bright day/000", "train/dark night/001"):
        victim = next((home / "data" / "photos").glob(f"{name}.*"))
        victim.write_bytes(victim.read_bytes()[:40])
    done = command("tiny", "--competition", "photos")
    assert done.returncode == 2
    assert "2 of 48 training images cannot be read" in done.stderr
    assert "bright day/000" in done.stderr
    assert "dark night/001" in done.stderr
    assert not list((home / "data" / ".packs").glob("*/"))


def test_data_changed_under_a_stopped_run_are_noticed(home: Path, photos: Path, command: Command) -> None:
    words = ("tiny", "--competition", "photos", "--set", "train.epochs=1", "--set", "train.batch_size=8", "--no-report")
    assert command(*words, "--name", "one").returncode == 0
    shutil.copy(next((home / "data/photos/train/dark night").iterdir()), home / "data/photos/train/dark night/new.png")
    done = command("resume", "one")
    assert done.returncode == 2
    assert "the images are not those that one was started with" in done.stderr


def test_a_full_disk_is_one_clear_message(home: Path) -> None:
    """The run's folder is on a separate file system that is too small for the weights."""
    runs = home / "runs"
    runs.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=64k tmpfs '{runs}' 2>/dev/null") != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        process = start([*TINY])
        _, err = process.communicate(timeout=120)
        assert process.returncode == 2
        assert "No space left on device" in err
        assert "Traceback" not in err
        folder = runs / "tiny-digits-s0"
        assert not (folder / "weights.safetensors").exists()
        assert not [p.name for p in folder.iterdir() if p.name.endswith(".part")]
    finally:
        os.system(f"umount '{runs}'")


def test_a_workspace_that_cannot_be_written_is_one_clear_message(home: Path, command: Command) -> None:
    (home / "runs").write_text("a file where the runs should be")
    done = command(*TINY)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write in")
    assert "Traceback" not in done.stderr


def test_a_loss_that_explodes_stops_the_run(home: Path, command: Command) -> None:
    done = command(*TINY, "--set", "optimizer.lr=1e30")
    assert done.returncode == 2
    assert "with a learning rate of 1e+30. Try a smaller optimizer.lr" in done.stderr
    assert not [*(home / "submissions").glob("*.csv")]


def test_torchvisions_download_fills_the_folder(
    home: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision's own CIFAR-10 code, with an archive of the same shape served from this machine."""
    from torchvision.datasets import CIFAR10

    from featherweight.data.sources.torchvision import export

    archive = tmp_path / "served" / "cifar-10-python.tar.gz"
    batches = tmp_path / "served" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    rng = np.random.default_rng(0)

    def write(name: str, content: dict[str, object]) -> list[str]:
        (batches / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((batches / name).read_bytes()).hexdigest()]

    def batch(name: str) -> list[str]:
        data = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        return write(name, {"data": data, "labels": [place % 10 for place in range(20)]})

    monkeypatch.setattr(CIFAR10, "train_list", [batch("data_batch_1")])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch")])
    meta = write("batches.meta", {"label_names": names})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(batches, "cifar-10-batches-py")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, directory=str(archive.parent), **options)  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{archive.name}")
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(variable, raising=False)
        export("CIFAR10", home / "data" / "cifar10")
        server.shutdown()
    assert len(list((home / "data/cifar10/train/truck").iterdir())) == 2
    assert [p.name for p in (home / "data").iterdir()] == ["cifar10"]
    done = command(
        "tiny", "--competition", "cifar10", "--set", "split.holdout=0.4", "--set", "train.epochs=1", "--no-report"
    )
    assert done.returncode == 0, done.stderr
