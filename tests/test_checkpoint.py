import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from featherweight.errors import UserError
from featherweight.schema import OneOf
from featherweight.training import checkpoint
from featherweight.training.averaging import AVERAGES, Averages


def net(width: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width)).to(memory_format=torch.channels_last)


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {"step": 3, "model": net().state_dict(), "history": [{"loss": float("nan")}]}
    checkpoint.save(tmp_path / "c.pt", state)
    loaded = checkpoint.load(tmp_path / "c.pt")
    assert loaded["step"] == 3
    assert all(torch.equal(loaded["model"][k], v) for k, v in state["model"].items())


def training(step):
    """Make the state of a training in which nothing is as in that of another step."""
    model, choices = net(), [OneOf(AVERAGES).validate("swa")]
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=step)
        parameter.grad = parameter.detach().clone()
    averages, optimizer = Averages(model, choices), torch.optim.SGD(model.parameters(), 0.1 / step, momentum=0.9)
    optimizer.step()
    averages.updates["swa"] = step
    answers, losses = torch.full((2, 4, 3), step, dtype=torch.int32), torch.full((4,), float(step))
    scaler, best = torch.amp.GradScaler("cpu", init_scale=2.0**step), {"weight": torch.full((3,), step)}
    past = [{"epoch": step}]
    return checkpoint.TrainState(model, optimizer, scaler, averages, losses, answers, step, 0.5 * step, past, best)


def test_all_that_changes_in_a_training_comes_back(tmp_path):
    def saved(state):
        state.save(tmp_path / "other.pt")
        return {
            key: [leaf.tolist() if isinstance(leaf, torch.Tensor) else leaf for leaf in tree_leaves(entry)]
            for key, entry in checkpoint.load(tmp_path / "other.pt").items()
        }

    before, after = training(3), training(5)
    before.save(tmp_path / "c.pt")
    assert [key for key, entry in saved(after).items() if entry == saved(before)[key]] == []
    after.restore(tmp_path / "c.pt")
    assert saved(after) == saved(before)


def test_no_checkpoint_is_no_error(tmp_path):
    assert checkpoint.load(tmp_path / "c.pt") is None


@pytest.mark.parametrize("damage", [b"", b"junk", "cut"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"step": 3, "model": net().state_dict()})
    path.write_bytes(path.read_bytes()[:-100] if damage == "cut" else damage)
    with pytest.raises(
        UserError, match=r"c\.pt: this checkpoint is damaged, or of another version; delete it to train anew"
    ):
        checkpoint.load(path)


def test_the_same_weights_give_the_same_bytes(tmp_path):
    checkpoint.save_weights(tmp_path / "a", net())
    checkpoint.save_weights(tmp_path / "b", net())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = net(3)
    nn.init.zeros_(other[0].weight)
    checkpoint.load_weights(tmp_path / "a", other)
    assert torch.equal(other[0].weight, net()[0].weight)


def test_weights_of_another_model_are_refused(tmp_path):
    checkpoint.save_weights(tmp_path / "a", net(3))
    with pytest.raises(UserError, match="these weights do not fit the recipe"):
        checkpoint.load_weights(tmp_path / "a", net(4))
    with pytest.raises(UserError, match="there are no weights at"):
        checkpoint.load_weights(tmp_path / "b", net(4))


def test_the_line_of_an_epoch_names_its_accuracies():
    """The competition may judge by another metric; sets of classes have no accuracy in training."""
    row = {"train_loss": 0.5, "train_accuracy": math.nan, "holdout_accuracy": 0.25}
    assert checkpoint.TrainState.note(SimpleNamespace(history=[row])) == "loss 0.5000  accuracy: holdout 25.00%"
    later = {"train_loss": 0.25, "train_accuracy": 0.75, "holdout_accuracy": math.nan}
    told = checkpoint.TrainState.note(SimpleNamespace(history=[row, later]))
    assert told == "loss 0.2500  accuracy: train 75.00%, holdout 25.00%"
