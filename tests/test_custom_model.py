"""The user's own networks: any form of the constructor works, and a run keeps the source code."""

import hashlib
import json
import random
import re
import shutil

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from featherweight import budget
from featherweight.cli import main
from featherweight.config import Recipe, load_competition
from featherweight.errors import UserError
from featherweight.models import FAMILIES, build
from featherweight.models.custom import store_sources
from featherweight.models.custom_source import stored_sources
from featherweight.models.custom_state import refuse_unsaved, warn_of_probabilities
from featherweight.models.pretrained_weights import expected_input
from featherweight.models.shape import Shape

DIGITS = load_competition("digits")
PARTS = "from torch import nn\ndef block(i, o): return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU())\n"
NETS = """
import random
import numpy as np
import torch
from torch import nn
from parts import block

class Net(nn.Module):
    def __init__(self, num_classes, in_chans=3, width=8):
        super().__init__()
        self.body, self.head = block(in_chans, width), nn.Linear(width, num_classes)
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))

class Wrapped(nn.Module):
    def __init__(self, *arguments):
        super().__init__()
        self.net = Net(*arguments)
    def forward(self, x):
        return self.net(x)

class Draws(Wrapped):
    def __init__(self, num_classes):
        super().__init__(num_classes, 1)
        self.net.head.weight = nn.Parameter(torch.tensor(np.random.randn(num_classes, 8), dtype=torch.float32))
    def forward(self, x):
        return self.net(x) * (random.random() if self.training else 1)

class Positional(Wrapped):
    def __init__(self, k, channels): super().__init__(k, channels)
class KeywordOnly(Wrapped):
    def __init__(self, *, classes, input_channels): super().__init__(classes, input_channels)
class Bare(Wrapped):
    def __init__(self): super().__init__(10, 1)
class Other(Wrapped):
    def __init__(self): super().__init__(7, 1)
class Breaks(Wrapped):
    def __init__(self, num_classes): raise ValueError("no such thing")
def factory(n_classes=3, channels=3, img_size=(32, 32)):
    assert img_size == (8, 8)
    return Net(n_classes, channels)
def with_a_default(k=3): return nn.Sequential(nn.Flatten(), nn.Linear(64, k))
class LooksAtNumbers(Wrapped):
    def __init__(self, num_classes): super().__init__(num_classes, 1)
    def forward(self, x): return self.net(x) * (2.0 if float(x.abs().sum()) > 1 else 1.0)
class BuiltOfNumbers(LooksAtNumbers):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.rates = [one.item() for one in torch.linspace(0, 0.1, 3)]
class ByKeywords(Wrapped):
    def __init__(self, **keys): super().__init__(keys["num_classes"], keys["in_chans"])
class ByPlaces(Wrapped):
    def __init__(self, *places): super().__init__(places[0], 1)
class FromShape(Wrapped):
    def __init__(self, input_shape, n_cls): super().__init__(n_cls, input_shape[0])
class InFirst(Wrapped):
    def __init__(self, cin, cout): super().__init__(cout, cin)
class Pair(Wrapped):
    def __init__(self, num_classes, img_size: tuple[int, int]):
        super().__init__(num_classes, len(img_size) - 1)
class WidthFirst(Wrapped):
    def __init__(self, width=20, channels=(4, 8)): super().__init__(10, 1, width)
class Lazy(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(num_classes))
    def forward(self, x): return self.net(x)
class Scripted(Wrapped):
    def __init__(self, num_classes):
        super().__init__(num_classes, 1)
        self.net.head = torch.jit.script(self.net.head)
class InComplex(Wrapped):
    def __init__(self, num_classes):
        super().__init__(num_classes, 1)
        self.wave = nn.Parameter(torch.ones(8, 5, dtype=torch.complex64))
    def forward(self, x): return self.net(torch.fft.irfft2(torch.fft.rfft2(x) * self.wave, s=x.shape[-2:]))
class Frozen(Wrapped):
    def __init__(self, num_classes):
        super().__init__(num_classes, 1)
        self.requires_grad_(False)
class InAList(Wrapped):
    def __init__(self, num_classes):
        super().__init__(num_classes, 1)
        self.more = [nn.Linear(3, 3)]
class Ends(Wrapped):
    def __init__(self, num_classes): raise SystemExit(3)
class Takes(Wrapped):
    def __init__(self, num_classes, depth): super().__init__(num_classes, 1)
class InTraining(Wrapped):
    def __init__(self, num_classes): super().__init__(num_classes, 1)
    def forward(self, x): return (self.net(x), x) if self.training else self.net(x)
made = Net(10, 1)
"""


@pytest.fixture
def net(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "my_net.py").write_text(NETS)
    (home / "parts.py").write_text(PARTS)
    return home / "my_net.py"


@pytest.mark.parametrize(
    "name", ["Net", "Positional", "KeywordOnly", "Bare", "factory", "with_a_default", "LooksAtNumbers",
     "BuiltOfNumbers", "ByKeywords", "ByPlaces", "FromShape", "InFirst", "Pair", "WidthFirst", "Lazy", "Scripted"]
)  # fmt: skip
def test_any_spelling_of_the_constructor(net, name):
    model = build(FAMILIES.validate(f"my_net.py:{name}"), Shape(10, 1, 8))
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    trained = sum(one.numel() for one in model.parameters())
    assert budget.weigh(Recipe(model=f"my_net.py:{name}", optimizer="sgd"), DIGITS, name).counted == trained
    assert name != "WidthFirst" or trained == 10 * 20 + 21 * 10


def test_a_module_in_a_package(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "mine").mkdir()
    (home / "mine" / "__init__.py").write_text("")
    (home / "mine" / "parts.py").write_text(PARTS)
    (home / "mine" / "nets.py").write_text(NETS.replace("from parts", "from .parts"))
    monkeypatch.syspath_prepend(str(home))
    assert main.main(["check", "mine.nets:Net"]) == 0


def test_the_signature_is_the_keys(net):
    model = build(FAMILIES.validate({"name": "my_net.py:Net", "width": 16}), Shape(10, 1, 8))
    assert sum(one.numel() for one in model.parameters()) == 160 + 170
    with pytest.raises(ValidationError, match="unknown key 'widht'; did you mean 'width'"):
        FAMILIES.validate({"name": "my_net.py:Net", "widht": 16})
    with pytest.raises(ValidationError, match="valid"):
        FAMILIES.validate({"name": "my_net.py:Net", "width": "wide"})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Breaks", r"my_net.py:Breaks\(num_classes=10\) raised ValueError: no such thing \(my_net.py, line \d+\)"),
        ("Other", r"my_net.py:Other\(\) gives shape \[2, 7\] .* and \[2, 10\], one column per class, is needed"),
        ("torch", "is a module"),
        ("Nett", r"did you mean 'Net'\?"),
        ("made", "is a Net; expected a class, or a function that returns a network"),
        ("Ends", r"Ends\(num_classes=10\) raised SystemExit: 3"),
        ("Takes", "needs 'depth', which is not set: use --set model.depth=VALUE"),
        ("InTraining", "gives a tuple in training for images"),
    ],
)
def test_what_cannot_be_is_one_message_with_the_call(net, name, words):
    with pytest.raises((UserError, ValidationError), match=words):
        build(FAMILIES.validate(f"my_net.py:{name}"), Shape(10, 1, 8))


@pytest.mark.parametrize(
    ("name", "words"),
    [("Frozen", "are frozen"), ("InAList", "into an nn.ModuleList"), ("InComplex", "has the complex parameter wave")],
)
def test_what_cannot_be_trained_is_refused_and_yet_weighed(net, capsys, name, words):
    assert main.main(["check", f"my_net.py:{name}"]) == 2
    assert words in capsys.readouterr().err
    assert main.main(["weigh", f"my_net.py:{name}", "--competition", "digits", "--json"]) == 0
    more = {"InAList": 12, "InComplex": 2 * 40}.get(name, 0)
    assert json.loads(capsys.readouterr().out)[0]["parameters"] == 80 + 90 + more


def test_a_file_that_is_a_script_weighs_without_disturbing(net, home, capsys):
    script = "import argparse, torch\nprint('words')\ntorch.set_default_dtype(torch.float64)\n"
    script += "argparse.ArgumentParser().parse_args()\nfrom .my_net import Net\n"
    (home / "script.py").write_text(script)
    assert main.main(["weigh", "script.py:Net", "--competition", "digits", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)[0]["parameters"] == 80 + 90
    assert "words" in captured.err
    assert torch.get_default_dtype() is torch.float32
    (home / "script.py").write_text("import sys\nsys.exit('usage')\n")
    assert main.main(["check", "script.py:Net"]) == 2
    assert "SystemExit: usage (script.py, line 2); what must not run at an import" in capsys.readouterr().err


def test_a_file_in_a_package_is_of_that_package_when_it_is_loaded_again(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "pack" / "inner").mkdir(parents=True)
    for folder in ("pack", "pack/inner"):
        (home / folder / "__init__.py").write_text("")
    (home / "pack" / "parts.py").write_text(PARTS)
    (home / "pack" / "inner" / "nets.py").write_text(NETS.replace("from parts", "from ..parts"))
    spec = FAMILIES.validate("pack/inner/nets.py:Net")
    assert {"pack/parts.py", "pack/inner/nets.py"} <= spec.sources.keys()
    store_sources(spec, home / "run")
    shutil.rmtree(home / "pack")
    with stored_sources(home / "run"):
        again = FAMILIES.validate("pack/inner/nets.py:Net")
    assert build(again, Shape(10, 1, 8))(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_a_file_that_cannot_be_imported(net, capsys):
    net.write_text("import torch\ndef Net(:\n")
    assert main.main(["check", "my_net.py:Net"]) == 2
    assert "cannot be imported: SyntaxError" in capsys.readouterr().err
    assert main.main(["check", "gone.py:Net"]) == 2
    assert "there is no file gone.py" in capsys.readouterr().err


def test_it_trains_to_the_same_bytes_and_its_run_outlives_the_file(net, home, capsys):
    settings = ["--set=model=my_net.py:Draws", "--set=train.epochs=1", "--threads=1", "--no-report"]
    for name in ("one", "two"):
        assert main.main(["tiny", *settings, "--name", name]) == 0
    sums = {
        hashlib.sha256((home / "runs" / name / "weights.safetensors").read_bytes()).digest() for name in ("one", "two")
    }
    assert len(sums) == 1
    net.write_text("Net = None\n")
    (home / "parts.py").unlink()
    capsys.readouterr()
    assert main.main(["report", "one"]) == 0


def test_an_argument_by_which_it_starts_from_other_images_is_refused_where_that_is_not_allowed(tmp_path):
    """Also by its default; an argument of that name is not a key of the library families."""
    file = tmp_path / "own.py"
    file.write_text(
        "from torch import nn\n"
        "def net(num_classes, in_chans, pretrained=True, weights=None):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )

    def weigh(**keys):
        recipe = Recipe.model_validate({"model": {"name": f"{file}:net", **keys}, "optimizer": "sgd"})
        assert expected_input(recipe.model) is None
        return budget.weigh(recipe, DIGITS, "own").counted

    with pytest.raises(UserError, match=r"called with pretrained=True, .* --set model.pretrained=false"):
        weigh()
    with pytest.raises(UserError, match=r"called with weights=IMAGENET1K_V1"):
        weigh(pretrained=False, weights="IMAGENET1K_V1")
    assert weigh(pretrained=False) == weigh(pretrained=False, weights=[1.0, 2.0]) == 650


class Unsaved(nn.Module):
    """Logits of images times a scale, which each test keeps in its own way."""

    def __init__(self):
        super().__init__()
        self.scale, self.passes, self.head = 1.0, 0, nn.Linear(64, 10)
        self.table = torch.arange(64).float().sin()  # always the same

    def forward(self, x):
        self.passes += self.training
        self.seen = x.flatten(1) * self.table * self.scale  # kept, and not used again
        return self.head(self.seen)


class InAttribute(Unsaved):
    def __init__(self):
        super().__init__()
        self.scale = torch.randn(64)


class InPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = InAttribute()

    def forward(self, x):
        return self.part(x)


class InBuffer(Unsaved):
    def __init__(self):
        super().__init__()
        del self.scale
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def forward(self, x):
        if self.training:
            self.scale.mul_(0.5)
        return super().forward(x)


class InCounter(Unsaved):
    def forward(self, x):
        return super().forward(x) * self.passes


class Dropped(Unsaved):
    def forward(self, x):
        noise = random.random() + np.random.rand() if self.training else torch.rand(1)
        return nn.functional.dropout(super().forward(x), 0.5, self.training) * noise


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (InAttribute, "scale is not saved with them; make it a buffer: self.register_buffer('scale', ...)"),
        (InPart, "scale of its module part is not saved with them"),
        (InBuffer, "scale is not saved with them"),
        (InCounter, "what it counts or draws at random is not saved with them"),
    ],
)
def test_what_answers_otherwise_with_its_weights_loaded_again_is_refused_before_it_trains(net, words):
    with pytest.raises(UserError, match=f"model: mine answers otherwise .*{re.escape(words)}"):
        refuse_unsaved(net, Shape(10, 1, 8), "mine")


@pytest.mark.parametrize("net", [Unsaved, Dropped, lambda: nn.Linear(3, 10)], ids=["same", "drops", "fails"])
def test_what_its_weights_restore_is_trained_and_no_generator_is_moved(net):
    torch.manual_seed(5)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    refuse_unsaved(net, Shape(10, 1, 8), "mine")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


def test_a_network_that_ends_in_a_softmax_is_warned_of(capsys):
    logits = [nn.Flatten(), nn.Linear(64, 10)]
    warn_of_probabilities(lambda: nn.Sequential(*logits), Shape(10, 1, 8), "mine")
    assert not capsys.readouterr().out
    warn_of_probabilities(lambda: nn.Sequential(*logits, nn.Softmax(1)), Shape(10, 1, 8), "mine")
    assert "warning: mine returns probabilities: take the softmax out" in capsys.readouterr().out


def test_a_network_that_does_not_save_what_it_computes_with_starts_no_run(net, home, capsys):
    text = "import torch\nfrom torch import nn\nclass Net(nn.Module):\n    def __init__(self, num_classes):\n"
    text += "        super().__init__()\n        self.rays, self.head = torch.randn(64, 9), nn.Linear(9, num_classes)\n"
    net.write_text(text + "    def forward(self, x):\n        return self.head(x.flatten(1) @ self.rays.to(x))\n")
    assert main.main(["tiny", "--set=model=my_net.py:Net", "--set=train.epochs=1", "--name=one"]) == 2
    assert "my_net.py:Net answers otherwise when its weights are loaded again: rays is not" in capsys.readouterr().err
    assert not (home / "runs" / "one").exists()
