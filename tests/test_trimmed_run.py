"""A trimmed network from recipe to result: killed and resumed, exported, moved elsewhere, predicting."""

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
from safetensors.torch import load_file, save_file

from conftest import start
from featherweight.cli.main import main
from featherweight.runs.run import Run

COMPETITION = """\
title: photos
source: {name: folders, path: photos, train: train}
image: {size: 32, channels: 3, mirror: true}
classes: [dark, light]
limit: {parameters: 70_000, allow_pretrained: true}
submission: {id: id, label: label}
"""


@pytest.fixture
def trimmed(home: Path) -> list[str]:
    """Return the words of a run of a recipe that `trim` wrote, on thirty photographs of two classes."""
    pytest.importorskip("torch_pruning")
    random = np.random.default_rng(0)
    for index in range(30):
        kind = ("light", "dark")[index % 2]
        pixels = random.integers(0, 120, (40, 50, 3)) + (120 if kind == "light" else 0)
        folder = home / "data" / "photos" / "train" / kind
        folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        (folder / f"{index}.png").write_bytes(buffer.getvalue())
    (home / "configs" / "competitions").mkdir(parents=True)
    (home / "configs" / "competitions" / "photos.yaml").write_text(COMPETITION)
    torch.manual_seed(0)
    state = timm.create_model("test_efficientnet", num_classes=10).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, home / "published.safetensors")
    weights = ["--set", f"model.weights={home / 'published.safetensors'}"]
    assert main(["trim", "timm/test_efficientnet", *weights, "--competition", "photos", "--name", "thin"]) == 0
    words = ["thin", "--competition", "photos", "--no-report", "--threads", "1"]
    keys = ("epochs=2", "batch_size=8", "accumulate=1", "checkpoint_seconds=0")
    return [
        *words,
        *(word for key in keys for word in ("--set", f"train.{key}")),
        "--set",
        "image={size: 32, store: null}",
    ]


@pytest.mark.slow
def test_from_its_recipe_to_its_end(trimmed, home, tmp_path, monkeypatch, capsys):
    assert main([*trimmed, "--name", "calm"]) == 0
    calm = Run.find("calm")
    assert 0.995 * 70_000 <= calm.result.parameters <= 70_000

    process = start([*trimmed, "--name", "killed"])
    until = time.monotonic() + 120
    while not (home / "runs" / "killed" / "checkpoint.pt").exists() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not Run.find("killed").is_finished
    assert main(["resume", "killed"]) == 0
    digests = {hashlib.sha256(Run.find(name).weights.read_bytes()).hexdigest() for name in ("calm", "killed")}
    assert len(digests) == 1

    assert main(["weigh", "calm", "--limit", "70000"]) == 0
    assert main(["export", "calm", "--to", "safetensors"]) == 0
    exported = next(home.rglob("calm*.safetensors"))
    kept, sent = load_file(calm.weights), load_file(exported)
    assert {tuple(one.shape) for one in sent.values()} <= {tuple(one.shape) for one in kept.values()}

    monkeypatch.chdir(tmp_path)
    assert main(["bundle", "calm"]) == 0
    bundle = home / "runs" / "calm.zip"
    asked = home / "data" / "photos" / "train" / "dark"
    capsys.readouterr()
    assert main(["predict", "calm", str(asked), "--out", str(tmp_path / "here.csv")]) == 0
    for gone in ("configs/recipes/thin.yaml", "configs/recipes/thin.safetensors", "published.safetensors"):
        (home / gone).unlink()
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(tmp_path / "elsewhere"))
    assert main(["load", str(bundle)]) == 0
    assert main(["predict", "calm", str(asked), "--out", str(tmp_path / "there.csv")]) == 0
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()
