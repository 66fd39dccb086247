"""Modules in every state on the scales: compiled, pruned, after a pass, in half precision: the count stays."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import featherweight as fw
from featherweight import budget
from featherweight.budget import weigh_anything
from featherweight.config import Recipe, load_competition
from featherweight.errors import UserError

COUNT = 3 * 8 * 9 + 8 + 8 * 10 + 10  # a convolution, a linear layer of 8 to 10
IMAGES = torch.zeros(1, 3, 32, 32)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def compiled_itself() -> nn.Module:
    made = net()
    made.compile()
    return made


def compiled_part() -> nn.Module:
    made = net()
    made[0].compile()
    return made


def weight_norm() -> nn.Module:
    made = net()
    torch.nn.utils.weight_norm(made[0])
    return made


def spectral_norm() -> nn.Module:
    made = net()
    torch.nn.utils.spectral_norm(made[0])
    return made


def pruned() -> nn.Module:
    made = net()
    prune.l1_unstructured(made[0], "weight", 0.5)
    return made


COMPILED = {
    "itself": compiled_itself,
    "a part": compiled_part,
    "within": lambda: nn.Sequential(nn.Identity(), torch.compile(net())),
    "from outside": lambda: torch.compile(net()),
}
HOOKED = {"weight norm": (weight_norm, COUNT + 8), "spectral norm": (spectral_norm, COUNT), "pruned": (pruned, COUNT)}


@pytest.mark.slow  # the first import of the compiler takes a minute
@pytest.mark.parametrize("make", COMPILED.values(), ids=COMPILED)
def test_what_the_compiler_adds_is_no_weight(make):
    found = weigh_anything(make(), IMAGES)
    assert (found.parameters, found.zeros is None) == (COUNT, False)
    assert found.macs == 8 * 27 * 30 * 30 + 80


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "true"), HOOKED.values(), ids=HOOKED)
def test_the_count_is_the_same_after_a_pass(make, true):
    made = make().eval()
    before = weigh_anything(made, IMAGES)
    with torch.no_grad():
        made(IMAGES)
    after = weigh_anything(made, IMAGES)
    assert before.parameters == after.parameters == true
    assert before.macs == after.macs == 8 * 27 * 30 * 30 + 80
    assert before.folded == after.folded == true


def test_attention_keeps_its_biases_after_a_pass():
    timm = pytest.importorskip("timm")
    made = timm.create_model("levit_128s", num_classes=10).eval()
    with torch.no_grad():
        made(torch.zeros(1, 3, 224, 224))
    assert weigh_anything(made).parameters == sum(one.numel() for one in made.parameters())
    kept = next(one for one in made.modules() if getattr(one, "attention_bias_cache", None))
    kept.attention_bias_cache["cuda:7"] = torch.rand(50, 50)  # which is no copy of them
    assert weigh_anything(made).parameters == sum(one.numel() for one in made.parameters()) + 2500


def test_what_autograd_made_of_hidden_tensors_counts():
    made = net()
    made.w = torch.rand(50, 10, requires_grad=True) * 2
    assert weigh_anything(made).parameters == COUNT + 500
    made.w = made[4].weight * 2
    assert weigh_anything(made).parameters == COUNT


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_multiply_adds_in_any_precision_of_a_batch_or_one_image(kind):
    for example in (IMAGES, IMAGES[0], torch.zeros(4, 3, 32, 32)):
        assert weigh_anything(net().to(kind), example).macs == 8 * 27 * 30 * 30 + 80


def test_an_example_that_is_none_is_said_to_be():
    with pytest.raises(UserError, match="must be a tensor of images"):
        fw.weigh(net(), (3, 32, 32))
    with pytest.raises(UserError, match=r"must be images \[B, C, H, W\], and is \[5\]"):
        fw.weigh("timm/resnet18", torch.rand(5))
    with pytest.raises(UserError, match="an object of type int"):
        fw.weigh(3)


@pytest.mark.filterwarnings("ignore")
def test_weight_norm_in_a_network_by_its_file(tmp_path):
    """By the gate and by name: 8 scales, 216 directions, 90 of the head, at 10 classes."""
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes, in_chans):\n"
        "        super().__init__()\n"
        "        self.c = torch.nn.utils.weight_norm(nn.Conv2d(in_chans, 8, 3, bias=False))\n"
        "        self.h = nn.Linear(8, num_classes)\n"
        "    def forward(self, x): return self.h(self.c(x).mean((2, 3)))\n"
    )
    recipe = Recipe(model=f"{tmp_path}/own.py:Net", optimizer="sgd")
    cifar = load_competition("cifar10")
    assert budget.weigh(recipe, cifar, "own").counted == 8 + 216 + 90
    assert weigh_anything(f"{tmp_path}/own.py:Net", shape=cifar.shape).parameters == 8 + 216 + 90


@pytest.mark.parametrize(
    "make",
    [
        net,
        lambda: nn.Sequential(net(), nn.BatchNorm1d(10)),
        lambda: nn.Sequential(net(), nn.BatchNorm1d(3000)),
        lambda: nn.Sequential(net(), nn.BatchNorm1d(6000)),  # more statistics than networks have
        lambda: nn.Sequential(net(), nn.BatchNorm1d(10, affine=False)).half(),
    ],
)
def test_a_module_weighs_what_its_state_does(make):
    made = make()
    module, state = weigh_anything(made), weigh_anything(made.state_dict())
    assert (module.parameters, module.statistics) == (state.parameters, state.statistics)
    assert (module.bits, module.zeros, module.score) == (state.bits, state.zeros, state.score)
