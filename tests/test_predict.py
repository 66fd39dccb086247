"""Prediction of any number of images by a finished run: the same probabilities as those of its own CSV."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.runs import pipeline, predictor
from featherweight.runs.ensemble import ensemble
from featherweight.runs.predictor import Predictor
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run

FAST = ["train.epochs=1", "train.batch_size=256", "model.width=0.25", "predict.batch_size=100"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_HOME", str(folder))
        competition = load_competition("digits")
        for name, more in (
            ("one", ["predict.calibrate=true"]),
            ("large", ["image.size=16", "predict.views=[{name: train, count: 2}]"]),
        ):
            recipe = load_recipe("tiny", [*FAST, *more])
            pipeline.execute(RunRequest("tiny", recipe, "digits", competition, ["x"], "cpu", 1).start(name))
        ensemble(["one", "large"], fit=True, name="both", command=["x"])
        images = competition.load().predict
        (folder / "pictures" / "deep").mkdir(parents=True)
        for index in range(12):
            file = folder / "pictures" / ("deep" if index % 2 else ".") / f"{index:02}.png"
            Image.fromarray(np.asarray(images.images[index]).squeeze(2)).save(file)
    return folder


@pytest.fixture
def pictures(workspace, home) -> Path:
    shutil.copytree(workspace, home, dirs_exist_ok=True)
    return home / "pictures"


@pytest.mark.parametrize("name", ["one", "large", "both"])
@pytest.mark.parametrize("chunk", [predictor.CHUNK_BYTES, 1])
def test_a_competitions_images_are_predicted_to_the_bytes_of_the_run(pictures, monkeypatch, name, chunk):
    """In one chunk or several, with random views, with a temperature, and by an ensemble of several image sizes."""
    monkeypatch.setattr(predictor, "CHUNK_BYTES", chunk)
    out = pictures / "out.csv"
    assert main.main(["predict", name, "digits", "--out", str(out), "--top", "1"]) == 0
    rows = list(csv.reader(out.open()))
    run = Run.find(name)
    expected = [line.split(",") for line in run.csv().read_text().splitlines()]
    assert rows[0] == ["path", "class", "probability"]
    assert [row[:2] for row in rows[1:]] == expected[1:]
    best = run.probs("predict").max(1)
    assert [float(row[2]) for row in rows[1:]] == pytest.approx(best.tolist(), rel=1e-6)


def test_files_folders_and_lists_are_the_same_pictures(pictures, capsys):
    files = sorted(map(str, pictures.rglob("*.png")))
    listed = pictures / "list.csv"
    listed.write_text("label,file\n" + "".join(f"x,{Path(file).relative_to(pictures)}\n" for file in files))
    bare = pictures / "bare.txt"
    bare.write_text("".join(f"{Path(file).relative_to(pictures)}\n" for file in files))
    found = []
    for what in ([str(pictures)], files, [str(listed)], [str(bare)]):
        assert main.main(["predict", "one", *what, "--out", str(pictures / "out.json"), "--top", "99"]) == 0
        found.append({row["path"]: row["classes"] for row in json.loads((pictures / "out.json").read_text())})
    assert found[0] == found[1] == found[2] == found[3]
    assert set(found[0]) == set(files)
    assert all(len(classes) == 10 for classes in found[0].values())
    assert sum(row["probability"] for row in found[0][files[0]]) == pytest.approx(1, abs=1e-5)
    capsys.readouterr()
    assert main.main(["predict", "one", files[0], "--top", "2"]) == 0
    line, last = capsys.readouterr().out.splitlines()
    best = found[0][files[0]][:2]
    assert line == f"{files[0]}  " + "  ".join(f"{row['class']} {row['probability']:.2%}" for row in best)
    assert last == "1 image predicted by one"


def test_what_cannot_be_read_is_named_and_left_out(pictures, capsys):
    (pictures / "00.png").write_bytes(b"none")
    (pictures / "empty.jpg").touch()
    assert main.main(["predict", "both", str(pictures), "--out", str(pictures / "out.csv")]) == 0
    out = capsys.readouterr().out
    assert f"left out: {pictures}/00.png: cannot be read as an image" in out
    assert "11 images predicted by both, 2 left out: wrote " in out
    assert len((pictures / "out.csv").read_text().splitlines()) == 12


def test_a_file_that_is_listed_twice_and_cannot_be_read_moves_no_name(pictures, capsys, monkeypatch):
    """Each picture keeps its own classes in the chunks that follow."""
    monkeypatch.setattr(Predictor, "chunk", 3)
    (pictures / "bad.jpg").write_bytes(b"none")
    files = [str(pictures / f"{index:02}.png") for index in (0, 2, 4, 6, 8, 10)]
    found = []
    for what in (files, [str(pictures / "bad.jpg")] * 2 + files):
        assert main.main(["predict", "one", *what, "--out", str(pictures / "out.csv"), "--top", "1"]) == 0
        found.append(list(csv.reader((pictures / "out.csv").open())))
    assert found[0] == found[1]
    assert "6 images predicted by one, 2 left out" in capsys.readouterr().out


def test_wrong_input_is_one_message_and_leaves_no_file(pictures, capsys):
    (pictures / "none").mkdir()
    (pictures / "none" / "bad.png").write_bytes(b"none")
    (pictures / "nothing").mkdir()
    shutil.copytree(Run.find("one").folder, Run.find("one").folder.with_name("bare"))
    (Run.find("bare").weights).unlink()
    configs = pictures.parent / "configs" / "competitions"
    configs.mkdir(parents=True)
    (pictures / "notes.txt").write_text("hi")
    (pictures / "paths.csv").write_text("path\n")
    (configs / "few.yaml").write_text("extends: digits\nclasses: ['0', '1']\n")
    out = ["--out", str(pictures / "out.csv")]
    for words, message in (
        (["one", str(pictures / "nothing")], "there are no images in this folder"),
        (["one", str(pictures / "none"), *out], "none of the 1 image can be read"),
        (["one", str(pictures / "notes.txt")], "notes.txt: expected a table with a column of paths"),
        (["one", "gone.png"], "there is no file, folder or competition called 'gone.png'"),
        (["bare", str(pictures)], "bare has no weights yet: ./run.sh resume bare"),
        (["one", "few"], "one has 10 classes and few has 2 others, for example 2, 3, 4"),
        (["on", str(pictures)], "there is no run called 'on'; did you mean 'one'?"),
        (["one", str(pictures / "paths.csv"), "--out", str(pictures / "paths.csv")], "paths.csv would be overwritten"),
        (["one", str(pictures), "--out", "x.txt"], "expected a name ending in .csv or .json"),
        (["one", str(pictures), "--views", "flop"], "flop"),
    ):
        assert main.main(["predict", *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) <= 5
    assert not list(pictures.glob("*out*"))


def test_the_module_is_of_torch_and_its_classes_are_the_competitions(pictures):
    import torch

    model = Predictor(Run.find("one"), "predict.views=[]")
    arrays = np.stack([np.asarray(Image.open(file))[..., None] for file in sorted(pictures.rglob("*.png"))])
    said = model.predict(arrays)
    assert (said.classes, said.ids[:2]) == ([str(digit) for digit in range(10)], ["0", "1"])
    assert said.labels == [row[0][0] for row in said.top(1)]
    assert model.predict(list(arrays)).probs.tobytes() == said.probs.tobytes()
    logs = model(torch.from_numpy(arrays).permute(0, 3, 1, 2) / 255)
    assert (logs.argmax(1).numpy() == said.probs.argmax(1)).all()
    assert sum(p.numel() for p in Predictor(Run.find("both")).parameters()) == Run.find("both").result.parameters


def test_batch_sizes_without_a_common_multiple_are_asked_within_the_memory(pictures, monkeypatch):
    """Only random views need whole batches, because their random numbers are drawn per batch."""
    asked = Predictor(Run.find("both"))
    asked.members = [
        replace(member, recipe=member.run.recipe_with([f"predict.batch_size={size}"]))
        for member, size in zip(asked.members, (99, 100), strict=True)
    ]
    assert asked.chunk % 9900 == 0
    monkeypatch.setattr(predictor, "CHUNK_BYTES", 9000 * 320)
    assert asked.chunk == 9000
