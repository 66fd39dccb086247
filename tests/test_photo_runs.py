"""Runs on photographs, from a weights file: killed, in several processes, as soup, ensemble and student."""

import hashlib
import importlib.util
import io
import json
import shutil
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
from featherweight.data.image import decode
from featherweight.evaluation.decisions import DecisionRule
from featherweight.export import subprocess_runner
from featherweight.kaggle.notebook import inside
from featherweight.runs.evaluate import write_submission
from featherweight.runs.predictor import Predictor
from featherweight.runs.run import Run

SETTINGS = (
    "train.epochs=2",
    "train.batch_size=8",
    "train.accumulate=2",
    "train.checkpoint_seconds=0",
    "image.size=128",  # from where all halvings of a published network are kept, as at 224
    "image.store=144",
    "split.holdout=8",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Make a workspace with forty photographs of two classes, four to predict, weights for a tiny network and a run.

    The run is called `first`; returns the workspace and the words of its command.
    """
    home = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for index in range(44):
        kind = ("light", "dark")[index % 2]
        height, width = 230 + index % 7, 300 - index % 11
        pixels = random.integers(0, 120, (height, width, 3)) + (120 if kind == "light" else 0)
        folder = home / "data" / "photos" / (f"train/{kind}" if index < 40 else "test")
        folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=70)
        (folder / f"{index}.jpg").write_bytes(buffer.getvalue())
    (home / "configs" / "competitions").mkdir(parents=True)
    (home / "configs" / "competitions" / "photos.yaml").write_text(
        "title: photos\nsource: {name: folders, path: photos, train: train, test: test}\n"
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_HOME", str(home))
        assert main([*words, "--name", "first"]) == 0
    return home, words


@pytest.fixture
def photos(home: Path, made: tuple[Path, list[str]]) -> list[str]:
    """Copy that workspace; return the words of a run on the photographs."""
    shutil.copytree(made[0], home, dirs_exist_ok=True)
    return made[1]


def digest(name: str) -> str:
    return hashlib.sha256(Run.find(name).weights.read_bytes()).hexdigest()


@pytest.mark.slow
def test_killed_it_ends_in_the_same_bytes(photos):
    process = start([*photos, "--name", "killed"])
    checkpoint = Run.find("first").folder.with_name("killed") / "checkpoint.pt"
    until = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not Run.find("killed").is_finished
    assert main(["resume", "killed", "--no-report"]) == 0
    assert digest("killed") == digest("first")
    assert Run.find("first").recipe.train.accumulate == 2


@pytest.mark.slow
def test_two_processes_share_batches_of_photographs(photos):
    assert main([*photos, "--name", "two", "--procs", "2", "--threads", "2"]) == 0
    one, two = (Run.find(name).probs("holdout") for name in ("first", "two"))
    assert np.abs(one - two).max() < 1e-3


@pytest.mark.slow
def test_soups_ensembles_and_students_of_photographs(photos):
    assert main([*photos, "--name", "second", "--seed", "1"]) == 0
    assert main(["ensemble", "first", "second", "--name", "both"]) in (0, 3)
    assert main(["soup", "first", "second", "--name", "souped"]) == 0
    assert Run.find("souped").result.parameters == Run.find("first").result.parameters
    other_crop = ("--set", "image.crop=0.9")  # a teacher sees what the student is shown
    assert main([*photos, *other_crop, "--name", "taught", "--set", "distill.teachers=[first]"]) == 0
    for name in ("souped", "taught"):
        assert Run.find(name).probs("holdout").shape == (8, 2)


@pytest.mark.slow
def test_files_are_predicted_and_exported_as_they_were_scored(photos, home, tmp_path):
    """`predict`, a script and a graph use the run's stored size and crop of photographs."""
    small = ("--set", "image.size=32", "--set", "image.store=36", "--set", "train.epochs=1")
    assert main([*photos, *small, "--set", "predict.views=[]", "--name", "small"]) == 0
    run = Run.find("small")
    files = [str(home / "data" / "photos" / "train" / id) for id in run.split.holdout]
    said = Predictor(run).predict(files)
    assert said.probs.tobytes() == run.probs("holdout").tobytes()
    assert main(["predict", "small", "photos", "--out", str(tmp_path / "out.json"), "--top", "1"]) == 0
    best = [row["classes"][0]["probability"] for row in json.loads((tmp_path / "out.json").read_text())]
    np.testing.assert_allclose(best, run.probs("predict").max(1), rtol=1e-6)
    for kind in ("script", "torchscript"):
        assert main(["export", "small", "--to", kind, "--out", str(tmp_path)]) == 0
    script = importlib.util.spec_from_file_location("small", tmp_path / "small.py")
    module = importlib.util.module_from_spec(script)
    script.loader.exec_module(module)
    told = [[row["probabilities"][name] for name in said.classes] for row in module.predict(files)]
    np.testing.assert_allclose(told, said.probs, atol=1e-6)
    ask = subprocess_runner.torchscript(str(tmp_path / "small.torchscript"))
    for file, probs in zip(files, said.probs, strict=True):
        stored = decode(file, run.competition.image)  # a whole JPEG would be made smaller while it is decoded
        with torch.no_grad():
            np.testing.assert_allclose(ask([stored[None].copy()])[0][0], probs, atol=1e-3)


@pytest.mark.parametrize("target", ["one", "ordered"])
def test_a_notebook_writes_the_bytes_of_the_run(photos, home, target):
    """From stored photographs and with the run's decision rule: here a cut point that changes predictions."""
    competition = home / "configs" / "competitions" / "photos.yaml"
    if target == "ordered":
        competition.write_text(competition.read_text() + "target: ordered\nmetric: quadratic_kappa\n")
    small = ("--set", "image.size=32", "--set", "image.store=36", "--set", "train.epochs=1")
    assert main([*photos, *small, "--name", "small"]) == 0
    run = Run.find("small")
    if target == "ordered":
        between = float(np.sort(run.probs("predict")[:, 1])[1:3].mean())
        DecisionRule("cuts", (between,)).store(run.folder / "decision.json")
        write_submission(run, [row.split(",")[0] for row in run.csv().read_text().splitlines()[1:]])
        assert run.csv().read_text().count("light") == 2
    own = run.csv().read_bytes()
    run.csv().unlink()
    assert inside._by_run(run, run.competition, float("inf")).read_bytes() == own
