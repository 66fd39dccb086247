"""Counting every kind of weights file and checkpoint: what else is in a file is told apart; also hostile files."""

import argparse
import csv
import json
import os
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import featherweight as fw
from featherweight import budget
from featherweight.budget import weigh_anything
from featherweight.cli import main
from featherweight.config import load_competition, load_recipe

PARAMETERS, STATISTICS = 108 + 8 + 10, 9  # a convolution without bias, a batch norm of 4, a linear layer of 4 to 2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def weighed(tmp_path, content, name="a.pth"):
    torch.save(content, tmp_path / name)
    return weigh_anything(tmp_path / name)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_and_exported_programs_weigh_as_their_network(tmp_path, net):
    scripted = torch.jit.script(net)
    scripted.save(tmp_path / "scripted.pt")
    torch.jit.trace(net, torch.rand(1, 3, 8, 8)).save(tmp_path / "traced.pt")
    torch.export.save(torch.export.export(net, (torch.rand(1, 3, 8, 8),)), tmp_path / "a.pt2")
    for name in ("scripted.pt", "traced.pt", "a.pt2"):
        found = weigh_anything(tmp_path / name)
        assert (found.parameters, found.statistics, found.bits) == (PARAMETERS, STATISTICS, 32 * PARAMETERS), name
        assert found.zeros == 4, name  # the batch norm's shift
    torch.jit.freeze(scripted).save(tmp_path / "frozen.pt")  # folds the norm: its scale is gone, its shift is the bias
    assert weigh_anything(tmp_path / "frozen.pt").parameters == PARAMETERS - 8 + 4


def test_torchscript_that_would_run_code_is_refused_in_one_line(tmp_path, net, capsys):
    torch.jit.script(net).save(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as good, zipfile.ZipFile(tmp_path / "evil.pt", "w") as evil:
        for entry in good.infolist():
            content = good.read(entry)
            evil.writestr(
                entry.filename.replace("a/", "evil/", 1),
                b"cos\nmkdir\n(S'ran'\ntR." if entry.filename.endswith("data.pkl") else content,
            )
    assert main.main(["weigh", str(tmp_path / "evil.pt")]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert "os.mkdir, which could run code; nothing in it was run" in said
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("layout", ["timm", "torchvision", "lightning", "ultralytics", "lucidrains"])
def test_averages_and_optimizers_are_told_apart_from_the_model(tmp_path, net, layout):
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    state, adam = net.state_dict(), optimizer.state_dict()
    copied = {name: tensor.clone() for name, tensor in state.items()}
    settings = argparse.Namespace(lr=0.1, data_dir="x")
    content = {
        "timm": {"epoch": 3, "arch": "a", "state_dict": state, "optimizer": adam, "args": settings, "version": 2,
                 "state_dict_ema": copied, "metric": np.float64(0.5)},
        "torchvision": {"model": state, "optimizer": adam, "lr_scheduler": {"last_epoch": 1}, "args": settings,
                        "model_ema": {"n_averaged": torch.tensor(4)}
                        | {f"module.{name}": tensor for name, tensor in copied.items()}},
        "lightning": {"epoch": 1, "pytorch-lightning_version": "2.5.0", "optimizer_states": [adam], "loops": {},
                      "hyper_parameters": {"lr": 0.1},
                      "state_dict": {f"model.{name}": one for name, one in state.items()}
                      | {f"ema_model.module.{name}": one for name, one in copied.items()}},
        "ultralytics": {"epoch": -1, "model": None, "ema": state, "updates": 100, "optimizer": adam, "train_args": {}},
        "lucidrains": {f"online_model.{name}": one for name, one in state.items()}
        | {f"ema_model.{name}": one for name, one in copied.items()},
    }[layout]  # fmt: skip
    found = weighed(tmp_path, content)
    assert (found.parameters, found.statistics) == (PARAMETERS, STATISTICS)
    whole = PARAMETERS + STATISTICS
    assert found.averaged == {"ultralytics": 0, "torchvision": whole + 1}.get(layout, whole)
    assert found.others == (0 if layout == "lucidrains" else 2 * PARAMETERS + 5)  # two moments, a step for each tensor


def test_what_only_looks_like_an_average_counts(tmp_path):
    state = {"body.weight": torch.rand(6, 6), "ema.gate.weight": torch.rand(5, 5)}
    assert weighed(tmp_path, state).parameters == 36 + 25


def test_a_number_beside_the_state_is_not_the_model(tmp_path):
    assert weighed(tmp_path, {"epoch": torch.tensor(3), "model": {"w": torch.rand(7)}}).parameters == 7


def test_bits_zeros_and_score(tmp_path):
    half = {"w": torch.cat([torch.zeros(90), torch.ones(10)]).half()}
    found = weighed(tmp_path, half)
    assert (found.bits, found.zeros) == (1600, 90)
    assert found.score == pytest.approx((10 * 16 + 100) / 32)  # ten of 16 bits, and a mask
    assert weighed(tmp_path, {"w": torch.ones(100)}).score == 100
    assert weighed(tmp_path, {"w": torch.ones(100, dtype=torch.int8)}).score == 25


@pytest.mark.filterwarnings("ignore")
def test_quantised_layers_count_once(tmp_path):
    packed = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 4)), {nn.Linear}, dtype=torch.qint8)
    found = weighed(tmp_path, packed.state_dict())
    assert (found.parameters, found.others) == (36, 0)
    assert found.bits == 32 * 8 + 4 * 32 + 2 * 32 + 32  # int8 weights, biases, and an output's scale and zero point


def test_tables_of_all_kinds_and_limits(tmp_path, net, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    save_file(net.state_dict(), "in/good.safetensors")
    save_file({"w": torch.zeros(1000)}, "in/heavy<b>.safetensors")
    (tmp_path / "in" / "bad.pt").write_bytes(b"PK..")
    words = ["weigh", "in", "--limit", "500", "--csv", "t.csv", "--html", "t.html"]
    assert main.main(words) == 3  # over a limit, which a file that cannot be read does not hide
    assert main.main(["weigh", "in/good.safetensors", "in/bad.pt", "--limit", "500"]) == 2
    with (tmp_path / "t.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["parameters"], row["zeros"], row["verdict"]) for row in rows] == [
        ("126", "4", "within the limit"),
        ("1000", "1000", "OVER"),
        ("", "", rows[2]["verdict"]),
    ]
    assert rows[2]["model"].endswith("bad.pt")
    assert rows[2]["verdict"].startswith("not weighed: ")
    page = (tmp_path / "t.html").read_text()
    assert "heavy&lt;b&gt;" in page
    assert "bad.pt" in page
    assert "http" not in page
    capsys.readouterr()
    good = "in/good.safetensors"
    size = (tmp_path / good).stat().st_size
    assert main.main(["weigh", good, "--max-bytes", str(size), "--max-score", "126", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["bytes"] == size
    assert main.main(["weigh", good, "--max-bytes", str(size - 1)]) == 3
    assert main.main(["weigh", good, "--max-macs", "1e9"]) == 3  # a file does not say: no silent pass
    assert "macs unknown" in capsys.readouterr().out


def test_outputs_that_cannot_be_written_are_refused_before_anything_is_weighed(tmp_path, net, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    torch.save(net.state_dict(), "in/net.pth")
    os.mkfifo("pipe")
    before = (tmp_path / "in" / "net.pth").read_bytes()
    for output, why in (
        (["--html", "in"], "cannot write in: it is a folder; name a file in it"),
        (["--csv", "pipe"], "cannot write pipe: it is no file"),
        (["--csv", "in/net.pth/t.csv"], "cannot read or write in/net.pth/t.csv: Not a directory"),
        (["--html", "/proc/t.html"], "cannot read or write /proc/t.html: "),
        (["--csv", "./in/net.pth"], "in/net.pth would be overwritten: it is read, too"),
        (["--csv", "t", "--html", "t"], "--csv and --html are both t"),
    ):
        assert main.main(["weigh", "in", *output]) == 2
        said = capsys.readouterr()
        assert said.err.startswith(f"error: {why}")
        assert not said.out
    assert (tmp_path / "in" / "net.pth").read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in", "pipe"]


def test_folded_count_and_multiply_adds(net):
    found = weigh_anything(net, torch.rand(2, 3, 8, 8))
    assert found.folded == 108 + 4 + 10
    assert found.macs == 4 * 27 * 36 + 8
    assert weigh_anything(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)), torch.rand(1, 3, 4, 4)).folded == 6 + 8


def test_what_a_network_works_out_of_its_weights_is_a_cache():
    """tiny_vit's attention stores indexed biases, 1.2 million numbers; it has 5,074,974 parameters at 10 classes."""
    recipe = load_recipe("wrn16_4", ["model=timm/tiny_vit_5m_224"])
    assert budget.weigh(recipe, load_competition("cifar10"), "tiny_vit").counted == 5_074_974


def test_branches_merged_as_published():
    timm = pytest.importorskip("timm")
    net = timm.create_model("repvit_m0_9", num_classes=10)
    found = weigh_anything(net, torch.empty(1, 3, 224, 224))
    assert (found.parameters, found.folded) == (4_727_028, 4_685_906)


def test_from_python(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "a.pth")
    assert fw.weigh(tmp_path / "a.pth").parameters == fw.weigh(net).parameters == PARAMETERS
    assert fw.weigh(str(tmp_path / "a.pth")).bytes > 4 * PARAMETERS
    assert fw.weigh(net, torch.rand(1, 3, 8, 8)).macs == fw.weigh(net, example=torch.rand(1, 3, 8, 8)).macs > 0
    assert fw.weigh("tiny", "digits").limit == fw.weigh("tiny").limit == 5_000_000


def test_a_run_by_its_name_and_folder(home, capsys):
    assert main.main(["tiny", "--set=train.epochs=1", "--threads=1", "--no-report", "--name=a"]) == 0
    weights = home / "runs" / "a" / "weights.safetensors"
    weights.rename(home / "kept")
    assert main.main(["weigh", "a"]) == 2
    assert "error: a has no weights yet: ./run.sh resume a" in capsys.readouterr().err
    (home / "kept").rename(weights)
    assert main.main(["weigh", "a", str(home / "runs" / "a"), "tiny.pt", "--json"]) == 2
    said = capsys.readouterr()
    first, second, none = json.loads(said.out)
    assert (none["name"], none["parameters"]) == ("tiny.pt", None)
    assert none.keys() == first.keys()
    assert first["parameters"] == second["parameters"] == fw.weigh("tiny").parameters == fw.weigh("a").parameters
    assert first["bytes"] == (home / "runs" / "a" / "weights.safetensors").stat().st_size
    assert first["macs"] == fw.weigh("tiny").macs
    assert len(said.err.strip().splitlines()) == 1
    assert main.main(["weigh", "tiny"]) == 2
    assert "./run.sh check tiny" in capsys.readouterr().err
