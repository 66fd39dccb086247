"""Multi-label and ordered targets through the real command line: from a hand-written file to a checked CSV."""

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import cohen_kappa_score, f1_score, fbeta_score

import forked
from featherweight.cli.main import main

SHAPES = ["square", "bar", "dot"]
TRAIN = ("--set", "train.epochs=8", "--threads", "1")


def draw(folder, count, seed):
    """Draw images with any of three shapes, named by id; return which shapes are in each, [N, 3]."""
    random = np.random.default_rng(seed)
    there = random.random((count, 3)) < [0.5, 0.35, 0.2]
    pixels = random.integers(0, 60, (count, 12, 12), dtype=np.uint8)
    pixels[there[:, 0], 1:5, 1:5] = 200
    pixels[there[:, 1], 9:11, :] = 180
    pixels[there[:, 2], 2:4, 8:10] = 255
    folder.mkdir(parents=True)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{folder.name}{number:03d}.png")
    return there


def words(row):
    return " ".join(name for name, yes in zip(SHAPES, row, strict=True) if yes)


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def shapes(home):
    """Make a multi-label competition: a label table, a sample, a solution with its usage, and a file for each kind."""
    data = home / "data" / "shapes"
    train, test = draw(data / "train", 300, 0), draw(data / "test", 120, 1)
    write(data / "train.csv", ["image", "labels"], [[f"train{n:03d}.png", words(row)] for n, row in enumerate(train)])
    write(data / "sample.csv", ["image", "labels"], [[f"test{n:03d}.png", "bar"] for n in range(120)])
    usage = ["Public" if n % 3 else "Private" for n in range(120)]
    rows = [[f"test{n:03d}.png", words(row), usage[n]] for n, row in enumerate(test)]
    write(data / "solution.csv", ["image", "labels", "Usage"], rows)
    folder = home / "configs" / "competitions"
    folder.mkdir(parents=True)

    def competition(name, metric, submission):
        (folder / f"{name}.yaml").write_text(
            f"title: {name}\ntarget: several\nclasses: [square, bar, dot]\nmetric: {metric}\n"
            "source: {name: table, labels: shapes/train.csv, images: [shapes/train], test: [shapes/test], "
            "several: true}\n"
            "image: {size: 12, channels: 1, mirror: false}\nlimit: {parameters: 100_000}\n"
            f"submission: {{id: image, label: labels, solution: shapes/solution.csv, {submission}}}\n"
        )

    competition("sets", "{name: samples_fbeta, beta: 2.0}", "takes: set, sample: shapes/sample.csv")
    competition("hot", "macro_f1", "takes: one_hot")
    competition("columns", "auc", "takes: probabilities")
    competition("best", "{name: map_at_k, k: 2}", "takes: ranked, k: 2")
    return test


def answers_agree(home, run, competition, kinds):
    """Check that `predict` and a script with the run's views give the decisions of the run's CSV.

    Every export format is kept, which shows that it makes the run's decisions.
    """
    with (home / "submissions" / f"{run}.csv").open() as file:
        expected = {row[0]: row[1] for row in list(csv.reader(file))[1:]}
    for kind in ("csv", "json"):
        assert main(["predict", run, competition, "--out", str(home / f"out.{kind}")]) == 0
    with (home / "out.csv").open() as file:
        assert {row["path"]: row["decided"] for row in csv.DictReader(file)} == expected
    told = {row["path"]: row["decided"] for row in json.loads((home / "out.json").read_text())}
    assert {id: said if isinstance(said, str) else " ".join(said) for id, said in told.items()} == expected
    for kind in kinds:
        views = ["--views"] if kind == "script" else []
        assert main(["export", run, "--to", kind, *views, "--out", str(home)]) == 0
    pictures = home / "data" / "shapes" / "test"
    if pictures.is_dir():
        files = sorted(pictures.glob("*.png"))
        done = forked.python([str(home / f"{run}.py"), *map(str, files)])  # on its own: test_export
        assert done.returncode == 0
        given = {Path(line.split(",")[0]).name: line.split(",")[1] for line in done.stdout.splitlines()}
        assert given == expected


def result(home, run):
    return json.loads((home / "runs" / run / "result.json").read_text())


def test_sets_of_classes_go_all_the_way_to_a_checked_csv(home, shapes, command, pytestconfig, capsys):
    for seed in ("0", "1"):
        done = command("tiny", "--competition", "sets", "--seed", seed, "--name", f"s{seed}", *TRAIN)
        assert done.returncode == 0, done.stderr
    assert "samples fbeta" in done.stdout
    with (home / "submissions" / "s1.csv").open() as file:
        rows = list(csv.DictReader(file))
    given = np.array([[name in row["labels"].split() for name in SHAPES] for row in rows])
    assert [row["image"] for row in rows] == [f"test{n:03d}.png" for n in range(120)]
    expected = fbeta_score(shapes, given, beta=2, average="samples", zero_division=0)
    assert result(home, "s1")["predict"]["value"] == pytest.approx(expected)
    assert expected > 0.6
    decision = json.loads((home / "runs" / "s1" / "decision.json").read_text())
    assert (decision["kind"], len(decision["values"])) == ("thresholds", 3)

    one, other = ((home / "runs" / name / "weights.safetensors").read_bytes() for name in ("s0", "s1"))
    assert one != other  # of another seed
    assert main(["score", str(home / "submissions" / "s1.csv"), "--competition", "sets"]) == 0
    assert "Public samples_fbeta" in capsys.readouterr().out
    assert main(["check", str(home / "submissions" / "s1.csv"), "--competition", "sets"]) in (0, 2)
    for more in (["compare", "s0", "s1"], ["ensemble", "s0", "s1", "--fit"], ["soup", "s0", "s1"], ["runs"]):
        assert main(more) == 0, capsys.readouterr().err
    assert main(["report", "s1"]) == 2
    more = ["torchscript", *(["onnx"] if find_spec("onnxscript") else [])] if pytestconfig.option.all else []
    answers_agree(home, "s1", "sets", ["script", *more])


@pytest.mark.some(5)
@pytest.mark.parametrize("name", ["hot", "columns", "best"])
def test_the_other_kinds_of_submission_of_sets(name, home, shapes):
    sampled = ["--set", "sampling=weighted", "--set", "loss=asymmetric", "--set", "mix=[mixup]"]
    assert main(["tiny", "--competition", name, *TRAIN, *(sampled if name == "columns" else [])]) == 0
    scores = result(home, f"tiny-{name}-s0")
    assert scores["holdout"]["low"] <= scores["holdout"]["value"] <= scores["holdout"]["high"]
    assert scores["predict"]["value"] > 0.55
    if name == "hot":
        table = np.genfromtxt(home / "submissions" / "tiny-hot-s0.csv", delimiter=",", skip_header=1)[:, 1:]
        assert scores["predict"]["value"] == pytest.approx(f1_score(shapes, table, average="macro", zero_division=0))


def test_what_sets_do_not_take_is_refused_before_anything_is_read(home, shapes, capsys):
    assert main(["tiny", "--competition", "sets", "--set", "loss=logit_adjusted"]) == 2
    assert "logit_adjusted is for one class per image" in capsys.readouterr().err
    assert not (home / "runs").exists()


@pytest.mark.slow
def test_ordered_classes_are_answered_by_cut_points_fitted_for_kappa(home, command):
    folder = home / "configs" / "competitions"
    folder.mkdir(parents=True)
    digits = [f"'{k}'" for k in range(10)]
    (folder / "order.yaml").write_text(
        f"title: Order\nsource: digits\ntarget: ordered\nmetric: quadratic_kappa\nclasses: [{', '.join(digits)}]\n"
        "image: {size: 8, channels: 1, mirror: false}\nlimit: {parameters: 100_000}\n"
    )
    done = command("tiny", "--competition", "order", "--set", "train.epochs=3", "--threads", "1", "--no-report")
    assert done.returncode == 0, done.stderr
    run = home / "runs" / "tiny-order-s0"
    decision, score = json.loads((run / "decision.json").read_text()), result(home, run.name)["predict"]
    assert decision["kind"] in ("cuts", "most_probable")
    assert "quadratic kappa" in done.stdout
    with (home / "submissions" / f"{run.name}.csv").open() as file:
        given = [int(row["label"]) for row in csv.DictReader(file)]
    probs = np.load(run / "predict_probs.npy")
    if decision["kind"] == "cuts":
        assert given == np.searchsorted(decision["values"], probs.astype(float) @ np.arange(10), side="right").tolist()
    assert score["count"] == 359
    (home / "submissions" / "o.csv").write_bytes((home / "submissions" / f"{run.name}.csv").read_bytes())
    run.rename(run.with_name("o"))
    answers_agree(home, "o", "order", ["pt2"])
    assert (
        cohen_kappa_score(given, probs.argmax(1), weights="quadratic") > 0.6
    )  # three epochs: it depends on the machine


def test_sets_are_inspected_too(shapes, home, capsys):
    (home / "data/shapes/train/train001.png").write_bytes((home / "data/shapes/train/train000.png").read_bytes())
    assert main(["inspect", "sets"]) == 0
    said = capsys.readouterr().out
    assert "300 training images of 3 classes" in said
    assert (home / "reports/sets-data.html").is_file()
