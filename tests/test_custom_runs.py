"""Runs of a user's own network whose code has since changed or been deleted: the code stored with the run is used."""

import os
import shutil
import signal
import time

import pytest

from conftest import start
from featherweight.cli.main import main
from featherweight.runs.run import Run

PARTS = "from torch import nn\ndef block(i, o): return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU())\n"
NET = """
from torch import nn
from parts import block

class Net(nn.Module):
    def __init__(self, num_classes, in_chans=3):
        super().__init__()
        self.body, self.head = block(in_chans, 8), nn.Linear(8, num_classes)
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))
"""
OTHER = PARTS.replace("ReLU", "Tanh")  # of the same shapes, so that no loading of weights would notice
PREDICTED = ("weights.safetensors", "holdout_probs.npy", "predict_probs.npy")


class Code:
    """A user's network, as a file or as a package, with the module that it imports."""

    def __init__(self, home, package):
        folder = home / "mine" if package else home
        self.name = "mine.nets:Net" if package else "my_net.py:Net"
        self.net, self.parts = folder / ("nets.py" if package else "my_net.py"), folder / "parts.py"
        self.text = NET.replace("from parts", "from .parts") if package else NET
        self.write()

    def write(self):
        self.net.parent.mkdir(exist_ok=True)
        self.net.write_text(self.text)
        self.parts.write_text(PARTS)

    def delete(self):
        self.net.unlink()
        self.parts.unlink()


@pytest.fixture
def code(home, monkeypatch):
    monkeypatch.chdir(home)
    return Code(home, package=False)


TIED = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_chans=3):
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(in_chans, 8, 3), nn.Linear(8, 8), nn.Linear(8, 8)
        self.two.weight = self.one.weight
        self.head = nn.Linear(8, num_classes)
    def forward(self, x):
        return self.head(self.two(self.one(self.stem(x).relu().mean((2, 3))).relu()).relu())
"""


def test_tied_weights_ship_and_are_read_again(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    (home / "tied.py").write_text(TIED)
    train = ["tiny", "--set=model=tied.py:Net", "--set=train.epochs=1", "--threads=1", "--no-report", "--name"]
    assert main([*train, "one"]) == 0
    assert main([*train, "two", "--seed=1"]) == 0
    run = Run.find("one")
    net = run.load_model().net
    assert net.one.weight is net.two.weight
    assert run.result.parameters == 80 + 64 + 2 * 8 + 90
    assert main(["ensemble", "one", "two", "--name=both"]) == 0
    assert main(["export", "one", "--to", "torchscript"]) == 0
    capsys.readouterr()
    for kind in ("script", "safetensors"):
        assert main(["export", "one", "--to", kind]) == 2
        assert "tied.py:Net of one is your own code, which this format cannot hold" in capsys.readouterr().err


def words(code, epochs, *more):
    return ["tiny", f"--set=model={code.name}", f"--set=train.epochs={epochs}", "--threads=1", "--no-report", *more]


def contents(home, name, files=PREDICTED):
    return {file: (home / "runs" / name / file).read_bytes() for file in files}


@pytest.mark.slow
def test_killed_and_resumed_after_a_change_and_without_the_file_it_ends_in_the_same_bytes(code, home, command):
    long = words(code, 12, "--set=train.checkpoint_seconds=0")
    assert main([*long, "--name=calm"]) == 0
    process = start([*long, "--name=changed"], start_new_session=True)
    until = time.monotonic() + 120
    while not (home / "runs" / "changed" / "checkpoint.pt").exists() and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (home / "runs" / "changed" / "weights.safetensors").exists()
    shutil.copytree(home / "runs" / "changed", home / "runs" / "gone")
    code.parts.write_text(OTHER)
    assert command("resume", "changed", "--no-report").returncode == 0
    code.delete()
    assert main(["resume", "gone", "--no-report"]) == 0
    assert contents(home, "changed") == contents(home, "gone") == contents(home, "calm")


def test_a_bundle_carries_a_package_to_another_home(home, command, monkeypatch, tmp_path):
    monkeypatch.chdir(home)
    code = Code(home, package=True)
    assert main(words(code, 1, "--name=one")) == 0
    assert main(["bundle", "one", "--out", str(tmp_path / "one.zip")]) == 0
    there = tmp_path / "there"
    there.mkdir()
    assert main(["predict", "one", "digits", "--out", str(tmp_path / "here.csv")]) == 0
    code.parts.write_text(OTHER)
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(there))
    monkeypatch.chdir(there)
    assert main(["load", str(tmp_path / "one.zip")]) == 0
    assert command("predict", "one", "digits", "--out", str(tmp_path / "there.csv")).returncode == 0
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


@pytest.mark.slow
def test_what_is_made_of_runs_is_of_the_code_they_were_made_with(code, home, command):
    for seed in "01":
        assert main(words(code, 1, f"--name=s{seed}", f"--seed={seed}")) == 0
    student = ("student", "s0", "s1", "--set=train.epochs=1", "--no-report", "--name")
    assert main([*student, "pupil"]) == 0
    code.parts.write_text(OTHER)
    assert main([*student, "changed"]) == 0
    code.net.write_text("def Net(:\n")
    broken = command(*student, "broken")
    assert broken.returncode == 0, broken.stderr
    code.delete()
    assert main(["soup", "s0", "s1", "--name=souped"]) == 0
    assert contents(home, "pupil") == contents(home, "changed") == contents(home, "broken")
    stored = [sorted((home / "runs" / name / "source").rglob("parts.py")) for name in ("broken", "souped")]
    assert all(found.read_text() == PARTS for (found,) in stored)
