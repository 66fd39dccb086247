import pytest
import torch
from torch import nn

from featherweight import budget
from featherweight.config import Recipe, load_competition
from featherweight.errors import UserError
from featherweight.models import FAMILIES, build, outline, start_pretrained
from featherweight.models.blocks import AveragePool, stem_shrinks
from featherweight.models.shape import Shape

CIFAR = load_competition("cifar10")


def sides(spec, size: int) -> list[int]:
    """Return the sides of a model's feature maps, largest first."""
    competition = CIFAR.model_copy(update={"image": CIFAR.image.model_copy(update={"size": size})})
    recipe = Recipe.model_validate({"model": spec, "optimizer": "sgd"})
    return list(budget.weigh(recipe, competition, "it").sides)


@pytest.mark.parametrize(("size", "shrinks"), [(8, 1), (32, 1), (63, 1), (64, 2), (127, 2), (128, 4), (224, 4)])
def test_the_stem_rule(size, shrinks):
    assert stem_shrinks(size, "auto") == shrinks
    assert stem_shrinks(size, 2) == 2


@pytest.mark.some(2)
@pytest.mark.parametrize(
    "spec",
    ["efficientnet", "efficientnet_pytorch", "mobilenet_v2", "googlenet", "fpn", {"name": "resnet", "depth": 18},
     {"name": "vgg", "depth": 16}, {"name": "densenet", "blocks": [2, 2, 2, 2]}, "timm/convnext_atto",
     "timm/mobileone_s0", "timm/mobilenetv3_small_100", "torchvision/shufflenet_v2_x1_0"],
    ids=str,
)  # fmt: skip
def test_small_images_keep_their_size_through_the_stem(spec):
    """Five halvings from 224 px to 7; at 32 px the first two are left out, at 64 px one."""
    small = sides(spec, 32)
    assert small[:2] == [32, 16]
    assert small[-1] == sides(spec, 64)[-1] == 4
    assert sides(spec, 224)[-1] == 7


def test_a_recipe_may_overrule_the_rule():
    assert sides({"name": "efficientnet_pytorch", "stem": 4}, 32) == [32, 16, 8, 4, 2, 1]
    assert sides({"name": "timm", "variant": "resnet10t", "stem": 2}, 32) == [32, 16, 8, 4, 2]


@pytest.mark.some(3)
@pytest.mark.parametrize(("size", "channels", "classes"), [(8, 1, 2), (20, 3, 62), (65, 1, 200), (224, 3, 3)])
@pytest.mark.parametrize(
    "spec", ["torchvision/mobilenet_v2", "timm/mobilenetv3_small_050", "fpn", {"name": "vgg", "depth": 11, "width": 0.1,
    "head": "linear"}, "mobilenet_v2", {"name": "googlenet", "width": 0.2}, "efficientnet", "compact_transformer",
    {"name": "resnet", "depth": 18, "width": 0.1}, {"name": "densenet", "blocks": [1, 2], "growth": 4}], ids=str,
)  # fmt: skip
def test_every_size_channel_and_class_count_works(spec, size, channels, classes):
    model = outline(FAMILIES.validate(spec), Shape(classes, channels, size))
    assert model(torch.empty(2, channels, size, size, device="meta")).shape == (2, classes)


def test_the_real_network_is_the_outlined_one():
    spec = FAMILIES.validate("timm/mobilenetv3_small_050")
    real, outlined = build(spec, Shape(5, 1, 16)), outline(spec, Shape(5, 1, 16))
    assert {k: v.shape for k, v in real.state_dict().items()} == {k: v.shape for k, v in outlined.state_dict().items()}
    strides = [[m.stride for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (real, outlined)]
    assert strides[0] == strides[1]
    assert real.eval()(torch.rand(2, 1, 16, 16)).shape == (2, 5)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg_is_torchvisions_given_its_weights(batch_norm):
    from torchvision.models.vgg import VGG, cfgs, make_layers

    torch.manual_seed(0)
    theirs = VGG(make_layers(cfgs["A"], batch_norm), num_classes=5).eval()
    spec = FAMILIES.validate({"name": "vgg", "depth": 11, "batch_norm": batch_norm, "stem": 4})
    ours = outline(spec, Shape(5, 3, 32)).net
    ours.load_state_dict(theirs.state_dict(), assign=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        mine, reference = ours.eval()(images), theirs(images)
    assert (reference[0] - reference[1]).abs().max() > 1e-4
    torch.testing.assert_close(mine, reference)


def test_googlenet_densenet_and_mobilenet_are_torchvisions_at_width_1():
    import torchvision

    for spec, name in (
        ({"name": "googlenet", "stem": 4}, "googlenet"),
        ({"name": "densenet", "blocks": [6, 12, 24, 16], "stem": 4}, "densenet121"),
        ({"name": "mobilenet_v2", "stem": 4}, "mobilenet_v2"),
    ):
        torch.manual_seed(0)
        extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        theirs = torchvision.models.get_model(name, num_classes=5, **extra).eval()
        ours = build(FAMILIES.validate(spec), Shape(5, 3, 64)).net.eval()
        ours.load_state_dict(theirs.state_dict())
        images = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(ours(images), theirs(images))


def test_a_head_of_its_own_width():
    spec = FAMILIES.validate({"name": "mobilenet_v2", "head": 100})
    net = outline(spec, Shape(10, 3, 32)).net
    assert net.features[-1][0].out_channels == net.classifier[-1].in_features == 100


def test_arguments_reach_the_library():
    spec = {"name": "timm", "variant": "mobilenetv3_small_050", "dropout": 0.4, "drop_connect": 0.3, "bn_momentum": 0.2,
            "bn_eps": 1e-4, "options": {"act_layer": "gelu"}}  # fmt: skip
    net = outline(FAMILIES.validate(spec), Shape(10, 3, 32)).net
    assert net.drop_rate == 0.4
    assert any(type(module).__name__ == "DropPath" for module in net.modules())
    assert any(type(module).__name__ == "GELU" for module in net.modules())
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.2, 1e-4)}


def test_networks_of_one_image_size_are_made_for_this_one():
    net = outline(FAMILIES.validate("timm/vit_tiny_patch16_224"), Shape(10, 3, 64)).net
    assert net.pos_embed.shape == (1, 1 + 16, 192)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm/resnet_18", "timm has no model called 'resnet_18'; did you mean 'resnet18'"),
        ("timm/hf_hub:timm/resnet18.a1_in1k", "; did you mean 'resnet18.a1_in1k'"),
        ("torchvision/vgg_16", "torchvision has no classifier called 'vgg_16'; did you mean 'vgg16'"),
        ("efficientnet_pytorch/b99", "efficientnet-pytorch has no 'b99'"),
        ("torchvision/alexnet", "alexnet cannot take images of 8 px"),
    ],
)
def test_faults_are_told(spec, message):
    with pytest.raises(UserError, match=message):
        outline(FAMILIES.validate(spec), Shape(10, 3, 8))


def test_published_weights_must_be_allowed(tmp_path):
    recipe = Recipe.model_validate(
        {"model": {"name": "timm/mobilenetv3_small_050", "pretrained": True}, "optimizer": "sgd"}
    )
    with pytest.raises(UserError, match="CIFAR-10 does not allow weights trained on other images"):
        budget.weigh(recipe, CIFAR, "transfer")
    limit = CIFAR.limit.model_copy(update={"allow_pretrained": True})
    budget.weigh(recipe, CIFAR.model_copy(update={"limit": limit}), "transfer").refuse_if_over()


def test_published_weights_come_from_a_file(tmp_path):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    published = timm.create_model("mobilenetv3_small_050")
    save_file(published.state_dict(), tmp_path / "published.safetensors")
    spec = {
        "name": "timm/mobilenetv3_small_050",
        "pretrained": True,
        "weights": str(tmp_path / "published.safetensors"),
    }
    chosen, shape = FAMILIES.validate(spec), Shape(7, 1, 32)
    model = build(chosen, shape)
    assert "loaded" in start_pretrained(model, chosen, shape)
    net = model.net
    assert torch.equal(net.blocks[1][0].conv_pw.weight, published.blocks[1][0].conv_pw.weight)
    torch.testing.assert_close(net.conv_stem.weight, published.conv_stem.weight.sum(1, keepdim=True))
    assert net.classifier.out_features == 7


@pytest.mark.parametrize("size", [1, 2, 4, 5, 7, 9, 14])
@pytest.mark.parametrize("side", [1, 7])
def test_an_average_pool_is_torchs(size, side):
    images = torch.randn(2, 3, size, size + size // 3)
    torch.testing.assert_close(AveragePool(side)(images), torch.nn.AdaptiveAvgPool2d(side)(images))
