import pytest
import torch
from torch import nn

from featherweight.errors import UserError
from featherweight.training import checkpoint


def net(width: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width)).to(memory_format=torch.channels_last)


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {"step": 3, "model": net().state_dict(), "history": [{"loss": float("nan")}]}
    checkpoint.save(tmp_path / "c.pt", state)
    loaded = checkpoint.load(tmp_path / "c.pt")
    assert loaded["step"] == 3
    assert all(torch.equal(loaded["model"][k], v) for k, v in state["model"].items())


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
