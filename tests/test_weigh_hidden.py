"""Weights by another name count: what only is called a statistic, an index, a mask, a scale or a record."""

import random
from collections import OrderedDict, defaultdict, deque
from datetime import datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

from featherweight.budget import weigh_anything
from featherweight.budget.made_by_code import MADE
from featherweight.budget.what_counts import groups

NET = {"conv.weight": torch.rand(8, 3, 3, 3), "head.weight": torch.rand(10, 8)}
OWN = 216 + 80


def norm(channels: int, name: str = "bn", affine: bool = False) -> dict:
    scale = {f"{name}.weight": torch.rand(channels), f"{name}.bias": torch.rand(channels)} if affine else {}
    return {
        **scale,
        f"{name}.running_mean": torch.rand(channels),
        f"{name}.running_var": torch.rand(channels),
        f"{name}.num_batches_tracked": torch.tensor(1),
    }


def with_attributes() -> dict:
    state = OrderedDict(NET)
    state._metadata = {"": {"version": 1, "w": torch.rand(500)}}
    return state


def with_parameter() -> dict:
    weight = nn.Parameter(torch.rand(5))
    weight.more = torch.rand(500)
    return {**NET, "w": weight}


def filled() -> defaultdict:
    history = defaultdict(list)
    history["loss"] += FLOATS
    return history


def sparse() -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.zeros(1, 500, dtype=torch.int64), torch.rand(500), (1,))


FLOATS = [0.5] * 500
ANY = random.Random(0)
TABLE = {"relative_position_bias_table": torch.rand(169, 2)}  # of a window of 7 by 7
HIDDEN = {
    "a norm as wide as no layer": ({**NET, **norm(3000)}, OWN + 6000),
    "more norms than networks have": (
        {"w": torch.rand(64, 1), **{key: one for n in range(80) for key, one in norm(64, f"bn{n}").items()}},
        64 + 80 * 129,
    ),
    "an index of weights": ({**NET, "position_ids": torch.randint(9, (500,))}, OWN + 500),
    "an index of zeros that are none": ({**NET, "token_type_ids": torch.arange(500)}, OWN + 500),
    "an index into no table": ({**NET, "relative_position_index": torch.randint(9, (500,))}, OWN + 500),
    "an index of any places": (
        {**NET, **TABLE, "relative_position_index": torch.randint(169, (49, 49))}, OWN + 338 + 2401,
    ),
    "an index of any offsets": (
        {**NET, "attention_biases": torch.rand(2, 16), "attention_bias_idxs": torch.randint(16, (16, 16))},
        OWN + 32 + 256,
    ),
    "a mask of any windows": ({**NET, "attn_mask": -100.0 * torch.randint(2, (4, 9, 9))}, OWN + 324),
    "a transform of any values": ({**NET, "weights": torch.rand(8, 8)}, OWN + 64),
    "a transform of any small values": (
        {**NET, "weights": (0.02 * torch.randn(256, 256)).clamp(-0.06, 0.06).bfloat16()},
        OWN + 256**2,
    ),
    "very many different whole numbers": ({"model": NET, "w": ANY.sample(range(10**6), 30_000)}, OWN + 30_000),
    "coordinates of any values": ({**NET, "relative_coords_table": torch.rand(1, 250, 1, 2)}, OWN + 500),
    "coordinates of many grids": ({**NET, "relative_coords_table": torch.rand(250, 1, 1, 2)}, OWN + 500),
    "a statistic of one number beside many": (
        {**NET, "bn.running_mean": torch.rand(8), "bn.running_var": torch.tensor(1.0)}, OWN + 9,
    ),
    "a long list and short ones": ({"model": NET, "w": [0.5] * 33 + [[0.5] * 32 for _ in range(40)]}, OWN + 1313),
    "a mask of nothing": ({**NET, "w_orig": torch.rand(1), "w_mask": torch.ones(500)}, OWN + 501),
    "vectors of no matrix": ({**NET, "w_orig": torch.rand(1), "w_u": torch.rand(500)}, OWN + 501),
    "scales of one weight": (
        {**NET, **{f"{n}.{key}": one for n in range(30) for key, one in
                   {"weight": torch.ones(1, dtype=torch.int8), "SCB": torch.rand(500)}.items()}}, OWN + 30 * 501,
    ),
    "beside HQQ's": (
        {"W_q": torch.ones(4, dtype=torch.uint8), "shape": torch.tensor([2, 2]), "head.weight": torch.rand(500)}, 504,
    ),
    "a layer's scale that is many": ({**NET, "scale": torch.rand(500), "zero_point": torch.ones(500)}, OWN + 1000),
    "an observer of weights": ({**NET, "activation_post_process.w": torch.rand(500)}, OWN + 500),
    "4 bits in floats": (
        {"l.weight": torch.zeros(100), "l.weight.quant_state.bitsandbytes__nf4": torch.zeros(9, dtype=torch.uint8)},
        800,
    ),
    "a shape that is half of it": (
        {"l.weight_packed": torch.zeros(10, 100, dtype=torch.int32), "l.weight_shape": torch.tensor([10, 200]),
         "l.weight_scale": torch.rand(1)}, 4000,
    ),
    "a list": ({"model": NET, "w": FLOATS}, OWN + 500),
    "a dict": ({"model": NET, "w": {str(n): one for n, one in enumerate(FLOATS)}}, OWN + 500),
    "short lists": ({"model": NET, "w": torch.rand(70, 30).tolist()}, OWN + 2100),
    "very many short dicts": ({"model": NET, "w": [{"a": 0.5, "b": 1.5} for _ in range(6000)]}, OWN + 12_000),
    "a record longer than any": ({"model": NET, "losses": [0.5] * 20_000}, OWN + 20_000),
    "an optimizer larger than any": ({"model": NET, "optimizer": {"w": torch.rand(200_000)}}, OWN + 200_000),
    "a state larger than any": (
        {"model": NET, "o": {"state": {0: {"exp_avg": torch.rand(200_000)}}, "param_groups": []}}, OWN + 200_000,
    ),
    "bytes": ({"model": NET, "w": bytearray(500)}, OWN + 500),
    "attributes of a state": (with_attributes(), OWN + 500),
    "attributes of a parameter": (with_parameter(), OWN + 5 + 500),
    "values on one place": ({**NET, "w": sparse()}, OWN + 500),
    "lists alone": ({"w": FLOATS}, 500),
}  # fmt: skip
HONEST = {
    "a norm without weights of its own": {**NET, **norm(8)},
    "a norm of parts": {**NET, **norm(4)},
    "curves": {"model": NET, "train_losses": FLOATS, "history": {"val": {"acc": FLOATS}}, "lrs": FLOATS},
    "classes": {"model": NET, "class_to_idx": {f"class {n}": n for n in range(102)}, "split": [*range(7, 500, 3)]},
    "a shuffled split": {"model": NET, "train": ANY.sample(range(5000), 4000)},
    "generators": {
        "model": NET, "random_state": random.Random(0).getstate(), "python": random.Random(0).getstate(),
        "numpy_random_state": np.random.RandomState(0).get_state()[1],
    },
    "settings": {"model": NET, "config": {"anchors": [[10, 13, 16, 30]] * 3, "blocks": [[3, 16, 0.25]] * 16}},
    "a defaultdict, a queue, a date": {
        "model": NET, "history": filled(), "last_losses": deque(FLOATS, maxlen=600), "when": datetime(2026, 1, 1),
        "options": SimpleNamespace(lr=0.1, took=timedelta(hours=1)),
    },
    "an optimizer": {"model": NET, "optimizer": {"state": {}, "param_groups": [{"params": [*range(90)]}]}},
    "places": {**NET, "position_ids": torch.arange(50).expand(1, -1), "token_type_ids": torch.zeros(1, 50).long()},
}  # fmt: skip


@pytest.mark.parametrize(("content", "true"), HIDDEN.values(), ids=HIDDEN)
def test_weights_by_another_name_count(tmp_path, content, true):
    torch.save(content, tmp_path / "a.pth")
    assert weigh_anything(tmp_path / "a.pth").parameters == true


@pytest.mark.parametrize("content", HONEST.values(), ids=HONEST)
def test_what_is_no_weight_does_not_count(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    assert weigh_anything(tmp_path / "a.pth").parameters == OWN


def test_an_index_into_a_table(tmp_path):
    index = SwinTransformer([4, 4], 4, [2], [1], [7, 7]).state_dict()["features.1.0.attn.relative_position_index"]
    torch.save({**NET, **TABLE, "relative_position_index": index}, tmp_path / "a.pth")
    found = weigh_anything(tmp_path / "a.pth")
    assert (found.parameters, found.statistics) == (OWN + 338, 2401)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.some(3)
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("swin_tiny_patch4_window7_224", {"img_size": 32, "window_size": 4, "depths": (2, 2), "num_heads": (1, 2)}),
        ("beit_base_patch16_224", {"img_size": (64, 32), "depth": 1, "use_shared_rel_pos_bias": True}),
        ("levit_128s", {}),
        ("efficientformer_l1", {}),
        ("csatv2", {}),
    ],
)
def test_what_the_code_makes_is_known_by_its_values(name, settings):
    """As a module, as its state, and with the buffers that earlier versions saved too; other values are weights."""
    narrow = {"embed_dim": 16, "num_heads": 2} if "swin" in name or "beit" in name else {}
    net = timm.create_model(name, num_classes=2, **narrow | settings)
    true, state = sum(one.numel() for one in net.parameters()), net.state_dict()
    assert weigh_anything(net).parameters == weigh_anything(state).parameters == true
    with torch.device("meta"):
        assert weigh_anything(timm.create_model(name, num_classes=2, **narrow | settings)).parameters == true
    earlier = {key: one for key, one in net.named_buffers() if key.rpartition(".")[2] in MADE}
    assert earlier
    assert weigh_anything({**state, **earlier}).parameters == true
    for last in {key.rpartition(".")[2] for key in earlier}:
        key, one = next((key, one) for key, one in earlier.items() if key.endswith(last))
        assert weigh_anything({**state, key: one.flip(0)}).parameters == true + one.numel()


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.weights = nn.Linear(8, 10), [0.5] * 500

    weights: list[float]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x) + sum(self.weights)


@pytest.mark.filterwarnings("ignore")
def test_lists_in_torchscript(tmp_path):
    torch.jit.script(Listed()).save(tmp_path / "a.pt")
    assert weigh_anything(tmp_path / "a.pt").parameters == 90 + 500


@pytest.mark.filterwarnings("ignore")
@pytest.mark.some(3)
@pytest.mark.parametrize(
    "name",
    [
        "timm/swin_tiny_patch4_window7_224", "timm/maxvit_rmlp_pico_rw_256", "timm/beit_base_patch16_224",
        "torchvision/swin_v2_t", "timm/vit_base_patch16_rope_224",
    ],
)  # fmt: skip
def test_what_libraries_make_of_their_code_does_not_count(name):
    """Masks of attention, coordinates, biases that are 0, an index, defaults of a long signature."""
    library, _, variant = name.partition("/")
    make = timm.create_model if library == "timm" else get_model
    with torch.device("meta"):
        net = make(variant, num_classes=10)
    assert weigh_anything(net).parameters == sum(one.numel() for one in net.parameters())
    if library == "torchvision":
        second = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
        file = SwinTransformer([4, 4], 8, [2], [1], [2, 2], num_classes=2, **second)
        assert weigh_anything(file.state_dict()).parameters == sum(one.numel() for one in file.parameters())


def test_a_variance_without_a_mean():
    """As EvoNorm has it (Liu et al. 2020)."""
    net = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), timm.layers.EvoNorm2dB0(16))
    assert weigh_anything(net).parameters == weigh_anything(net.state_dict()).parameters == 3 * 16 * 9 + 3 * 16


def test_modules_are_held_to_the_same():
    def size(**parts: object) -> tuple[int, int]:
        net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.Flatten(), nn.Linear(8, 10, bias=False))
        for name, part in parts.items():
            setattr(net[0], name, part)
        (found,) = groups([("net", net)])
        return found.parameters - OWN, found.statistics

    assert size(norm=nn.BatchNorm1d(3000, affine=False)) == (6000, 1)
    assert size(norm=nn.BatchNorm1d(8, affine=False)) == (0, 17)
    assert size(norm=nn.BatchNorm1d(6000)) == (24_001, 0)  # more than networks have
    assert size(norm=nn.BatchNorm1d(3000)) == (6000, 6001)
    assert size(rows=torch.rand(70, 30).tolist(), blocks=[[3, 16, 0.25]] * 16) == (2100, 0)
    assert size(rows=[0.5] * 33 + [[0.5] * 32 for _ in range(40)]) == (1313, 0)
    kept = nn.Module()
    kept.register_buffer("places", torch.randint(99, (200, 300)), persistent=False)
    assert size(kept=kept) == (60_000, 0)
    kept.places = torch.arange(60_000).flip(0)  # what code makes of a rule holds no numbers
    assert size(kept=kept) == (0, 60_000)
    assert size(kept=ANY.sample(range(10**6), 30_000)) == (30_000, 0)
    box = nn.Sequential()  # of torch, but no code of torch makes this
    box.register_buffer("position_ids", torch.arange(500))
    assert size(box=box) == (500, 0)
