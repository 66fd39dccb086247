"""What a checkpoint contains besides a model: unless it is known optimizer state or an average, it is counted."""

import argparse

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.budget import weigh_anything
from featherweight.cli import main

OWN, STATISTICS = 3 * 8 * 9 + 8 + 16 + 8 * 10 + 10, 17  # a convolution, a batch norm of 8, a linear layer of 8 to 10
STATE = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 10)).state_dict()
WHOLE = OWN + STATISTICS


BITS = torch.zeros(120_000, dtype=torch.int64)
BITS[::2], BITS[1::2] = -1, 2**62 + torch.randint(256, (60_000,), generator=torch.Generator().manual_seed(0))


def again(before: str = "", state: dict = STATE) -> dict:
    return {before + name: tensor.clone() for name, tensor in state.items()}


def learned() -> list:
    return [tensor.clone() for name, tensor in STATE.items() if "running" not in name and "num_" not in name]


def litema() -> dict:
    """The EMA of latent-diffusion: names without dots, and two numbers of its own."""
    copies = {
        f"model_ema.{name.replace('.', '')}": tensor.clone() for name, tensor in STATE.items() if "num" not in name
    }
    return {**again("model."), **copies, "model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3)}


BESIDE = {
    "a second network": ({"model": {"w": torch.rand(100, 10)}, "big": {"w": torch.rand(300, 100)}}, 31_000, 0),
    "a head": ({"model": {"w": torch.rand(8, 30)}, "head": {"w": torch.rand(9, 10)}}, 240 + 90, 0),
    "a loss with weights": ({"model": STATE, "arcface": {"weight": torch.rand(10, 8)}}, OWN + 80, 0),
    "a tensor": ({"state_dict": STATE, "prototypes": torch.rand(10, 64)}, OWN + 640, 0),
    "a flat tensor": ({"model": {"w": torch.rand(10, 10)}, "rest": torch.rand(3000)}, 3100, 0),
    "in the settings": ({"model": STATE, "args": argparse.Namespace(w=torch.rand(50, 10))}, OWN + 500, 0),
    "a storage": ({"model": STATE, "rest": torch.rand(500).untyped_storage()}, OWN + 2000, 0),
    "called almost as an optimizer": ({"model": STATE, "upgraded": again()}, 2 * OWN, 0),
    "an average without a twin": ({"model": {"w": torch.rand(5)}, "ema": {"w": torch.rand(300, 100)}}, 30_005, 0),
    "as many averages as you like": (
        {"model": {"w": torch.rand(9, 9)}, "ema": {f"{n}.w": torch.rand(9, 9) for n in range(4)}}, 5 * 81, 0,
    ),
    "a loss's weights and a history": ({"state_dict": STATE, "class_weights": torch.rand(10),
                                        "history": {"loss": torch.rand(100)}}, OWN, 110),
    "single numbers": ({**STATE, "epoch": torch.tensor(3), "best_acc": torch.tensor(0.5)}, OWN, 2),
    "a generator's state": ({"model": STATE, "rng_state": torch.zeros(5056, dtype=torch.uint8)}, OWN, 5056),
    "moments by name": ({"model": STATE, "exp_avg": again(), "momentum": learned()}, OWN, WHOLE + OWN),
    "four levels deep": ({"a": {"b": {"c": {"d": STATE}}}}, OWN, 0),
    "predictions and whose they are": (
        {"model": STATE, "preds": torch.rand(100, 5), "val_idx": np.arange(100) ** 2, "confusion": [[9] * 40] * 40},
        OWN, 500 + 100 + 40,
    ),
    "classes of many images": ({"model": STATE, "labels": torch.randint(10, (20_000,)).tolist()}, OWN, 20_000),
    "too many predictions": ({"model": again(), "preds": torch.rand(5000, 5)}, OWN + 25_000, 0),
    "a layer by that name": ({"model": STATE, "preds": {"weight": torch.rand(10, 8)}}, OWN + 80, 0),
    "a network without a dict of its own": ({"logits": torch.rand(40), "w": torch.rand(5, 5)}, 65, 0),
    "weights in the last bits of whole numbers": ({"model": again(), "labels": BITS}, OWN + 120_000, 0),
    "a view of many predictions": ({"model": again(), "preds": torch.rand(25_000)[:5]}, OWN + 25_000, 0),
    "weights called after a target": ({"model": STATE, "target_weight": torch.rand(50, 20)}, OWN + 1000, 0),
    "no validation images": ({"model": STATE, "val_idx": torch.tensor([], dtype=torch.int64)}, OWN, 0),
    "the best by a log": (
        {"state_dict": STATE, "callbacks": {"ModelCheckpoint": {
            "best_model_score": torch.tensor(0.9), "best_k_models": {"a.ckpt": torch.tensor(0.9)}}}}, OWN, 2,
    ),
}  # fmt: skip
COPIES = {
    "latent-diffusion": (litema(), OWN + 16 + 2),
    "mmcv": ({"state_dict": {**STATE, **{f"ema_{key.replace('.', '_')}": one for key, one in again().items()}}}, WHOLE),
    "best and last": ({"last_state_dict": again(), "best_state_dict": STATE}, WHOLE),
    "in capitals": ({"net": STATE, "netEMA": again()}, WHOLE),
    "one word": ({"model": STATE, "modelEma": again()}, WHOLE),
    "avg": ({"model": STATE, "avg_model": again()}, WHOLE),
    "shadow": ({"model": STATE, "shadow": again()}, WHOLE),
    "a list of shadows": ({"model": STATE, "ema": {"decay": 0.9, "shadow_params": learned()}}, OWN),
    "the best, in a callback": ({"state_dict": STATE, "callbacks": {"Keeper": {"best_state": again()}}}, WHOLE - 1),
    "a callback's": ({"state_dict": again("model."), "callbacks": {"EMA": {"ema_state_dict": again()}}}, WHOLE),
}


@pytest.mark.parametrize(("content", "true", "others"), BESIDE.values(), ids=BESIDE)
def test_what_stands_beside_the_model(tmp_path, content, true, others):
    torch.save(content, tmp_path / "a.pth")
    found = weigh_anything(tmp_path / "a.pth")
    assert (found.parameters, found.averaged, found.others) == (true, 0, others)


@pytest.mark.parametrize(("content", "copied"), COPIES.values(), ids=COPIES)
def test_averages_by_whatever_name(tmp_path, content, copied):
    torch.save(content, tmp_path / "a.pth")
    found = weigh_anything(tmp_path / "a.pth")
    assert (found.parameters, found.statistics, found.averaged) == (OWN, STATISTICS, copied)


def test_a_file_over_the_limit_by_what_stands_beside_is_over(tmp_path):
    torch.save({"model": {"w": torch.rand(100, 10)}, "big": {"w": torch.rand(300, 100)}}, tmp_path / "a.pth")
    assert main.main(["weigh", str(tmp_path / "a.pth"), "--limit", "5000"]) == 3


def test_what_contains_itself_is_entered_once(tmp_path):
    loop: dict = {"w": torch.rand(4, 5)}
    loop["self"], loop["again"] = loop, [loop, loop]
    torch.save({"model": {"a": 1}, "loop": loop, "l": [loop, loop]}, tmp_path / "a.pth")
    assert weigh_anything(tmp_path / "a.pth").parameters == 20
