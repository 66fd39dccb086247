"""The report: it agrees with the run, and is a single page without external files."""

import dataclasses
import json
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from browser import Browser, missing
from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.data import pack
from featherweight.data.pack import Pack
from featherweight.inspection import checks
from featherweight.models import Classifier
from featherweight.report import evidence, figures, tables, write
from featherweight.report.gradcam import gradcam
from featherweight.runs import fitted, ledger, pipeline
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run
from featherweight.runtime.device import Runtime

CPU = Runtime(torch.device("cpu"))


@pytest.fixture(scope="module")
def reported(finished, tmp_path_factory):
    """Make the finished run with its report, once."""
    folder = tmp_path_factory.mktemp("reported")
    long = folder / "runs" / ("a-name-that-is-long-" * 6 + "x" * 60)
    shutil.copytree(finished / "runs" / "first", long)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_HOME", str(folder))
        run = Run.find(long.name)
        return run, write.write(run)


def test_the_page_says_what_the_run_is(reported):
    run, page = reported
    text = page.read_text()
    result = json.loads((run.folder / "result.json").read_text())
    for part in ("holdout", "predict"):
        assert f"<b>{result[part]['value'] * 100:.2f} %</b>" in text
    assert f"{result['parameters']:,}" in text
    assert run.metadata.command in text
    assert run.metadata.versions["torch"] in text
    assert "Within the limit" in text
    assert len(text) < 5_000_000


def test_a_run_that_calibrates_is_shown_as_it_is_scored(home):
    settings = ["train.epochs=5", "train.steps=30", "predict.views=[]", "predict.calibrate=true"]
    task = RunRequest("tiny", load_recipe("tiny", settings), "digits", load_competition("digits"), ["x"], "cpu", 1)
    run = task.start("sure")
    pipeline.execute(run)
    found = evidence.gather(run)
    raw = np.load(run.folder / "holdout_probs.npy")
    assert abs(found.probs - raw).max() > 0.01
    probs, answers = fitted.cross_fitted(run, found.true)
    np.testing.assert_array_equal(found.probs, probs)
    np.testing.assert_array_equal(found.predicted, answers)
    write.write(run)
    trained = len(run.history)
    assert trained == ledger.read()["epochs"].iloc[-1] < 5
    assert f"{trained} epochs of 1,295 images" in (run.folder / "report" / "report.html").read_text()


def test_the_figures_lie_beside_the_page_as_pictures(reported):
    _, page = reported
    pictures = sorted(path.name for path in page.parent.glob("*.png"))
    assert pictures == ["balance.png", "confusion.png", "curves.png", "reliability.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in page.parent.glob("*.png"))


def test_the_page_refers_to_nothing_outside_itself(reported):
    text = reported[1].read_text()
    outside = re.findall(r"""(?:src|href)=["']?((?!data:|#)[^"'> ]+)""", text)
    assert outside == []
    assert "<script" not in text
    assert "@import" not in text


def test_names_in_the_figures_are_the_pages_own(reported):
    text = reported[1].read_text()
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    used = {one or other for one, other in re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', text)}
    assert used
    assert used <= {*names}


@pytest.mark.some(7)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desk"])
def test_in_a_browser(reported, width, dark, tmp_path):
    if missing():
        pytest.skip(missing())
    _, page = reported
    with Browser(width, dark) as browser:
        browser.open(page)
        assert browser.console() == []
        fetched = [address for address in browser.requests() if not address.startswith("data:")]
        assert fetched == [page.as_uri()]
        assert browser.run("return document.documentElement.scrollWidth") == width  # nothing sticks out
        assert browser.run("return [...document.images].every(image => image.naturalWidth > 0)")
        page_color, ink = browser.run(
            "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color].map(c => "
            "c.match(/[0-9]+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0))"
        )
        assert (page_color < ink) == dark
        figure = browser.run("return getComputedStyle(document.querySelector('svg text')).fill")
        assert figure == browser.run("return getComputedStyle(document.body).color")
        found = browser.run(MEASURED)
        assert len(found["figures"]) >= 7  # loss, accuracy, F1, rate, confusion, reliability, balance
        for label, left, right, scrolled, letters in found["figures"]:
            assert 0 <= left < right <= width, label
            assert not scrolled, label
            assert letters >= 7, label  # pixels of its smallest text
        assert found["pictures"]
        assert min(found["pictures"]) >= 120
        (tmp_path / "page.png").write_bytes(browser.screenshot())


# Of each figure that is shown: where it begins and ends, whether something scrolls it, and its smallest letters; and
# how wide the pictures are.
MEASURED = """
const shown = [...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width);
const scrolled = node => node && (node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX == 'auto'
  || scrolled(node.parentElement));
const letters = svg => Math.min(...[...svg.querySelectorAll('text')].map(text =>
  parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width));
return {
  figures: shown.map(svg => {
    const box = svg.getBoundingClientRect();
    return [svg.getAttribute('aria-label'), box.left, box.right, Boolean(scrolled(svg.parentElement)), letters(svg)];
  }),
  pictures: [...document.querySelectorAll('.pictures img')].map(image => image.getBoundingClientRect().width),
};
"""


def test_text_of_the_users_is_text_in_the_page(reported, tmp_path):
    run, _ = reported
    folder = tmp_path / "runs" / "hostile"
    shutil.copytree(run.folder, folder)
    stored = folder / "competition.yaml"
    stored.write_text(stored.read_text().replace("title: Digits", "title: <script>alert(1)</script> & co"))
    text = write.write(Run.find(str(folder))).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in text


def test_a_flawless_run_and_one_without_views_are_reported(reported, tmp_path):
    run, _ = reported
    folder = tmp_path / "runs" / "perfect"
    shutil.copytree(run.folder, folder)
    (folder / "recipe.yaml").write_text(
        re.sub(r"views:\n( +- .*\n(    .*\n)*)+", "views: []\n", (folder / "recipe.yaml").read_text())
    )
    found = evidence.gather(Run.find(str(folder)))
    np.save(folder / "holdout_probs.npy", np.eye(10, dtype=np.float32)[found.true])
    text = write.write(Run.find(str(folder))).read_text()
    assert "is right." in text
    assert "Test-time views" not in text


def test_the_page_says_what_the_split_and_the_test_share(reported, tmp_path, monkeypatch):
    run, page = reported
    text = page.read_text()
    assert "Held out: 10% of each class, seed 0" in text
    assert write.divided(run, came_divided=True) == "Held out: the validation part that came with the data"
    assert "no image is on both sides of the split" in text
    assert "exact copies and near copies" in text
    folder = tmp_path / "runs" / "leaky"
    shutil.copytree(run.folder, folder)
    load, size = pack.load, {}

    def leaky(*given):
        data = load(*given)
        split = json.loads((folder / "split.json").read_text())
        place = {id: n for n, id in enumerate(data.train.ids)}
        images = data.train.images.copy()
        for n in range(3):
            images[place[split["holdout"][n]]] = images[place[split["train"][n]]]
        size["holdout"] = len(split["holdout"])
        return dataclasses.replace(data, train=dataclasses.replace(data.train, images=images))

    monkeypatch.setattr(pack, "load", leaky)
    monkeypatch.setattr(checks, "MOST_COMPARED", 100)
    text = write.write(Run.find(str(folder))).read_text()
    assert '<b class="bad">the holdout leaks</b>' in text
    assert f"3 of {size['holdout']} held-out images" in text
    assert "Searched for exact copies." in text
    assert len(text) < 5_000_000


def test_a_run_that_has_not_ended_has_no_report(reported, home, capsys):
    run, _ = reported
    shutil.copytree(run.folder, home / "runs" / "cut")
    (home / "runs" / "cut" / "result.json").unlink()
    assert main.main(["report", "cut"]) == 2
    assert "cut is not finished: ./run.sh resume cut" in capsys.readouterr().err


def test_the_main_job_and_the_command_write_it(reported, home, capsys, monkeypatch):
    run, _ = reported
    shutil.copytree(run.folder, home / "runs" / "first", ignore=shutil.ignore_patterns("report"))
    assert main.main(["resume", "first"]) == 0
    page = home / "runs" / "first" / "report" / "report.html"
    assert page.is_file()
    assert "report.html" in capsys.readouterr().out
    monkeypatch.setattr(write, "write", lambda run: page)  # the work itself is tested above
    assert main.main(["report", "first"]) == 0
    assert "report.html\nnext: open it in a browser" in capsys.readouterr().out


def test_the_history_for_tensorboard(reported, home, capsys, monkeypatch):
    run, _ = reported
    shutil.copytree(run.folder, home / "runs" / "first")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torch.utils.tensorboard", None)
        assert main.main(["report", "first", "--tensorboard"]) == 2
        assert "./run.sh install tensorboard" in capsys.readouterr().err
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install tensorboard)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):
        assert main.main(["report", "first", "--tensorboard"]) == 0
    events = EventAccumulator(str(home / "runs" / "first" / "tensorboard"))
    events.Reload()
    history = run.history
    found = events.Scalars("loss/train")
    assert [event.step for event in found] == history["step"].tolist()
    assert [event.value for event in found] == pytest.approx(history["train_loss"].tolist())


confusions = st.integers(2, 7).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, 9), min_size=size, max_size=size), min_size=size, max_size=size)
)


@given(confusions)
def test_precision_recall_and_f1_are_scikit_learns(rows):
    from sklearn.metrics import precision_recall_fscore_support

    matrix = np.array(rows)
    true, predicted = (np.repeat(index.ravel(), matrix.ravel()) for index in np.indices(matrix.shape))
    names = [str(k) for k in range(len(rows))]
    found = {row["name"]: row for row in evidence.by_class(matrix, names)}
    if not len(true):
        return
    expected = precision_recall_fscore_support(true, predicted, labels=range(len(rows)), zero_division=0)
    for k, values in enumerate(zip(*expected, strict=True)):
        row = found[str(k)]
        assert [row["precision"], row["recall"], row["f1"], row["support"]] == pytest.approx(list(values))


def test_calibration_error_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.45, 0.55]], dtype=np.float32)
    table, error = evidence.calibration(probs, np.array([0, 1, 1, 0]), bins=2)
    assert table["count"].tolist() == [0, 4]
    assert error == pytest.approx(abs(0.5 - (0.9 + 0.9 + 0.6 + 0.55) / 4), abs=1e-6)


def test_planted_label_errors_are_suspected():
    random = np.random.default_rng(0)
    true = np.repeat(np.arange(3), 60)
    logits = random.normal(size=(180, 3)) + 5 * np.eye(3)[true]
    probs = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    images = np.zeros((180, 4, 4, 1), dtype=np.uint8)
    names = [f"{k}" for k in range(180)]
    assert evidence._suspects(Pack(names, images, true), probs, ["a", "b", "c"]) == []
    labels = np.where(np.arange(180) % 12 == 7, (true + 1) % 3, true)
    found = evidence._suspects(Pack(names, images, labels), probs, ["a", "b", "c"])
    assert {picture.id for picture in found} == {f"{k}" for k in range(7, 180, 12)}
    assert all("abc".index(picture.true) == ("abc".index(picture.predicted) + 1) % 3 for picture in found)


def test_many_classes_are_grouped_with_those_they_are_taken_for():
    size = 120
    matrix = np.zeros((size, size), dtype=np.int64)
    for family in range(0, size, 6):
        matrix[family : family + 6, family : family + 6] = 5
    names = [f"{k}" for k in range(size)]
    small, groups = evidence.clustered_classes(matrix, names)
    assert small.sum() == matrix.sum()
    assert len(groups) == 20
    assert all(len({int(name) // 6 for name in group}) == 1 for group in groups)
    same, singles = evidence.clustered_classes(matrix[:50, :50], names[:50])
    assert (same.shape, len(singles)) == ((50, 50), 50)


def test_the_commonest_confusions():
    matrix = np.array([[5, 2, 0], [0, 5, 0], [3, 0, 5]])
    assert evidence.most_confused(matrix, ["a", "b", "c"]) == [("c", "a", 3), ("a", "b", 2)]


class Corner(nn.Module):
    """Class 1 is a bright upper left corner; class 0 is anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.maps.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = nn.functional.relu(self.maps(x), inplace=True)
        return torch.stack([maps.sum((1, 2, 3)) * 0, maps[:, :, :4, :4].sum((1, 2, 3))], 1)


def test_gradcam_is_hot_where_the_class_is():
    images = np.zeros((2, 16, 16, 1), dtype=np.uint8)
    images[0, :4, :4] = 255
    heat = gradcam(Classifier(Corner(), 1), images, np.array([1, 1]), CPU)
    assert heat.shape == (2, 16, 16)
    assert heat[0, :4, :4].min() == 1.0
    assert heat[0, 4:].max() == 0.0
    assert heat[1].max() == 0.0


def test_gradcam_reaches_its_peak_however_faint_the_gradient():
    net = Corner()
    nn.init.constant_(net.maps.weight, 1e-15)
    heat = gradcam(Classifier(net, 1), np.full((1, 16, 16, 1), 200, dtype=np.uint8), np.array([1]), CPU)
    assert heat.max() == 1.0


def test_gradcam_of_a_network_without_maps_is_none():
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), 1)
    assert gradcam(flat, np.zeros((1, 8, 8, 1), dtype=np.uint8), np.array([0]), CPU) is None


def test_curves_show_whatever_metrics_a_history_has():
    history = pd.DataFrame(
        {"epoch": [1, 2], "lr": [0.1, 0.0], "train_loss": [2, 1], "holdout_loss": [2, np.nan], "holdout_f1": [0.1, 0.2]}
    )
    assert drawn(history, "macro_f1") == {
        "loss": ["train", "holdout"],
        "macro F1": ["holdout"],
        "learning rate": [],
    }


@pytest.mark.parametrize(
    ("metric", "parts"), [("accuracy", None), ("balanced_accuracy", ["train", "holdout"]), ("log_loss", ["holdout"])]
)
def test_the_competitions_metric_is_drawn_by_its_name_of_train_and_holdout(metric, parts):
    """On training images only for metrics of classes; accuracy and macro F1 are drawn anyway, only once."""
    columns = {f"{part}_{what}": [0.1, 0.2] for part in BOTH for what in ("loss", "accuracy", "f1", "score")}
    history = pd.DataFrame({"epoch": [1, 2], "lr": [0.1, 0.0], **columns})
    if metric == "log_loss":
        history["train_score"] = np.nan
    own = {metric.replace("_", " "): parts} if parts else {}
    panels = {"loss": BOTH, "accuracy": BOTH, "macro F1": BOTH, **own, "learning rate": []}
    assert drawn(history, metric) == panels


BOTH = ["train", "holdout"]


def drawn(history, metric):
    """Return the legend entries of each panel of the curves, by the panel's title."""
    every = figures.curves(history, metric).axes
    legends = {axes.get_title(): axes.get_legend() for axes in every}
    return {
        title: [text.get_text() for text in legend.get_texts()] if legend else [] for title, legend in legends.items()
    }


def test_a_probe_alone_is_not_said_to_have_trained_for_no_time(finished, home, capsys):
    shutil.copytree(finished, home, dirs_exist_ok=True)
    run = Run.find("first")
    for epochs in (0, 2):
        train = run.recipe.train.model_copy(update={"epochs": epochs})
        same = dataclasses.replace(run, recipe=run.recipe.model_copy(update={"train": train}))
        tables.summary(same, run.result)
        assert ("trained in" in capsys.readouterr().out) is bool(epochs)
