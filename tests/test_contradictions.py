"""Options that take each other's meaning away: each pair is told with its key, and each half alone is not."""

import pytest

from featherweight import paths
from featherweight.cli.main import main
from featherweight.config import load_recipe
from featherweight.config.contradictions import RULES, contradictions

EMA = "averages=[ema]"
TEACHERS = "distill={teachers: [x], weight: 1}"
ONCE = "distill={teachers: [x], once: true}"
SMOOTH = "loss={name: cross_entropy, label_smoothing: 0.1}"
PAIRS = [  # two settings of which either alone is fine, and words of what is said of both
    ("sampling=weighted", "loss={name: cross_entropy, weights: inverse}", "made up for twice, by sampling weighted"),
    ("sampling=oversample", "loss=logit_adjusted", "made up for twice, by sampling oversample"),
    ("early_stopping={patience: 9}", "train.epochs=9", "early_stopping.patience=9 never stops a run of 9 evaluations"),
    ("early_stopping={patience: 3}", "train.evaluate_every=20", "never stops a run of 2 evaluations"),
    ("early_stopping={patience: 3}", "schedule=cosine", "before schedule cosine has brought its rate down"),
    ("predict.views=[train]", "augment=[]", "every view is the same image"),
    (TEACHERS, SMOOTH, "listens to the teachers alone"),
    ("split.folds=4", "split.holdout=0.3", "split.holdout=0.3 is not used"),
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
    assert "ema is computed and does not ship: ship=ema" in said


def test_teachers_that_are_deaf_to_augmentation():
    assert told(ONCE, "augment=[]") == told("distill={teachers: [x]}") == []
    assert "the student sees them augmented" in told(ONCE)[0]


def test_every_rule_is_tried():
    tried = [*((one, other) for one, other, _ in PAIRS), (EMA, "ship=raw"), (ONCE,)]
    recipes = [load_recipe("tiny", ["train.epochs=50", *settings]) for settings in tried]
    assert {rule for rule in RULES if any(rule(recipe) for recipe in recipes)} == set(RULES)


def test_no_recipe_that_is_shipped_contradicts_itself():
    said = {name: contradictions(load_recipe(name)) for name in paths.config_names("recipes")}
    assert {name: told for name, told in said.items() if told} == {}


def test_check_tells_it(home, capsys):
    assert main(["check", "tiny", "--set", "split.folds=4", "--set", "split.holdout=0.3"]) == 0
    assert "note: split.holdout=0.3 is not used" in capsys.readouterr().out


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
