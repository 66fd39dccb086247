"""The parts of the benchmarks that a number hangs on: the published recipe as rebuilt, the peers' files and tables."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import _published as published
import peers

CPU = torch.device("cpu")


def test_the_published_network_has_the_parameters_of_fastnet94():
    net = published.network(CPU)
    learned = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    assert learned + net[0].weight.numel() == 1_971_640
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_the_published_loader_shows_each_image_once_and_mirrors_all_in_odd_epochs():
    torch.manual_seed(0)
    images = torch.arange(12.0)[:, None, None, None].expand(12, 3, 8, 8) + torch.linspace(0, 0.5, 8)
    loader = published.Loader(images, torch.arange(12), batch=4)
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
    published.whiten(layer, images)
    out = layer(images).detach()
    torch.testing.assert_close(out[:, :12], -out[:, 12:], atol=1e-4, rtol=0)
    strong = out.square().mean((0, 2, 3))[:6]  # of directions that carry more than what keeps the others from growing
    assert ((strong > 0.8) & (strong < 1.05)).all()


def test_a_run_of_the_published_recipe_ends():
    random = np.random.default_rng(0)
    labels = np.arange(32, dtype=np.int64) % 2
    images = random.integers(0, 60, (32, 32, 32, 3), dtype=np.uint8)
    images[labels == 1] += 150
    outcome = published.run((images, labels), (images, labels), CPU, epochs=3, batch=8)
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


@pytest.mark.parametrize(
    ("words", "told"), [(["--only", "tests,raec"], "there is no part 'raec'"), (["--fast"], "unknown argument --fast")]
)
def test_the_gpu_script_refuses_what_it_does_not_know(words, told):
    done = run_gpu(words)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_gpu_script_says_that_there_is_no_gpu(tmp_path):
    done = run_gpu(["--only", "race", "--out", str(tmp_path)])
    assert done.returncode == 2
    assert "there is no GPU on this machine; --smoke" in done.stderr


def run_gpu(words: list[str]) -> subprocess.CompletedProcess[str]:
    """`benchmarks/gpu.sh WORDS` with the environment of the tests."""
    environment = {**os.environ, "FEATHERWEIGHT_PYTHON": sys.executable}
    script = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *words]
    return subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
