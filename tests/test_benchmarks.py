"""The parts of the benchmarks that their numbers depend on.

These are the rebuilt published recipe, the peers' files and tables, continuing a race, timing a step, and detecting
that memory was refused.
"""

import argparse
import importlib
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import _airbench94 as airbench94
import _record
import _runs
import ablations
import forecasts
import linear
import peers
import race
import timed
from _airbench94 import Outcome
from featherweight.config import load_recipe
from featherweight.data.pack import Pack
from featherweight.training import trainer
from featherweight.training.forecast import TimeForecast

CPU = torch.device("cpu")


def test_a_result_joins_those_of_this_repository_on_purpose_only(home, monkeypatch):
    try:
        assert home / "reports" / "bench" == importlib.reload(_record).RESULTS
        monkeypatch.setenv(_record.RECORD, "1")
        assert importlib.reload(_record).RESULTS == ROOT / "benchmarks" / "results"
    finally:
        monkeypatch.undo()
        importlib.reload(_record)


def test_the_published_network_has_the_parameters_of_fastnet94():
    net = airbench94.network(CPU)
    learned = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    assert learned + net[0].weight.numel() == 1_971_640
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_what_benchmarks_take_from_the_record_is_there():
    """A name that is missing would end a benchmark after hours of training."""
    texts = {path.name: path.read_text() for path in sorted((ROOT / "benchmarks").glob("*.py"))}
    used = {(name, word) for name, text in texts.items() for word in re.findall(r"\b_record\.(\w+)", text)}
    assert not {(name, word) for name, word in used if not hasattr(_record, word)}


def test_what_does_not_differ_has_a_p_value_too():
    assert _record.paired([0.0, 0.0, 0.0]) == {"mean": 0.0, "interval95": [0.0, 0.0], "p": 1.0}
    assert _record.paired([1.0, 2.0, 3.0])["p"] == pytest.approx(0.0742, abs=1e-4)


def test_a_run_is_trained_if_it_is_missing_and_continued_if_it_is_not_finished(monkeypatch):
    asked = []
    monkeypatch.setattr(_runs, "_command", lambda *words: asked.append(words))
    monkeypatch.setattr(_runs.Run, "find", lambda name: SimpleNamespace(name=name, is_finished=name == "finished"))
    monkeypatch.setattr(_runs.Run, "exists", lambda name: name != "missing")
    assert [_runs.trained(name, "tiny").name for name in ("missing", "begun", "finished")] == [
        "missing",
        "begun",
        "finished",
    ]
    assert asked == [("tiny", "--name", "missing", "--no-report"), ("resume", "begun", "--no-report")]


def test_the_published_loader_shows_each_image_once_and_mirrors_all_in_odd_epochs():
    torch.manual_seed(0)
    images = torch.arange(12.0)[:, None, None, None].expand(12, 3, 8, 8) + torch.linspace(0, 0.5, 8)
    loader = airbench94.Loader(images, torch.arange(12), batch=4)
    rising = []
    for _ in range(2):
        seen = [(shown, labels) for shown, labels in loader]
        labels = torch.cat([labels for _, labels in seen])
        assert sorted(labels.tolist()) == list(range(12))
        for shown, theirs in seen:
            assert torch.equal(shown[:, 0].mean((1, 2)).floor().long(), theirs)
        slopes = torch.cat([shown[:, 0, 4, 5] - shown[:, 0, 4, 2] for shown, _ in seen]) > 0
        rising.append(slopes[labels.argsort()])
    assert torch.equal(rising[0], ~rising[1])


def test_whitened_patches_have_the_same_deviation_in_every_direction():
    torch.manual_seed(0)
    images = torch.rand(64, 3, 8, 8).cumsum(3)
    images = (images - images.mean()) / images.std()
    layer = torch.nn.Conv2d(3, 24, 2)
    airbench94.whiten(layer, images)
    out = layer(images).detach()
    torch.testing.assert_close(out[:, :12], -out[:, 12:], atol=1e-4, rtol=0)
    strong = out.square().mean((0, 2, 3))[:6]  # of directions that carry more than what keeps the others from growing
    assert ((strong > 0.8) & (strong < 1.05)).all()


def test_a_run_of_the_published_recipe_ends():
    random = np.random.default_rng(0)
    labels = np.arange(32, dtype=np.int64) % 2
    images = random.integers(0, 60, (32, 32, 32, 3), dtype=np.uint8)
    images[labels == 1] += 150
    outcome = airbench94.run((images, labels), (images, labels), CPU, epochs=3, batch=8)
    assert outcome.accuracy == 1
    assert outcome.seconds > 0


def test_the_peers_files_are_even_over_classes_and_no_table_hides_a_spread(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "all" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "all" / name / f"{number}.jpg").write_text(name)
    peers.subset(tmp_path / "all", tmp_path / "some", 4)
    chosen = sorted(path.parent.name for path in (tmp_path / "some" / "train").glob("*/*"))
    assert chosen == ["ant", "ant", "bee", "bee"]
    assert len(list((tmp_path / "some" / "valid").glob("*/*"))) == 2
    rates, processor = peers.Rates(["ours", "timm"]), peers.Rates(["ours", "timm"])
    rates["ours"], rates["timm"] = [20.0, 30.0, 60.0], [10.0, 20.0, 20.0]
    processor["ours"], processor["timm"] = [4.0] * 3, [2.0] * 3
    rows = peers.summary(rates, processor)
    assert rows["timm"]["ours_over_it"] == 2
    assert "| timm | 20.0 | 10.0 to 20.0 | 2.00 (1.50 to 3.00) | 2.00 |" in peers.table("x", rows)


def test_a_race_goes_on_with_what_was_kept_of_the_same_settings_alone():
    racers = {"ours": [Outcome(2.0, 0.5), Outcome(4.0, 0.7)], "published": [Outcome(3.0, 0.6), Outcome(9.0, 0.9)]}
    about = {"images": 100, "published": {"widths": [8, 16, 16]}}
    rows = {name: race.summary(outcomes) for name, outcomes in racers.items()}
    means = {"median_seconds": 6.0, "mean_accuracy": 0.75}
    assert rows["published"] == {"seconds": [3.0, 9.0], "accuracy": [0.6, 0.9], **means}
    kept = json.loads(json.dumps({**about, "runs": rows, "gain": 0.1}))
    assert race.begun(kept, about, list(racers)) == racers
    nothing = {"ours": [], "published": []}
    assert race.begun(kept, {**about, "published": {"widths": [8, 16, 32]}}, list(racers)) == nothing
    assert race.begun({}, about, list(racers)) == nothing


def test_the_time_of_a_step_leaves_out_what_a_run_starts_with(monkeypatch):
    calls, clock = [], [0.0]

    def slow(images, draws):
        calls.append(len(images))
        clock[0] += 0.02 if len(calls) > 1 else 1.0  # the first one, as if it were compiled
        return images

    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(timed.predictions, "augmentations", lambda recipe, competition: [slow])
    competition = SimpleNamespace(image=SimpleNamespace(channels=3, size=8), classes=["ant", "bee"])
    recipe = load_recipe("mlp", ["train.batch_size=4", "model.hidden=[4]", "train.steps=1", "train.precision=fp32"])
    seconds = timed.step_seconds(recipe, competition, noise(20), "cpu", 2)
    assert calls == [4] * 2 * timed.EPOCHS
    assert seconds == pytest.approx(0.02)


def test_epochs_of_a_mapped_file_are_fetched_from_the_disk_and_those_of_the_memory_are_not(tmp_path, monkeypatch):
    path = tmp_path / "images.npy"
    linear.write(path, 3000, 32)
    if not fetches(path):
        pytest.skip("what lies here is not on a disk, or the system does not forget it")
    monkeypatch.setattr(linear.mapped_rows, "IN_MEMORY", 0)
    mapped = linear.trained(path, 2)
    assert mapped["images"] == 2900 // linear.BATCH * linear.BATCH
    assert mapped["fetched"] > 0.9 * path.stat().st_size
    assert mapped["seconds"] > 0
    monkeypatch.setattr(linear.mapped_rows, "IN_MEMORY", 2**62)
    assert linear.trained(path, 2)["fetched"] < 0.1 * path.stat().st_size


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to RLIMIT_DATA")
def test_a_child_that_gets_no_memory_says_so_and_any_other_failure_ends_the_benchmark(tmp_path, monkeypatch):
    path = tmp_path / "images.npy"
    shape = (2**32 // 3072, 32, 32, 3)  # 4 GB, of which no byte is written
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    told = linear.one(path, "--keep", "memory", "--limit", str(2 * 2**30))
    assert "Unable to allocate" in told["refused"]
    path.unlink()
    with pytest.raises(FileNotFoundError, match="No such file"):
        linear.child(path, argparse.Namespace(limit=None, keep=None, epochs=1))
    (tmp_path / "fails.py").write_text("import sys\nsys.exit('No such file')\n")
    monkeypatch.setattr(linear, "__file__", str(tmp_path / "fails.py"))
    with pytest.raises(SystemExit, match="with --limit 9 ended with 1: No such file"):
        linear.one(path, "--limit", "9")


def test_only_a_want_of_memory_is_taken_for_one():
    assert linear.lacks_memory(MemoryError())
    assert linear.lacks_memory(OSError(12, "Cannot allocate memory"))
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    assert linear.lacks_memory(refused.value)
    assert not linear.lacks_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_growth_has_a_row_for_each_number_of_images(tmp_path, monkeypatch):
    def one(path, *options):
        assert options == ("--epochs", str({100: 11, 100_000: 3}[len(np.load(path, mmap_mode="r"))]))
        return {"images": 64, "seconds": seconds.pop(), "fetched": 0.0, "peak": 10.0 * len(seconds)}

    seconds = [2.0, 8.0, 4.0, 0.1, 0.4, 0.2]
    monkeypatch.setattr(linear, "one", one)
    few, many = linear.growth(tmp_path, (100, 100_000), 3)
    assert few == {
        "images": 64,
        "seconds": 0.2,
        "from": 0.1,
        "to": 0.4,
        "images_per_second": 320.0,
        "peak": 50.0,
        "data": 100 * 192,
    }
    assert (many["seconds"], many["peak"]) == (4.0, 20.0)


def noise(count: int) -> Pack:
    """Make 8x8 noise images of two classes."""
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return Pack([str(place) for place in range(count)], images, np.arange(count) % 2)


def fetches(path) -> bool:
    """True if a file is read from disk again after it was dropped from the page cache."""
    mapped = np.load(path, mmap_mode="r")
    linear.drop(path, mapped)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    mapped.sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock > before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "tests,raec"], "there is no part 'raec'; there are tests, nccl, peers, compile, race, best"),
        (["--fast"], "unknown argument --fast"),
        (["--limit", "9m"], "--limit 9m: expected whole seconds"),
    ],
)
def test_the_gpu_script_refuses_what_it_does_not_know(words, told):
    done = run_gpu(words)
    assert done.returncode == 2
    assert told in done.stderr


def test_the_gpu_script_says_what_it_has_no_time_for(tmp_path):
    done = run_gpu(["--smoke", "--only", "race", "--limit", "30", "--out", str(tmp_path)], without_gpu(tmp_path))
    assert done.returncode == 1
    assert "== race is skipped: only" in done.stdout
    assert (tmp_path / "gpu.log").read_text().endswith("failed: race\n")


def test_the_gpu_script_says_that_there_is_no_gpu(tmp_path):
    done = run_gpu(["--only", "race", "--out", str(tmp_path)], without_gpu(tmp_path))
    assert done.returncode == 2
    assert "there is no GPU on this machine; --smoke" in done.stderr


def without_gpu(folder: Path) -> dict[str, str]:
    """Write a fake torch for the script, which reports no GPU; return the environment that uses it."""
    cuda = "class cuda:\n    is_available = staticmethod(lambda: False)\n    device_count = staticmethod(lambda: 0)\n"
    (folder / "torch.py").write_text(f"__version__ = '0'\n{cuda}")
    return {"PYTHONPATH": str(folder)}


def run_gpu(words: list[str], more: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """Run `benchmarks/gpu.sh WORDS` with the environment of the tests and the variables in `more`."""
    environment = {**os.environ, "FEATHERWEIGHT_PYTHON": sys.executable, **more}
    script = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *words]
    return subprocess.run(script, env=environment, capture_output=True, text=True, check=False)


def test_the_forecast_of_a_run_is_read_as_it_is_printed():
    forecast = TimeForecast(4001, None)
    assert forecast.line(1, 10.0, 9, lambda: 5 * 10**6) == ""
    found = forecasts.FORECAST.search(forecast.line(11, 30.0, 9, lambda: 5 * 10**6))
    assert found
    assert found.groups()[:2] == ("2.2", "hours")
    assert forecasts.LAST_EPOCH.match("  epoch 12/12  loss 0.1")
    assert not forecasts.LAST_EPOCH.match("  epoch  2/12  loss 0.1")


def test_the_page_shows_the_recorded_gains():
    cells = ablations.read(ROOT / "benchmarks" / "results" / "ablations.csv")
    tables = ablations.tables(ablations.gains(cells.values()))
    page = (ROOT / "docs" / "ablations.md").read_text()
    assert len(tables) == 3
    for rows in tables:
        assert "\n\n" + "\n".join(rows) + "\n\n" in page


def test_gains_are_paired_by_seed():
    def cell(option: str, seed: int, right: int) -> ablations.Cell:
        return ablations.Cell("set", option, seed, 100, 10, 200, right, 1.0)

    cells = [cell("base", 0, 100), cell("base", 1, 120), cell("sam", 0, 104), cell("sam", 1, 126), cell("ema", 1, 118)]
    measured = ablations.gains(cells)["set"]
    assert measured["base"]["gain"] == pytest.approx(55)
    assert measured["sam"]["gain"] == pytest.approx(2.5)  # points, of 2 and 3
    assert measured["sam"]["seeds"] == 2
    assert measured["ema"]["gain"] == pytest.approx(-1)
    # Their standard deviation is that of 2 and 3; with one degree of freedom 12.7 of it are an interval.
    assert measured["ema"]["half"] == pytest.approx(12.706 * 0.5**0.5, abs=1e-2)
    assert measured["sam"]["half"] == pytest.approx(12.706 * 0.5**0.5 / 2**0.5, abs=1e-2)
