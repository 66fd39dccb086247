"""Runs on photographs at 224 px from a file of weights: killed, shared by processes, souped, combined and taught."""

import hashlib
import io
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from conftest import start
from featherweight.cli.main import main
from featherweight.runs.run import Run

SETTINGS = (
    "train.epochs=2",
    "train.batch_size=8",
    "train.accumulate=2",
    "train.checkpoint_seconds=0",
    "image.size=224",
    "image.store=256",
    "split.holdout=8",
)


@pytest.fixture
def photos(home: Path) -> list[str]:
    """Forty photographs of two kinds, a file of weights for a tiny network, and the words of a run on them."""
    random = np.random.default_rng(0)
    for index in range(40):
        kind = ("light", "dark")[index % 2]
        height, width = 230 + index % 7, 300 - index % 11
        pixels = random.integers(0, 120, (height, width, 3)) + (120 if kind == "light" else 0)
        folder = home / "data" / "photos" / "train" / kind
        folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=70)
        (folder / f"{index}.jpg").write_bytes(buffer.getvalue())
    (home / "configs" / "competitions").mkdir(parents=True)
    (home / "configs" / "competitions" / "photos.yaml").write_text(
        "title: photos\nsource: {name: folders, path: photos, train: train}\n"
        "image: {size: 64, channels: 3, mirror: true}\nclasses: [dark, light]\n"
        "limit: {parameters: 500000, allow_pretrained: true}\nsubmission: {id: id, label: label}\n"
    )
    torch.manual_seed(0)
    state = timm.create_model("test_efficientnet", num_classes=10).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, home / "pretrained.safetensors")
    words = ["finetune", "--competition", "photos", "--no-report", "--threads", "1"]
    for setting in (
        *SETTINGS,
        f"model={{name: timm, variant: test_efficientnet, weights: {home / 'pretrained.safetensors'}}}",
    ):
        words += ["--set", setting]
    return words


def digest(name: str) -> str:
    return hashlib.sha256(Run.find(name).weights.read_bytes()).hexdigest()


def test_killed_at_real_size_it_ends_in_the_same_bytes(photos):
    assert main([*photos, "--name", "calm"]) == 0
    process = start([*photos, "--name", "killed"])
    checkpoint = Run.find("calm").folder.with_name("killed") / "checkpoint.pt"
    until = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not Run.find("killed").is_finished
    assert main(["resume", "killed", "--no-report"]) == 0
    assert digest("killed") == digest("calm")
    assert Run.find("calm").recipe.train.accumulate == 2


def test_two_processes_share_batches_of_photographs(photos):
    assert main([*photos, "--name", "one"]) == 0
    assert main([*photos, "--name", "two", "--procs", "2", "--threads", "2"]) == 0
    one, two = (Run.find(name).probs("holdout") for name in ("one", "two"))
    assert np.abs(one - two).max() < 1e-3


def test_soups_ensembles_and_students_of_photographs(photos):
    assert main([*photos, "--name", "first"]) == 0
    assert main([*photos, "--name", "second", "--seed", "1"]) == 0
    assert main(["ensemble", "first", "second", "--name", "both"]) in (0, 3)
    assert main(["soup", "first", "second", "--name", "souped"]) == 0
    assert Run.find("souped").result.parameters == Run.find("first").result.parameters
    assert main([*photos, "--name", "taught", "--set", "distill.teachers=[first]"]) == 0
    for name in ("souped", "taught"):
        assert Run.find(name).probs("holdout").shape == (8, 2)
