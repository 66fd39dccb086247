"""Every row of the logbook that names a setting is a recipe: it has that setting, is within the limit, and trains."""

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ttest_rel

from conftest import weighed
from featherweight import paths
from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.config.purpose import head
from featherweight.data import parts
from featherweight.data.pack import Data, Pack
from featherweight.errors import DivergedError, UserError
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.metrics import Score
from featherweight.logbook import rerun
from featherweight.logbook.claims import CLAIMS, judge
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runs.history import EVERY_EPOCH
from featherweight.runs.metadata import Metadata
from featherweight.runs.paired_tests import holm
from featherweight.runs.result import Result
from featherweight.runs.run import Run
from featherweight.runtime.device import make_runtime
from featherweight.training.examples import Examples
from featherweight.training.schedules import beginning, rate_factor
from featherweight.training.trainer import Trainer

CIFAR = load_competition("cifar10")
ROWS = [name for name in paths.config_names("recipes") if name[0] in "abcd" and (name[1] == "_" or name[1].isdigit())]

# (recipe, parameters, optimizer, rate, batch size)
SECTION_A = [
    ("a1", 2_243_546, "sgd", 0.1, 64),
    ("a2", 3_294_042, "sgd", 0.1, 64),
    ("a3", 1_868_314, "sgd", 0.1, 64),
    ("a4", 2_748_890, "sgd", 0.1, 64),
    ("a5", 2_748_890, "sgd", 0.2, 64),
    ("a6", 2_748_890, "adam", 0.2, 16),
    ("a7", 4_020_358, "adam", 0.002, 16),
    ("a8", 4_020_358, "adam", 0.002, 16),
    ("a9", 4_608_310, "adam", 0.002, 16),
    ("a10_plateau", 4_608_310, "adam", 0.0002, 16),
    ("a10_cyclic", 4_608_310, "adam", 0.0002, 16),
    ("a11", 4_608_310, "adam", 0.003, 16),
    ("a12", 4_608_310, "adam", 0.003, 16),
    ("a13", 4_608_310, "adam", 0.003, 16),
    ("a14", 4_608_310, "nadam", 0.002, 16),
    ("a15", 4_608_310, "sgd", 0.002, 16),
    ("a16", 4_608_310, "nadam", 0.002, 16),
    ("a17", 4_608_310, "sgd", 0.002, 16),
]

# (recipe, parameters with 10 classes and RGB at 32 px)
SECTION_B = [
    ("b_resnet34_sgd", 4_915_309),
    ("b_resnet34_adam", 4_915_309),
    ("b_plain34_sgd", 4_874_797),
    ("b_plain34_adam", 4_874_797),
    ("b_resnet50_sgd", 4_771_313),
    ("b_resnet50_adam", 4_771_313),
    ("b_plain50_sgd", 4_207_661),
    ("b_plain50_adam", 4_207_661),
]

# The networks that section D names: (recipe, parameters with 10 classes and RGB at 32 px, the published network).
SECTION_D = [
    ("d_mlp", 1_707_274, "mlp"),
    ("d_vgg16", 4_950_523, "vgg16"),
    ("d_vgg19", 4_812_188, "vgg19"),
    ("d_resnet18", 4_869_065, "resnet18"),
    ("d_resnet34", 4_915_309, "resnet34"),
    ("d_resnet50", 4_771_313, "resnet50"),
    ("d_resnet101", 4_943_331, "resnet101"),
    ("d_resnet152", 4_896_473, "resnet152"),
    ("d_wrn", 2_748_890, "wrn16_4"),
    ("d_mobilenet_v1", 3_217_226, "mobilenet_v1"),
    ("d_mobilenet_v2", 2_236_682, "mobilenet_v2"),
    ("d_inception", 4_948_318, "inception"),
    ("d_shufflenet", 1_263_854, "shufflenet_v2"),
    ("d_densenet", 4_971_466, "densenet121"),
    ("d_fpn", 2_316_042, "fpn"),
]

OVERSAMPLED = ("c_oversample", "c_over7", "c_over12", "c_cut80_over7", "c_cut60_over7")


def pack(count):
    images = np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return Pack([str(n) for n in range(count)], images, np.arange(count) % 10)


def distinct() -> list[str]:
    """Return the first row of each combination of options; rows that differ only in numbers run the same code."""
    first: dict[str, str] = {}
    for name in ROWS:
        recipe = load_recipe(name)
        options = [
            recipe.model.name,
            recipe.optimizer.name,
            recipe.schedule.name,
            recipe.loss.name,
            recipe.sampling.name,
        ]
        options += [choice.name for choice in (*recipe.augment, *recipe.mix, *recipe.averages, *recipe.predict.views)]
        first.setdefault(f"{options} {recipe.sam} {recipe.ship} {getattr(recipe.model, 'shortcut', '')}", name)
    return list(first.values())


@pytest.mark.some(3)
@pytest.mark.parametrize("name", ROWS)
def test_a_row_makes_weight(name):
    weighed(name).refuse_if_over()


@pytest.mark.some(6)
@pytest.mark.parametrize("name", distinct())
def test_a_row_trains_for_a_few_steps(name, tmp_path):
    # At a small rate: what 0.1 does to 101 layers in three steps on ten images says nothing of the row.
    recipe = load_recipe(name, ["train.epochs=1", "train.batch_size=4", "optimizer.lr=1e-4"])
    torch.manual_seed(0)
    model = build(recipe.model, Shape(10, 3, 8))
    examples = Examples(pack(10), pack(5), 10, recipe.augment)
    history = Trainer(recipe, model, examples, make_runtime("cpu", "fp32"), tmp_path).fit()
    assert history["step"].iloc[-1] >= 2
    assert np.isfinite(history["train_loss"]).all()
    views, augment = recipe.predict.views, recipe.augment
    probs = predict_probs([model], pack(3).images, runtime=make_runtime("cpu"), views=views, augment=augment)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(("name", "parameters", "optimizer", "rate", "batch_size"), SECTION_A)
def test_section_a_says_what_the_logbook_says(name, parameters, optimizer, rate, batch_size):
    recipe = load_recipe(name)
    assert weighed(name).counted == parameters
    assert recipe.optimizer.name == optimizer
    assert recipe.optimizer.lr == rate
    assert recipe.train.batch_size == batch_size


def test_section_a_changes_what_its_notes_say():
    rows = {name: load_recipe(name) for name in ROWS}
    dropped = {
        name: (rows[name].model.dropout, rows[name].model.drop_connect) for name in ("a12", "a13", "a15", "a16", "a17")
    }
    assert dropped == {"a12": (0.2, 0.2), "a13": (0.5, 0.2), "a15": (0.5, 0.5), "a16": (0.8, 0.8), "a17": (0.5, 0.2)}
    turned = {name: next(a.degrees for a in rows[name].augment if a.name == "rotate") for name in ("a7", "a8", "a15")}
    assert turned == {"a7": 45, "a8": 30, "a15": 15}
    assert (rows["a7"].split.holdout, rows["a8"].split.holdout) == (0.1, 0.05)
    assert [view.name for view in rows["a12"].predict.views] == ["train"]
    assert rows["a15"].schedule.epochs == [43, 45, 47]


def test_section_a_sweeps_the_rate_and_narrows_a_wrn():
    swept = {load_recipe(name).optimizer.lr for name in ("a5", "a_lr1", "a_lr2", "a_lr3")}
    assert swept == {0.2, 0.1, 0.01, 0.001}
    base = load_recipe("a5").model_dump(exclude={"optimizer": {"lr"}})
    for name in ("a_lr1", "a_lr2", "a_lr3"):
        assert load_recipe(name).model_dump(exclude={"optimizer": {"lr"}}) == base
    padded, whole = load_recipe("a_pad"), load_recipe("a2")
    assert padded.model_dump(exclude={"model": {"shortcut"}}) == whole.model_dump(exclude={"model": {"shortcut"}})
    assert weighed("a_pad").counted == 3_270_234 < 3_294_042


@pytest.mark.parametrize(("name", "parameters"), SECTION_B)
def test_section_b_has_plain_and_residual_by_both_optimizers(name, parameters):
    recipe = load_recipe(name)
    assert weighed(name).counted == parameters
    assert recipe.optimizer.name == name.split("_")[-1]
    twin = load_recipe(name.replace("plain", "resnet"))
    assert recipe.model.residual == (twin == recipe)
    without = {"model": {"residual"}}
    assert recipe.model_dump(exclude=without) == twin.model_dump(exclude=without)
    assert name in {row for claim in CLAIMS["B"] for row in (claim.better, claim.worse)}
    assert name in {row for together in rerun.TOGETHER.values() for row in together}


@pytest.mark.parametrize(("name", "parameters", "published"), SECTION_D)
def test_section_d_has_every_network_it_names(name, parameters, published):
    found = weighed(name)
    assert found.counted == parameters
    assert name in rerun.rows("D")
    as_published = weighed(published)
    if as_published.counted > as_published.limit:
        assert f"({published}) it has {as_published.counted:,} and is refused." in head(name)
    else:
        assert as_published.counted == parameters


def test_section_c_differs_by_one_setting_from_its_first_row():
    base = load_recipe("c_fixed").model_dump()
    for name in (row for row in ROWS if row.startswith("c_")):
        sections = {key for key, value in load_recipe(name).model_dump().items() if value != base[key]}
        expected = {
            **{row: {"sampling", "augment"} for row in OVERSAMPLED},
            "c_staged": {"schedule", "optimizer"},
            "c_vgg16": {"model", "optimizer"},
        }
        assert sections <= expected.get(name, set()) or len(sections) <= 1, name


def test_section_c_is_split_in_six_two_and_two():
    rows = [row for row in ROWS if row.startswith("c_")]
    assert rows
    for name in rows:
        split = load_recipe(name).split
        assert (split.holdout, split.test, split.folds) == (0.2, 0.2, None), name
    train, holdout, test = parts.divide(split, CIFAR, Data(pack(100), None, None))
    assert [len(train), len(holdout), len(test)] == [60, 20, 20]


def test_section_c_repeats_classes_with_the_augmentations_of_its_control():
    control = load_recipe("c_augment")
    assert control.sampling == load_recipe("c_fixed").sampling
    (claim,) = [claim for claim in CLAIMS["C"] if claim.better == "c_over7"]
    assert claim.worse == "c_augment"
    for name in ("c_over7", "c_over12", "c_cut80_over7", "c_cut60_over7"):
        assert load_recipe(name).model_dump(exclude={"sampling"}) == control.model_dump(exclude={"sampling"})


def test_section_d_compares_optimizers_and_nothing_else():
    base = load_recipe("d_adam").model_dump(exclude={"optimizer"})
    for name in ("d_adagrad", "d_rmsprop", "d_sgd", "d_momentum"):
        assert load_recipe(name).model_dump(exclude={"optimizer"}) == base
        assert load_recipe(name).optimizer.lr == 0.001
    sweep = [load_recipe(f"d_lr{number}") for number in (2, 3, 4)]
    assert [recipe.optimizer.lr for recipe in sweep] == [0.01, 0.001, 0.0001]
    assert all(recipe.early_stopping.patience == 2 for recipe in sweep)


def test_rows_come_in_the_logbooks_order():
    assert rerun.rows("a")[:3] == ["a1", "a2", "a3"]
    assert rerun.rows("A").index("a10_cyclic") < rerun.rows("A").index("a11")
    assert {row for section in "ABCD" for row in rerun.rows(section)} == set(ROWS)
    with pytest.raises(UserError, match="there is no section 'E' of the logbook; choose one of A, B, C, D"):
        rerun.rows("E")


@pytest.mark.some(3)
@pytest.mark.parametrize("name", ROWS)
def test_a_shortened_row_has_the_shape_of_the_whole(name):
    """At every fraction of the run the learning rate is the same, if lengths are whole in both."""
    recipe = load_recipe(name, ["train.epochs=100"] if load_recipe(name).train.steps is None else [])
    short = rerun.shortened(recipe, 0.1)
    if recipe.schedule.name in ("cyclic", "plateau"):  # which go by steps, and by the holdout
        assert short.train.epochs == 10
        return
    steps = 350
    whole, part = beginning(recipe, steps), beginning(short, steps)
    assert part.total == pytest.approx(whole.total / 10, abs=1)
    for tenth in (0.02, 0.25, 0.45, 0.65, 0.95):
        of_whole = rate_factor(recipe, replace(whole, step=int(whole.total * tenth)))
        of_part = rate_factor(short, replace(part, step=int(part.total * tenth)))
        near = {of_whole * recipe.schedule.arguments.get("factor", 1) ** k for k in (-1, 0, 1)}
        assert any(of_part == pytest.approx(value) for value in near), tenth


@pytest.mark.usefixtures("few_digits")
def test_a_section_is_rerun_and_told(home, capsys):
    some = ["--rows", "d_adam,d_momentum,d_lr3"]
    words = ["logbook", "D", *some, "--scale", "0.05", "--set", "split.subset=200", "--threads", "1"]
    assert main.main(words) == 0
    out = capsys.readouterr().out
    assert "Runs at 0.05 of their length; accuracy with 95 % intervals." in out
    assert "| d_adam | 20,506 | 1 |" in out
    assert "| LOGBOOK D: Adam. Test accuracy in the logbook: 0.989 on MNIST, 0.696 on CIFAR-10. |" in out
    assert "| Adam over SGD with momentum | CIFAR-10 0.696, 0.648 | d_adam, d_momentum |" in out
    assert "points | not significant |" in out  # of recipes, by one seed
    (folder,) = (home / "runs").glob("logbook-d-digits-x0.05-set??????")
    assert (folder / "curves.png").stat().st_size > 10_000
    assert not (folder / "claims.png").exists()
    before = (folder / "table.md").read_text()
    assert main.main(words) == 0  # all rows are found done
    assert (folder / "table.md").read_text() == before
    assert main.main(["logbook", "D", "--scale", "2"]) == 2


def test_the_tables_training_score_is_by_the_metric_it_names(tmp_path):
    """Runs of older versions, and metrics of probabilities, have no training score."""
    result = Result(1, 2, Score(0.5, 0.4, 0.6, 10), None, None, 1.0)
    told = {}
    for name, kept in {
        "d_adam": {"train_score": [0.1, 0.25]},
        "d_sgd": {},
        "d_lr2": {"train_score": [math.nan] * 2},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        every = {**dict.fromkeys(EVERY_EPOCH | {"seconds"}, 1.0), "epoch": [1, 2], "train_accuracy": [0.8, 0.9]}
        pd.DataFrame({**every, **kept}).to_csv(folder / "history.csv", index=False)
        told[name] = [(Run(folder, None, None, Metadata(name, "digits")), result)]
    for metric, trained in (("balanced_accuracy", ["0.2500", "", ""]), ("accuracy", ["0.9000"] * 3)):
        lines = rerun.table(told, [], 1, metric, 1).splitlines()[4:]
        assert [line.split(" | ")[3].strip() for line in lines] == trained


@pytest.mark.usefixtures("few_digits")
def test_rows_that_the_write_up_draws_together_have_a_picture(home, monkeypatch, capsys):
    monkeypatch.setattr(rerun, "TOGETHER", {"curves-two": ["d_adam", "d_sgd"], "curves-more": ["d_adam", "d_lr2"]})
    words = ["logbook", "D", "--rows", "d_adam,d_sgd", "--scale", "0.05", "--threads", "1", "--log"]
    folder = home / "runs" / "logbook-d-digits-x0.05"
    folder.mkdir(parents=True)
    (folder / "claims.png").write_bytes(b"of rows that are not asked for now")
    assert main.main(words) == 0
    drawn = sorted(path.name for path in folder.glob("*.png"))
    assert drawn == ["curves-two.png", "curves.png"]
    assert (
        "![curves-two](logbook/logbook-d-digits-x0.05-curves-two.png)" in (home / "submissions" / "LOG.md").read_text()
    )


@pytest.mark.usefixtures("few_digits")
def test_a_row_that_cannot_be_run_to_its_end_blocks_no_other(home, capsys):
    """A row that diverges, and one over the limit: both are reported and left out."""
    recipes = home / "configs" / "recipes"
    recipes.mkdir(parents=True)
    (recipes / "d_0fat.yaml").write_text("# Too much.\nextends: vgg16\n")
    (recipes / "d_momentum.yaml").write_text("# Too fast.\nextends: _logbook_d\noptimizer: {name: sgd, lr: 1e30}\n")
    words = ["logbook", "D", "--scale", "0.05", "--seeds", "0-1", "--threads", "1"]
    assert main.main([*words, "--rows", "d_0fat,d_momentum,d_adagrad,d_sgd"]) == 0
    out = capsys.readouterr().out
    assert "d_momentum: the loss became" in out
    folder = home / "runs" / "logbook-d-digits-x0.05"
    table = (folder / "table.md").read_text()
    assert "accuracy mean ± standard deviation over 2 seeds." in table
    assert re.search(
        r"\| d_0fat \| \| .*\*\*over the limit: d_0fat has 134,[\d,]+ parameters, .*\*\* Too much\.", table
    )
    assert re.search(r"\| d_momentum \| \| .*\*\*diverged with seed 0, 1: the loss became \w+ at step \d+", table)
    assert len(re.findall(r"\| d_(adagrad|sgd) \| 20,506 \|", table)) == 2
    assert [line.split(" | ")[2] for line in table.splitlines() if " points " in line] == ["d_adagrad, d_sgd"]
    assert (folder / "curves.png").exists()
    assert (folder / "claims.png").exists()


@pytest.mark.usefixtures("few_digits")
def test_a_row_that_diverges_by_one_seed_of_several_is_left_out(home, monkeypatch, capsys):
    run_all = rerun.series.run_all

    def fail_once(tasks):
        if "d_adagrad-digits-x0.05-s1" in tasks:
            raise DivergedError("the loss became nan at step 3. Try a smaller optimizer.lr")
        return run_all(tasks)

    monkeypatch.setattr(rerun.series, "run_all", fail_once)
    words = ["logbook", "D", "--scale", "0.05", "--seeds", "0-1", "--threads", "1", "--rows"]
    assert main.main([*words, "d_adagrad,d_sgd"]) == 0
    out = capsys.readouterr().out
    assert "| d_adagrad | | | | | | **diverged with seed 1: the loss became nan at step 3** LOGBOOK D: Adagrad." in out
    assert "What it claims" not in out
    assert not (home / "runs" / "logbook-d-digits-x0.05" / "claims.png").exists()
    monkeypatch.setattr(rerun.series, "run_all", lambda tasks: fail_once(dict.fromkeys(["d_adagrad-digits-x0.05-s1"])))
    assert main.main([*words, "d_adam"]) == 0  # nothing to draw, and something to tell
    assert "| d_adam | | | | | | **diverged with seed 0, 1" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("few_digits")
def test_a_section_is_run_again_with_other_settings(home, capsys):
    words = ["logbook", "D", "--scale", "0.05", "--rows", "d_adam", "--threads", "1"]
    for more in ([], ["--set", "train.batch_size=32"], ["--set", "train.batch_size=128"], ["--views", "flip"]):
        assert main.main([*words, *more]) == 0, more
    assert len(list((home / "runs").glob("d_adam-*"))) == 4
    assert len(list((home / "runs").glob("logbook-d-*/table.md"))) == 4
    assert main.main([*words, "--set", "train.batch_size=32", "--seed", "1"]) == 0
    assert len(list((home / "runs").glob("logbook-d-*/table.md"))) == 4  # another seed of the same settings
    assert len(list((home / "runs").glob("d_adam-*-s1"))) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("few_digits")
def test_several_seeds_test_the_claims_and_are_logged(home, capsys):
    words = ["logbook", "D", "--scale", "0.1", "--rows", "d_adam,d_momentum", "--threads", "1", "--log"]
    assert main.main([*words, "--seeds", "0-1"]) == 0
    log = (home / "submissions" / "LOG.md").read_text()
    assert "accuracy mean ± standard deviation over 2 seeds." in log
    assert "corrected for 1 at once (Holm), significant below 0.05." in log
    assert "d_rmsprop" not in log
    assert f"`./run.sh {' '.join(words)} --seeds 0-1`" in log
    pictures = re.findall(r"\]\((.*?)\)", log)
    assert pictures
    for picture in pictures:
        assert (home / "submissions" / picture).stat().st_size < 150_000
    assert main.main([*words, "--seeds", "0-1"]) == 0
    assert (home / "submissions" / "LOG.md").read_text() == log  # nothing new, nothing added
    capsys.readouterr()
    assert main.main(["logbook", "D", "--rows", "d_adm"]) == 2
    assert "section D has no row 'd_adm'; did you mean 'd_adam'?" in capsys.readouterr().err


def scores(*values, loss=False):
    return [Score(value, 0, 1, 100, "log_loss" if loss else "accuracy") for value in values]


def one(better, worse, loss=False):
    return judge({CLAIMS["D"][0]: (scores(*better, loss=loss), scores(*worse, loss=loss))})[0]


def test_a_claim_is_held_against_pairs_of_seeds():
    """Paired t-test: variation over seeds that both rows share is not noise."""
    better, worse = (0.70, 0.80, 0.90), (0.69, 0.788, 0.891)
    found = one(better, worse)
    assert found.p == pytest.approx(ttest_rel(better, worse).pvalue)
    assert found.word == "holds"
    assert found.low < np.mean(found.gains) < found.high
    assert found.gain.startswith("+1.03 points [")
    assert one(worse, better).word == "does not hold: the other way round"
    assert one(better, worse, loss=True).word == "does not hold: the other way round"
    assert one((0.9, 0.9), (0.9, 0.9)).word == "no difference"
    assert one((0.9,), (0.1,)).word == "not significant"
    same = one((0.75, 1.0), (0.5, 0.75))  # how such gains scatter is not known
    assert (same.word, same.gain) == ("not significant", "+25.00 points")


def test_the_more_claims_the_more_it_takes_to_tell():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    better, worse, noise = scores(0.70, 0.80, 0.90), scores(0.69, 0.788, 0.891), scores(0.1, 0.5, 0.3)
    first, *others = CLAIMS["B"]
    alone = judge({first: (better, worse)})[0]
    among = judge({first: (better, worse), **dict.fromkeys(others, (better, noise))})[0]
    assert (alone.word, among.word) == ("holds", "not significant")


def test_claims_are_of_rows_that_there_are():
    for section, claims in CLAIMS.items():
        assert {row for claim in claims for row in (claim.better, claim.worse)} <= set(rerun.rows(section))


def test_section_d_claims_nothing_of_the_sweep_of_rates():
    """The write-up records no result for it; the rows stay in the table."""
    swept = ("d_lr2", "d_lr3", "d_lr4")
    assert set(swept) <= set(rerun.rows("D"))
    assert not [claim for claim in CLAIMS["D"] if claim.better in swept and claim.worse in swept]


def test_a_claims_rows_differ_by_the_thing_claimed():
    """Only one setting differs, whatever else the write-up changed in between."""
    for claim in (claim for section in "ABCD" for claim in CLAIMS[section]):
        one, other = (load_recipe(row).model_dump() for row in (claim.better, claim.worse))
        apart = {key for key in one if one[key] != other[key]}
        assert len(apart) == 1, claim
