import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherweight import budget
from featherweight.budget import solver
from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.config.competition import Limit
from featherweight.models import FAMILIES, outline
from featherweight.models.shape import Shape

CIFAR = load_competition("cifar10")
WIDTHS = st.lists(st.integers(1, 120), min_size=3, max_size=3)
IMAGES = st.tuples(st.sampled_from([1, 3]), st.integers(2, 200))


@functools.cache
def filled(family: str) -> tuple[list[solver.Member], int]:
    return solver.fill(family, CIFAR, 5_000_000)


def built(name: str, channels: int, classes: int, **arguments) -> int:
    model = outline(FAMILIES.validate({"name": name, **arguments}), Shape(classes, channels, 32))
    return sum(parameter.numel() for parameter in model.parameters())


@settings(max_examples=12)
@given(st.integers(1, 6), WIDTHS, IMAGES)
def test_wrn(blocks, widths, images):
    depth = 6 * blocks + 4
    assert solver.FILLABLE["wrn"].closed_form(depth, widths, *images) == built(
        "wrn", *images, depth=depth, widths=widths
    )


@settings(max_examples=12)
@given(st.integers(1, 6), WIDTHS.map(sorted), IMAGES)
def test_cifar_resnet(blocks, widths, images):
    depth = 6 * blocks + 2
    expected = built("cifar_resnet", *images, depth=depth, widths=widths)
    assert solver.FILLABLE["cifar_resnet"].closed_form(depth, widths, *images) == expected


@settings(max_examples=12)
@given(st.sampled_from([2, 3]), WIDTHS, IMAGES)
def test_fastnet(depth, widths, images):
    assert solver.FILLABLE["fastnet"].closed_form(depth, widths, *images) == built(
        "fastnet", *images, depth=depth, widths=widths
    )


@settings(max_examples=8)
@given(st.floats(0.3, 2), st.floats(0.4, 2), st.integers(1, 2000), IMAGES)
def test_efficientnet(width, depth, head, images):
    expected = built("efficientnet", *images, width=width, depth=depth, depth_rounding="spread", head=head)
    assert solver.FILLABLE["efficientnet"].closed_form(width, depth, head, *images) == expected


@settings(max_examples=6)
@given(st.floats(0.3, 2), st.lists(st.integers(1, 3), min_size=7, max_size=7), st.integers(1, 2000), IMAGES)
def test_mobilenet_v2(width, repeats, head, images):
    expected = built("mobilenet_v2", *images, width=width, repeats=repeats, head=head)
    assert solver.FILLABLE["mobilenet_v2"].closed_form(width, repeats, head, *images) == expected


@settings(max_examples=6)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 40), st.integers(1, 80), IMAGES)
def test_densenet(blocks, growth, initial, images):
    expected = built("densenet", *images, blocks=blocks, growth=growth, initial=initial)
    assert solver.FILLABLE["densenet"].closed_form(blocks, growth, initial, *images) == expected


# Seconds each; the closed forms that they are filled by are checked above.
SLOW = ("efficientnet", "cifar_resnet", "densenet")


@pytest.mark.some(3)
@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in solver.FILLABLE]
)
def test_the_best_member_fills_five_million_and_weighs_in_as_proposed(family):
    members, counted = filled(family)
    assert counted > 500
    for member in members:
        assert member.weighed.counted <= 5_000_000
    full = [member for member in members if member.weighed.counted >= 4_950_000]
    assert len(full) > len(members) / 2
    assert members[: len(full)] == full
    best = members[0]
    assert built(family, 3, 10, **best.spec.model_dump(exclude={"name"})) == best.weighed.counted


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("family", "limit"),
    [
        ("wrn", 300_000),
        ("wrn", 2_000_000),
        ("cifar_resnet", 1_000_000),
        ("fastnet", 2_000_000),
        ("densenet", 1_000_000),
    ],
)
def test_other_limits_are_filled_too(family, limit):
    assert solver.fill(family, CIFAR, limit)[0][0].weighed.counted >= 0.99 * limit


def test_every_depth_of_the_wrn_fills_the_limit():
    members, _ = filled("wrn")
    assert sorted(member.spec.depth for member in members) == list(range(10, 101, 6))
    assert all(member.weighed.counted >= 4_950_000 for member in members)
    assert members[0].spec.depth == 28


@pytest.mark.slow
def test_multiply_adds_are_bounded():
    members, _ = solver.fill("wrn", CIFAR, max_macs=705e6)
    assert len(members) == 16  # where the fullest costs more, a narrower one is found
    assert all(0.8 * 705e6 < member.weighed.macs <= 705e6 for member in members)


def test_the_multiply_adds_of_the_option_are_those_of_a_competition(monkeypatch):
    asked = []
    monkeypatch.setattr(solver, "fill", lambda family, competition, limit, macs: (asked.append(macs), ([], 0))[1])
    assert main.main(["fill", "wrn", "--max-macs", "1.5G"]) == 2
    assert asked == [Limit.model_validate({"parameters": 1, "macs": "1.5G"}).macs] == [1_500_000_000]


def test_the_other_limits_of_a_competition_are_filled_too():
    limit = Limit.model_validate({"bytes": "400kB", "macs": 250_000})
    small = load_competition("digits").model_copy(update={"limit": limit})
    members, _ = solver.fill("fastnet", small)
    assert members
    assert all(member.weighed.within_limit for member in members)
    measures = {one.key: one.value / one.limit for one in members[0].weighed.measures}
    assert max(measures.values()) > 0.9


def test_where_statistics_count_they_are_made_room_for():
    strict = CIFAR.model_copy(update={"limit": CIFAR.limit.model_copy(update={"buffers": True})})
    best = solver.fill("fastnet", strict, 1_000_000)[0][0]
    assert best.weighed.statistics > 0
    assert 990_000 <= best.weighed.counted <= 1_000_000


@pytest.mark.slow
def test_networks_of_timm_are_filled_by_width(home, capsys):
    members, counted = solver.fill("timm/mobilenetv3_small_050", CIFAR, 500_000)
    assert 485_000 <= members[0].weighed.counted <= 500_000
    assert counted < 30
    assert [one.weighed.counted for one in members] == sorted({one.weighed.counted for one in members}, reverse=True)
    limit = ["--competition", "cifar10", "--limit", "60000"]
    assert main.main(["fill", "timm/test_efficientnet", *limit, "--write", "thin"]) == 0
    assert budget.weigh(load_recipe("thin"), CIFAR, "thin").counted <= 60_000
    assert main.main(["fill", "timm/resnet18", *limit]) == 2
    assert "timm makes no resnet18 of other widths; ./run.sh trim" in capsys.readouterr().err


@pytest.mark.some(2)
@pytest.mark.parametrize(
    "name", ["mobilenetv3_small_050", "ghostnet_050", "tiny_vit_5m_224", "rexnetr_100", "repvit_m0_9", "convnext_atto"]
)
def test_width_multiplies_what_timm_makes(name):
    """By half, too: tiny_vit's stages have 2, 4, 5 and 10 heads."""
    plain = built("timm", 3, 10, variant=name)
    assert built("timm", 3, 10, variant=name, width=0.5) < 0.7 * plain < plain
    assert built("timm", 3, 10, variant=name, width=1.0) == plain


def test_nothing_fits_in_nothing():
    assert solver.fill("wrn", CIFAR, 50)[0] == []


def test_a_written_recipe_weighs_in_as_proposed(home, capsys):
    assert main.main(["fill", "fastnet", "--competition", "cifar10", "--write", "full"]) == 0
    out = capsys.readouterr().out
    weighed = budget.weigh(load_recipe("full"), CIFAR, "full")
    assert f"{weighed.counted:,}" in out
    assert weighed.counted >= 4_950_000
    assert (home / "configs" / "recipes" / "full.yaml").read_text().startswith(f"# {weighed.counted:,} of 5,000,000")
    assert main.main(["fill", "fastnet", "--competition", "cifar10", "--write", "full"]) == 2
    assert "there is a recipe" in capsys.readouterr().err


def test_faults_are_told(home, capsys):
    assert main.main(["fill", "wnr"]) == 2
    assert "no family 'wnr'; did you mean 'wrn'?" in capsys.readouterr().err
    assert main.main(["fill", "wrn", "--limit", "10"]) == 2
    assert "no wrn is that small" in capsys.readouterr().err
