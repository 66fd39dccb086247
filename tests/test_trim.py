"""Trimmed networks: how close they are to the limit, how much their outputs change, and that a recipe results."""

import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from featherweight.budget import count_parameters, trim, weigh
from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.errors import UserError
from featherweight.models import FAMILIES, build, start_pretrained
from featherweight.models.narrowing import narrowed, widths_between
from featherweight.models.shape import Shape
from featherweight.runs.request import RunRequest

PHOTOS = """\
title: Photos
source: {name: folders, path: photos}
image: {size: 32, mirror: true}
classes: [a, b, c]
limit: {parameters: 5_000_000, allow_pretrained: true}
"""


@pytest.fixture
def photos(home):
    (home / "configs" / "competitions").mkdir(parents=True, exist_ok=True)
    (home / "configs" / "competitions" / "photos.yaml").write_text(PHOTOS)
    return load_competition("photos")


@pytest.fixture
def published(tmp_path):
    """Write weights for 7 classes in which the last channel inside one block is zero."""
    pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    net = build(FAMILIES.validate("timm/test_efficientnet"), Shape(7, 3, 32)).net
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():  # a channel of the expansion, on its way through the depthwise layer to the projection
        block = net.blocks[3][0]
        for name in ("conv_pw", "bn1", "conv_dw", "bn2"):
            for own, tensor in block.get_submodule(name).state_dict().items():
                if own in ("weight", "bias", "running_mean"):
                    tensor[-1] = 0
        block.se.conv_expand.weight[-1] = 0
        for layer in (block.se.conv_reduce, block.conv_pwl):
            layer.weight[:, -1] = 0
    path = tmp_path / "published.pth"
    torch.save(net.state_dict(), path)
    return path, net.eval()


def test_a_published_network_becomes_a_recipe_just_below_the_limit(home, photos, published, capsys):
    path, _ = published
    limit = 70_000
    words = ["trim", "timm/test_efficientnet", "--competition", "photos", "--limit", str(limit)]
    assert main.main([*words, "--set", f"model.weights={path}", "--name", "cut"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "next: ./run.sh cut --competition photos"
    recipe = load_recipe("cut")
    counted = weigh(recipe, photos, "cut").counted
    assert 0.995 * limit <= counted <= limit
    assert recipe.optimizer.name == "adamw"  # it is fine-tuned, as published weights are
    shape = photos.seen_by(recipe).shape
    model = build(recipe.model, shape)
    told = start_pretrained(model, recipe.model, shape)
    assert told.endswith("not loaded, so initialised at random: classifier.weight, classifier.bias")
    assert torch.isfinite(model.eval()(torch.rand(2, 3, 32, 32))).all()
    other = build(recipe.model, Shape(9, 1, 48))  # of other classes, channels and sides
    start_pretrained(other, recipe.model, Shape(9, 1, 48))
    assert other.eval()(torch.rand(2, 1, 48, 48)).shape == (2, 9)
    assert main.main([*words, "--name", "cut"]) == 2
    assert "there is already a recipe" in capsys.readouterr().err


def test_a_cut_of_nothing_that_matters_changes_no_answer(photos, published, monkeypatch):
    path, whole = published
    spec = FAMILIES.validate({"name": "timm/test_efficientnet", "weights": str(path)})
    competition = photos.model_copy(update={"classes": tuple("abcdefg")})
    model, fresh = trim.started(spec, competition)
    assert fresh == ()
    before = count_parameters(spec, competition)
    found = trim.trim(model, spec, competition, before - 1)
    assert found.after < before
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found.net(images), whole(images), rtol=1e-4, atol=1e-5)
    widths = found.spec.arguments["widths"]
    wide = whole.blocks[3][0].conv_pw.out_channels
    assert widths.pop("blocks.3.0.conv_pwl") == [None, wide - 1]
    assert [widths.pop(f"blocks.3.0.{name}") for name in ("conv_pw", "bn1", "conv_dw", "bn2")] == [[wide - 1]] * 4
    assert all(name.startswith("blocks.3.0.se.") for name in widths)
    with pytest.raises(UserError, match="already within it"):
        trim.trim(model, spec, competition, before)
    with pytest.raises(UserError, match="without nine tenths of all removable channels"):
        trim.trim(model, spec, competition, 10)
    monkeypatch.setattr(trim, "TOLERANCE", 1e-9)
    limit = found.after + 5  # no channel costs so little
    with pytest.raises(UserError, match=rf"within .* below {limit:,} .* use --limit {found.after}"):
        trim.trim(model, spec, competition, limit)


@pytest.mark.slow
def test_what_costs_little_stays(photos):
    """Early channels cost a tenth of late ones; removing a tenth of the parameters removes none of them."""
    pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    spec = FAMILIES.validate("timm/tf_efficientnet_lite0")
    model = build(spec, photos.shape)
    before = count_parameters(spec, photos)
    widths = trim.trim(model, spec, photos, int(0.9 * before)).spec.arguments["widths"]
    assert not [name for name in widths if name.startswith(("conv_stem", "blocks.0.", "blocks.1.", "blocks.2."))]


def test_attention_and_grouped_layers_keep_what_they_divide_by(photos):
    pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    spec = FAMILIES.validate("timm/test_vit")
    before = count_parameters(spec, photos)
    found = trim.trim(build(spec, photos.shape), spec, photos, int(0.9 * before))
    assert 0.995 * int(0.9 * before) <= found.after <= int(0.9 * before)
    assert all(".mlp." in name for name in found.spec.arguments["widths"])


@pytest.mark.slow
def test_what_attention_keeps_of_its_biases_weighs_nothing(photos):
    """tiny_vit's indexed biases are a quarter of its size, and were counted after tracing."""
    pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    options = {"embed_dims": [16, 32, 32, 64], "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4]}
    spec = FAMILIES.validate({"name": "timm/tiny_vit_5m_224", "options": options})
    limit = int(0.95 * count_parameters(spec, photos))
    assert 0.995 * limit <= trim.trim(build(spec, photos.shape), spec, photos, limit).after <= limit
    with pytest.raises(UserError, match=r"has [\d,]+ \(attention keeps its width\): use --limit \d+"):
        trim.trim(build(spec, photos.shape), spec, photos, limit // 4)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"nowhere": [3]}, "has no layer 'nowhere'"),
        ({"conv_stem": [4000]}, "conv_stem has the shape .*, too small for"),
        ({"conv_stem": [5]}, "cannot take images of 32 px"),
    ],
)
def test_widths_that_are_not_of_the_network_are_one_message(widths, message):
    spec = FAMILIES.validate({"name": "timm/test_efficientnet", "widths": widths})
    with pytest.raises(UserError, match=message):
        build(spec, Shape(3, 3, 32))


def test_widths_say_what_differs():
    def net(width):
        return nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, groups=width),
            nn.Conv2d(width, 8, 1), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(8, 2),
        )  # fmt: skip

    widths = widths_between(net(6), net(4))
    assert widths == {"0": [4], "1": [4], "2": [4], "3": [None, 4]}
    made = narrowed(net(6), widths)
    made.load_state_dict(net(4).state_dict())
    assert str(made) == str(net(4))


def test_what_cannot_be_cut_is_one_line(home, monkeypatch, capsys):
    assert main.main(["trim", "wrn16_4", "--limit", "1000"]) == 2
    assert "trim cuts networks of timm and torchvision, not of 'wrn'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    assert main.main(["trim", "timm/test_resnet", "--limit", "1000"]) == 2
    assert "./run.sh install torch-pruning" in capsys.readouterr().err
    assert not list((home / "configs").rglob("*.yaml"))


def test_a_run_is_cut_with_the_weights_it_ships(home, photos, capsys):
    pytest.importorskip("torch_pruning")
    recipe = load_recipe("tiny", ["model=timm/test_efficientnet"])
    run = RunRequest("tiny", recipe, "photos", photos, ["./run.sh"]).start("big")
    torch.manual_seed(0)
    save_file(build(recipe.model, photos.shape).state_dict(), run.weights)
    assert main.main(["trim", "big", "--limit", "80000", "--name", "cut"]) == 0
    assert "cut to 7" in capsys.readouterr().out
    made, path = load_recipe("cut"), home / "configs" / "recipes" / "cut.safetensors"
    assert made.optimizer == recipe.optimizer
    state = load_file(path)
    assert torch.equal(state["classifier.bias"], load_file(run.weights)["net.classifier.bias"])  # what it has learnt
    model = build(made.model, photos.shape)
    assert "initialised at random" not in start_pretrained(model, made.model, photos.shape)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.net.state_dict().items())
    file = run.folder / "competition.yaml"
    file.write_text(file.read_text().replace("allow_pretrained: true", "allow_pretrained: false"))
    assert main.main(["trim", "big", "--limit", "80000", "--name", "second"]) == 2
    assert "does not allow weights trained on other images" in capsys.readouterr().err
    assert not (home / "configs" / "recipes" / "second.yaml").exists()
