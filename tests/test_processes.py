"""Several processes train as one: same samples, draws, curve and rows; also when killed, stopped and resumed."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm.layers
import torch
import torch.nn.functional as F
import torchvision.ops
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import fit_in_processes
import forked
from conftest import Command, start
from featherweight.data.pack import Pack
from featherweight.errors import UserError
from featherweight.models.blocks import drop_connect
from featherweight.runtime.device import Runtime, make_runtime
from featherweight.runtime.processes import ALONE, Processes
from featherweight.runtime.sync import WholeBatch
from featherweight.schema import OneOf
from featherweight.training.batches import Batches
from featherweight.training.sampling import SAMPLINGS
from test_end_to_end import digest

RUN = ("tiny", "--set", "train.checkpoint_seconds=0", "--set", "predict.views=[]", "--no-report", "--threads", "2")


@given(size=st.integers(1, 60), parts=st.integers(1, 7), count=st.integers(1, 5))
def test_pieces_are_what_one_process_would_pass_at_once(size: int, parts: int, count: int) -> None:
    wanted = [piece.tolist() for piece in torch.arange(size).chunk(parts)]
    everyone = [Processes(rank, count) for rank in range(count)]
    if min(map(len, wanted)) < count:
        for each in everyone:
            with pytest.raises(UserError, match=f"too small for {count} processes"):
                list(each.pieces(size, parts))
        return
    for number, pieces in enumerate(zip(*(each.pieces(size, parts) for each in everyone), strict=True)):
        shared = np.full(len(wanted[number]), -1)
        for each, piece in zip(everyone, pieces, strict=True):
            assert piece.size == len(wanted[number])
            shared[piece.part] = np.arange(size)[each.part(size)][piece.rows]
        assert shared.tolist() == wanted[number]


@pytest.mark.parametrize("name", SAMPLINGS)
def test_processes_show_together_what_one_does(name: str) -> None:
    labels = np.repeat(np.arange(4), [30, 12, 5, 3])
    images = np.arange(50, dtype=np.uint8).repeat(4).reshape(50, 2, 2, 1)
    pack, sampling = Pack([str(i) for i in range(50)], images, labels), OneOf(SAMPLINGS).sections[name](name=name)

    def batches(processes: Processes) -> Batches:
        return Batches(pack, 4, 16, 7, Runtime(torch.device("cpu"), processes=processes), sampling)

    whole, parts = batches(ALONE), [Processes(rank, 3) for rank in range(3)]
    for one, *shared in zip(whole.epoch(2), *(batches(part).epoch(2) for part in parts), strict=True):
        drawn = one.draws.uniform(2)
        for part, theirs in zip(parts, shared, strict=True):
            mine = part.part(whole.size)
            assert torch.equal(theirs.images, one.images[mine])
            assert torch.equal(theirs.targets, one.targets[mine])
            assert torch.equal(theirs.draws.samples, one.draws.samples[mine])
            assert torch.equal(theirs.draws.uniform(2), drawn[mine])
            assert torch.equal(theirs.counts, one.counts)


@pytest.mark.parametrize("learned", [True, False])
def test_our_batch_norm_is_torchs(learned: bool) -> None:
    """To float32 rounding, with a mean that is large relative to the deviation: outputs, statistics and gradients."""
    torch.manual_seed(0)
    images = (torch.randn(6, 5, 4, 4) * 2 + 30).to(memory_format=torch.channels_last)
    results = []
    for ours in (False, True):
        torch.manual_seed(1)
        x, weight, bias = images.clone().requires_grad_(), torch.rand(5, requires_grad=learned), torch.rand(5)
        mean, var = torch.zeros(5), torch.ones(5)
        alone = WholeBatch(6, 6, slice(None), lambda tensors: None, lambda tensor: tensor[None])
        with alone if ours else contextlib.nullcontext():
            y = F.batch_norm(x, mean, var, weight if learned else None, bias, True, 0.1, 1e-5)
        (y * torch.randn_like(y)).sum().backward()
        results.append([y.detach(), mean, var, x.grad, *([weight.grad] if learned else [])])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2])
def test_our_batch_norm_refuses_one_value_per_channel_as_torchs_does(size: int) -> None:
    """The variance would be infinite; with two one-pixel images the other process has the second value."""
    images, mean, var = torch.ones(1, 5, 1, 1), torch.zeros(5), torch.ones(5)
    there = torch.cat([torch.full((5,), 2.0), torch.zeros(5), torch.ones(1)])
    whole = WholeBatch(1, size, slice(1), lambda tensors: None, lambda mine: torch.stack([mine, there][:size]))
    with whole:
        if size == 1:
            with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
                F.batch_norm(images, mean, var, training=True)
        else:
            F.batch_norm(images, mean, var, training=True)
            assert var.isfinite().all()


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Dropout(0.5),
        timm.layers.DropPath(0.5),
        torchvision.ops.StochasticDepth(0.5, "row"),
        functools.partial(drop_connect, rate=0.5, training=True),
    ],
)
def test_masks_are_cut_from_the_whole_batchs(layer: Callable[[Tensor], Tensor]) -> None:
    ones = torch.ones(7, 4, 3, 3).to(memory_format=torch.channels_last)
    torch.manual_seed(0)
    whole = layer(ones)
    assert 0 < (whole == 0).sum() < whole.numel()
    for rank in range(2):
        part = Processes(rank, 2).part(7)
        mine = len(ones[part])
        torch.manual_seed(0)
        with WholeBatch(mine, 7, part, lambda tensors: None, lambda tensor: tensor[None]):
            assert torch.equal(layer(ones[:mine]), whole[part])


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.device_count() > 1 else [])])
def test_two_processes_learn_as_one(tmp_path: Path, device: str) -> None:
    """Losses within 1e-4 of those of one process (bf16: 2e-2, since it rounds coarsely), equal predictions.

    On CUDA, where kernels depend on the number of images: losses within 2e-2 and probabilities within 1e-2.
    """
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    before = torch.get_num_threads()
    for name in fit_in_processes.CASES:
        fit_in_processes.run(name, tmp_path / "one", device)
    torch.set_num_threads(before)
    done = _torchrun(fit_in_processes.__file__, str(tmp_path / "two"), device)
    assert done.returncode == 0, done.stderr
    for name in fit_in_processes.CASES:
        one, two = (json.loads((tmp_path / side / f"{name}.json").read_text()) for side in ("one", "two"))
        tolerance = 2e-2 if name == "bf16" or device == "cuda" else 1e-4
        for column in ("train_loss", "holdout_loss"):
            np.testing.assert_allclose(two["history"][column], one["history"][column], rtol=tolerance, err_msg=name)
        if name != "bf16":
            for column in ("train_accuracy", "train_f1", "train_score"):  # counts of images, so alike to the bit
                assert two["history"][column] == one["history"][column], name
            np.testing.assert_allclose(two["sums"], one["sums"], rtol=tolerance, atol=1e-4, err_msg=name)
        known = [np.load(tmp_path / side / f"{name}.npy") for side in ("one", "two")]
        np.testing.assert_allclose(*known, rtol=0, atol=1e-2 if device == "cuda" else 0, err_msg=name)


@pytest.mark.slow
def test_killed_and_stopped_it_ends_in_the_same_bytes(home: Path, command: Command) -> None:
    """Ctrl-C, then SIGKILL of a worker, then of the process that started the workers; each time resumed.

    The uninterrupted run was started by torchrun.
    """
    long = (*RUN, "--set", "train.epochs=3")
    done = _torchrun("-m", "featherweight", *long, "--name", "whole")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("next: ./run.sh runs") == 1
    facts = json.loads((home / "runs" / "whole" / "run.json").read_text())
    assert (facts["processes"], facts["threads"]) == (2, 2)
    assert facts["command"].endswith("--procs=2")
    long, folder = (*long, "--procs", "2"), home / "runs" / "cut"

    process = start([*long, "--name", "cut"], start_new_session=True)
    _, workers = _underway(process, folder)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-1]) == (130, "stopped; continue with: ./run.sh resume cut")
    assert err.count("Stopping after this step") == 1
    assert not _alive(workers)

    process = start(["resume", "cut"])
    _, workers = _underway(process, folder)
    os.kill(workers[1], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    told = "error: process {} of the run ended (SIGKILL); continue with: ./run.sh resume cut"
    assert err.strip() in (told.format(0), told.format(1))
    assert not _alive(workers)

    process = start(["resume", "cut"])
    launcher, workers = _underway(process, folder)
    os.kill(launcher, signal.SIGKILL)
    process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while _alive(workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(workers)
    assert not (folder / "result.json").exists()  # they were ended, and did not run on to the end

    done = command("resume", "cut", "--no-report")
    assert done.returncode == 0, done.stderr
    assert digest(home, "cut") == digest(home, "whole")
    assert len((home / "submissions" / "ledger.csv").read_text().splitlines()) == 1 + 2
    assert not list(folder.glob(".*.part"))


def test_a_mistake_is_told_once(home: Path, command: Command) -> None:
    """By one process before any worker starts, by all workers at once, and under torchrun itself."""
    for words, code, told in (
        (["--procs", "0"], 2, "--procs 0: expected 1 or more"),
        (["--procs", "3"], 2, "--threads 2: expected one or more for each of the 3 processes"),
        (["--procs", "2", "--device", "cuda:1"], 2, "--device cuda:1: several processes run on cpu, or on cuda"),
    ):
        done = command(*RUN, *words)
        assert (done.returncode, done.stderr.count("error:")) == (code, 1)
        assert told in done.stderr
    assert not (home / "runs").exists()

    done = command(*RUN, "--procs", "2", "--set", "optimizer.lr=1e30")
    assert (done.returncode, done.stderr.count("error:")) == (2, 1), done.stderr
    assert "with a learning rate of 1e+30. Try a smaller optimizer.lr" in done.stderr
    assert "Traceback" not in done.stderr


def test_torchrun_runs_nothing_but_a_recipe(home: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables are all that a process knows about torchrun."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        done = command("runs")
        assert done.returncode == 2
        told.append(done.stderr)
    assert told[0].count("error: torchrun can only train one recipe or resume a run") == 1
    assert not told[1]


def test_a_device_and_threads_are_shared() -> None:
    before = torch.get_num_threads()
    runtime = make_runtime("cpu", threads=8, processes=Processes(1, 4, 1, 4))
    assert (runtime.device.type, torch.get_num_threads()) == ("cpu", 2)
    torch.set_num_threads(before)


def _torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    """Run two processes with torchrun, forked where possible; test_photo_runs uses fresh ones."""
    words = ("-m", forked.TORCHRUN, "--standalone", "--nproc-per-node", "2", *words)
    return forked.python(words, env={**os.environ, "PYTHONPATH": forked.SOURCE})


def _underway(process: subprocess.Popen[str], folder: Path) -> tuple[int, list[int]]:
    """Wait until the run has written a checkpoint; return the starting process and its workers."""
    checkpoint = folder / "checkpoint.pt"
    seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    deadline = time.monotonic() + 300
    while not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > seen):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = _children(process.pid)
    assert len(workers) == 2
    return process.pid, workers


def _children(parent: int) -> list[int]:
    """Return the workers that `parent` has started, each in its own session, in the order of their start."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,sess="], capture_output=True, text=True, check=True).stdout
    rows = [map(int, line.split()) for line in listed.splitlines()]
    return sorted(pid for pid, of, session in rows if (of, session) == (parent, pid))


def _alive(pids: list[int]) -> list[int]:
    """Return the process ids that still run; zombies do not."""
    found = subprocess.run(["ps", "-o", "stat=,pid=", "-p", ",".join(map(str, pids))], capture_output=True, text=True)
    return [int(line.split()[1]) for line in found.stdout.splitlines() if not line.startswith("Z")]
