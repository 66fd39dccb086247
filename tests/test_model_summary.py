import sys

import pytest
from PIL import Image

from featherweight import budget
from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.errors import UserError
from featherweight.models import MODELS
from featherweight.report import model_summary

CIFAR = load_competition("cifar10")


def test_the_stages_are_those_an_image_passes():
    found = model_summary.stages(load_recipe("wrn16_4"), CIFAR)
    assert [(stage.name, stage.output) for stage in found] == [
        ("stem", "16 x 32 x 32"),
        ("group1", "64 x 32 x 32"),
        ("group2", "128 x 16 x 16"),
        ("group3", "256 x 8 x 8"),
        ("norm", "256 x 8 x 8"),
        ("head", "10"),
    ]


@pytest.mark.parametrize("name", ["efficientnet_b0", "fpn", "cct7", "mobilenet_v3_small", "vgg16_light", "fastnet94"])
def test_the_stages_hold_every_parameter(name):
    recipe = load_recipe(name)
    found = model_summary.stages(recipe, CIFAR)
    assert sum(stage.parameters for stage in found) == budget.count_parameters(recipe.model, CIFAR)
    assert 3 <= len(found) <= 30
    assert all(stage.output for stage in found if stage.name != "the rest")


def test_a_trunk_is_drawn_as_its_parts():
    names = [stage.name for stage in model_summary.stages(load_recipe("efficientnet_b0"), CIFAR)]
    assert names[:3] == ["stem", "norm1", "blocks.0"]
    assert names[-1] == "head"


def test_draw_writes_a_picture_and_a_graph_that_needs_no_network(home, tmp_path, capsys):
    assert main.main(["draw", "tiny", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "tiny.model.png" in out
    with Image.open(tmp_path / "tiny.model.png") as picture:
        assert picture.size[0] > 500
    page = (tmp_path / "tiny.model.html").read_text()
    assert "Conv2d" in page
    assert '<script src="http' not in page
    assert "IPython" not in out
    assert '"relu_' in page
    assert "handle_torch_function" not in page
    assert sorted(path.name for path in tmp_path.glob("*.model*")) == ["tiny.model.html", "tiny.model.png"]


def test_a_graph_without_torchvista_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvista", None)
    with pytest.raises(UserError, match=r"\./run.sh install torchvista"):
        model_summary.graph(load_recipe("tiny"), CIFAR, tmp_path / "tiny.html")


def test_models_lists_every_family_with_its_recipes(home, tmp_path, monkeypatch, capsys):
    few = ["tiny", "wrn40_3", "mlp"]
    monkeypatch.setattr("featherweight.paths.config_names", lambda kind: few)
    monkeypatch.chdir(tmp_path)
    assert main.main(["models", "--competition", "cifar10", "--plot"]) == 0
    out = capsys.readouterr().out
    assert f"families without a recipe: {', '.join(name for name in MODELS if name not in ('wrn', 'mlp'))}" in out
    assert "WRN-10-0.5" in out
    assert "0 more recipes are experiments of the logbook" in out
    assert "OVER" in next(line for line in out.splitlines() if "wrn40_3" in line)
    assert "within the limit" in next(line for line in out.splitlines() if "tiny" in line)
    assert (home / "reports" / "models.png").stat().st_size > 5000


@pytest.mark.parametrize("family", MODELS)
def test_every_family_and_every_choice_among_its_keys_is_explained(family, home, capsys):
    assert model_summary.summary(family)
    assert main.main(["models", family]) == 0
    out = capsys.readouterr().out
    assert all(key in out for key, _, _ in model_summary.arguments(family))


def test_an_unknown_family_is_told(home, capsys):
    assert main.main(["models", "resnt"]) == 2
    assert "there is no family 'resnt'; did you mean 'resnet'" in capsys.readouterr().err


def test_recipes_of_one_model_at_one_size_are_weighed_once(monkeypatch):
    recipes = {
        "one": load_recipe("tiny"),
        "two": load_recipe("tiny", ["optimizer.lr=0.3"]),
        "other": load_recipe("mlp"),
        "larger": load_recipe("mlp", ["image.size=40"]),
    }
    weighings = []
    real = budget.weigh
    monkeypatch.setattr(budget.count, "weigh", lambda *given: weighings.append(given[2]) or real(*given))
    found = budget.weigh_all(recipes, CIFAR)
    assert weighings == ["one", "other", "larger"]
    assert [one.name for one in found] == ["one", "two", "other", "larger"]
    assert found[0].counted == found[1].counted
    assert found[2].counted < found[3].counted
