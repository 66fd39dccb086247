"""Options that contradict each other: each pair is reported with its key, and each option alone is not."""

import pytest

from featherweight import paths
from featherweight.cli.main import main
from featherweight.config import load_competition, load_recipe
from featherweight.config.contradictions import RULES, contradictions
from featherweight.errors import UserError

EMA = "averages=[ema]"
TEACHERS = "distill={teachers: [x], weight: 1}"
ONCE = "distill={teachers: [x], once: true}"
SMOOTH = "loss={name: cross_entropy, label_smoothing: 0.1}"
PAIRS = [  # two settings of which either alone is fine, and words of what is said of both
    ("sampling=weighted", "loss={name: cross_entropy, weights: inverse}", "compensated twice, by sampling weighted"),
    ("sampling=oversample", "loss=logit_adjusted", "compensated twice, by sampling oversample"),
    ("early_stopping={patience: 9}", "train.epochs=9", "early_stopping.patience=9 never stops a run of 9 evaluations"),
    ("early_stopping={patience: 3}", "train.evaluate_every=20", "never stops a run of 3 evaluations"),
    ("early_stopping={patience: 3}", "train.steps=2", "never stops a run of 2 evaluations"),
    ("early_stopping={patience: 3}", "schedule=cosine", "before schedule cosine has lowered the rate"),
    ("predict.views=[train]", "augment=[]", "every view is the same image"),
    (TEACHERS, SMOOTH, "uses only the teachers"),
    ("split.folds=4", "split.holdout=0.3", "split.holdout=0.3 is ignored"),
    (
        "schedule={name: milestones, at: [30, 40]}",
        "train.epochs=30",
        "at: milestones never changes the rate in a run of 30 epochs",
    ),
    ("schedule={name: milestones, at: [320], by: iteration}", "train.steps=300", "in a run of 300 steps"),
    ("schedule={name: every, epochs: 30}", "train.epochs=20", "epochs: every never changes"),
    ("schedule={name: stepped, at: [], epochs: [40]}", "train.epochs=40", "epochs: stepped never changes"),
    ("schedule={name: staged, stages: [[40, 1], [9, 0.1]]}", "train.epochs=30", "stages: staged never changes"),
    (
        "schedule={name: plateau, patience: 9}",
        "train.evaluate_every=5",
        "patience: plateau never changes the rate in a run of 10 evaluations",
    ),
    ("schedule={name: plateau, patience: 9}", "early_stopping={patience: 9}", "has lowered the rate: reduce"),
    ("warmup.epochs=5", "warmup.fraction=0.2", "warmup.fraction=0.2 is ignored: warmup.epochs=5 sets"),
    ("warmup={fraction: 0.2}", "schedule=one_cycle", "which has its own rise"),
]
ALONE = [  # settings of one key that take its meaning away, and words of what is said
    ("head.epochs=1", "head.epochs=1 is for pretrained weights, but this network starts at random"),
    ("head.start=probe", "head.start=probe is for pretrained weights"),
    ("train.freeze_norms=true", "train.freeze_norms is for pretrained weights"),
    ("model={name: timm, variant: repvit_m0_9, drop_connect: 0.1}", "repvit_m0_9 has no drop path"),
    ("distill={teachers: [x], weight: 0}", "computes the teachers' predictions but does not use them"),
    ("augment=[flip, alternating_flip]", "remove one of them"),
    ("predict.views=[flip, flip]", "flip is listed twice"),
    ("optimizer={name: sgd, nesterov: true, momentum: 0}", "optimizer.momentum is 0"),
    ("loss={name: focal, beta: 0.5}", "loss.beta=0.5 is only used with loss.weights=effective, but it is equal"),
]
FINE = [  # the neighbours of these that mean something
    ("augment=[flip, vertical_flip]",),
    ("predict.views=[flip, shift]",),
    ("loss={name: focal, weights: effective, beta: 0.5}",),
    ("warmup={fraction: 0.2}", "schedule={name: one_cycle, up: 0}"),
    ("schedule={name: stepped, epochs: [90]}",),
    ("schedule={name: plateau, patience: 3}", "early_stopping={patience: 9}"),
]  # fmt: skip


def told(*settings):
    return contradictions(load_recipe("tiny", ["train.epochs=50", *settings]))


@pytest.mark.parametrize(("one", "other", "words"), PAIRS)
def test_a_pair_is_told_and_its_halves_are_not(one, other, words):
    (said,) = told(one, other)
    assert words in said
    assert told(one) == told(other) == []


def test_an_average_that_does_not_ship():
    assert told(EMA, "ship=ema") == told("averages=[lookahead]", "ship=raw") == []
    (said,) = told(EMA, "ship=raw")
    assert "ema is computed but not used: set ship=ema" in said


def test_teachers_that_are_deaf_to_augmentation():
    assert told(ONCE, "augment=[]") == told("distill={teachers: [x]}") == []
    assert "the student sees augmented ones" in told(ONCE)[0]


@pytest.mark.parametrize(("setting", "words"), ALONE)
def test_a_key_without_effect_is_told(setting, words):
    (said,) = told(setting)
    assert words in said


@pytest.mark.parametrize("settings", FINE)
def test_what_means_something_is_not_told(settings):
    assert told(*settings) == []


PROBE = ("train.epochs=0", "head.epochs=0", "head.start=probe", "warmup=null", "averages=[]", "ship=raw")


def test_nothing_but_a_probe():
    probed = ("finetune_lite0", [*PROBE, "distill={teachers: [x]}", "mix=[mixup]"])
    assert contradictions(load_recipe("finetune_lite0", PROBE)) == []
    (said,) = contradictions(load_recipe(*probed))
    assert "only the linear probe, so distill, mix has no effect" in said


def test_every_rule_is_tried():
    tried = [*((one, other) for one, other, _ in PAIRS), (EMA, "ship=raw"), (ONCE,), *((one,) for one, _ in ALONE)]
    recipes = [load_recipe("tiny", ["train.epochs=50", *settings]) for settings in tried]
    recipes.append(load_recipe("finetune_lite0", [*PROBE, "mix=[mixup]"]))
    assert {rule for rule in RULES if any(rule(recipe) for recipe in recipes)} == set(RULES)


def test_no_recipe_that_is_shipped_contradicts_itself():
    said = {name: contradictions(load_recipe(name)) for name in paths.config_names("recipes")}
    assert {name: told for name, told in said.items() if told} == {}


def test_check_tells_it(home, capsys):
    assert main(["check", "tiny", "--set", "split.folds=4", "--set", "split.holdout=0.3"]) == 0
    assert "note: split.holdout=0.3 is ignored" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["group=^(.)", "groups=g.csv"], "the pattern `group` defines the groups already"),
        (["submission.codes=true", "submission.spelling={'1': one}"], "set only one of the two"),
    ],
)
def test_a_competition_says_a_thing_once(settings, words):
    with pytest.raises(UserError, match=words):
        load_competition("digits", settings)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("averages=[{name: lookahead, alpha: 0}]", "averages.0.alpha: must be greater than 0"),
        ("progressive={scales: [0], until: [0.5]}", "progressive.scales.0: must be greater than 0"),
    ],
)
def test_what_would_train_nothing_is_refused(setting, words):
    with pytest.raises(UserError, match=words):
        load_recipe("tiny", [setting, "ship=raw"])


@pytest.mark.parametrize(
    "line", ["runs --html --seeds", "runs --plot --markdown", "kernel x --push --output", "tiny --seeds 0-1 --folds 2"]
)
def test_options_that_exclude_each_other(line, home, capsys):
    try:
        code = main(line.split(" "))
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert len(capsys.readouterr().err.splitlines()) <= 5
