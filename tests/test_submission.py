"""Submissions: formats from sample files, the writer, the checker's messages, the scorer."""

import csv
import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from featherweight import config, submission, yaml
from featherweight.cli.runs.predict import WRITERS
from featherweight.config import Competition, load_competition
from featherweight.data.csv_file import number_of
from featherweight.data.pack import Data, Pack
from featherweight.errors import UserError
from featherweight.submission import Form, check, grading, score, write

BASE = {
    "title": "Fruit",
    "source": "digits",
    "image": {"size": 8, "channels": 1, "mirror": False},
    "classes": ["apple", "Pear", "sour cherry"],
    "limit": {"parameters": 1000},
    "submission": {"id": "Id", "label": "Fruit"},
}


@pytest.fixture(autouse=True)
def data(home):
    (home / "data").mkdir()


def competition(home, metric="accuracy", **changes):
    path = home / "fruit.yaml"
    path.write_text(yaml.dump({**BASE, "metric": metric, "submission": {**BASE["submission"], **changes}}))
    return config.load_competition(str(path))


def sample(home, text):
    (home / "data" / "sample.csv").write_bytes(text.encode())
    return "sample.csv"


PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]], dtype=np.float32)
IDS = ["007.png", "a b.png", "10.png"]


def test_rows_come_in_the_samples_order_with_its_ids_and_header(home):
    form = submission.form(
        competition(home, sample=sample(home, "Image,What\r\n10,apple\r\n007,apple\r\na b,apple\r\n\r\n")), IDS
    )
    submission.write(home / "s.csv", form, IDS, PROBS)
    assert (home / "s.csv").read_text() == "Image,What\n10,Pear\n007,apple\na b,sour cherry\n"
    assert submission.check(home / "s.csv", form).tolist() == [1, 0, 2]


@pytest.mark.parametrize("listed", [["1.png", "2.png"], ["1", "2"], ["test/1.png", "test/2.png"], ["x/1", "x/2"]])
def test_sample_ids_find_their_images(home, listed):
    text = "Id,Fruit\n" + "".join(f"{id},apple\n" for id in listed)
    form = submission.form(competition(home, sample=sample(home, text)), ["2.png", "1.png"])
    assert form.ids == listed
    assert form.images == ["1.png", "2.png"]


def test_endings_in_the_sample_alone(home):
    form = submission.form(competition(home, sample=sample(home, "Id,Fruit\n1.jpg,apple\n2.jpg,apple\n")), ["1", "2"])
    assert form.images == ["1", "2"]


def test_codes_in_place_of_names(home):
    rules = competition(home, codes=True)
    form = submission.form(rules, IDS)
    submission.write(home / "s.csv", form, IDS, PROBS)
    assert (home / "s.csv").read_text() == "Id,Fruit\n007.png,0\na b.png,2\n10.png,1\n"
    truth = {"007.png": "apple", "a b.png": "sour cherry", "10.png": "apple"}
    assert submission.score(home / "s.csv", form, truth, rules, groups=None).value == pytest.approx(2 / 3)


def test_probabilities_in_the_samples_column_order(home):
    text = "Id,sour cherry,apple,Pear\n10.png,0,0,0\n007.png,0,0,0\na b.png,0,0,0\n"
    rules = competition(home, "log_loss", takes="probabilities", sample=sample(home, text))
    form = submission.form(rules, IDS)
    submission.write(home / "s.csv", form, IDS, PROBS)
    written = pd.read_csv(home / "s.csv", index_col=0)
    assert list(written.columns) == ["sour cherry", "apple", "Pear"]
    np.testing.assert_allclose(written.loc["007.png"], [0.1, 0.7, 0.2], atol=1e-6)
    np.testing.assert_allclose(submission.check(home / "s.csv", form), PROBS[[2, 0, 1]], atol=1e-6)
    score = submission.score(
        home / "s.csv", form, dict(zip(IDS, ["apple", "sour cherry", "Pear"], strict=True)), rules, groups=None
    )
    assert score.value == pytest.approx(-np.log([0.7, 0.8, 0.4]).mean(), abs=1e-6)


def test_zero_probabilities_are_written_as_more_than_none(home):
    rules = competition(home, "log_loss", takes="probabilities")
    form = submission.form(rules, ["a"])
    submission.write(home / "s.csv", form, ["a"], np.array([[1.0, 0.0, 0.0]]))
    assert (home / "s.csv").read_text() == "Id,apple,Pear,sour cherry\na,1,1e-15,1e-15\n"


def test_a_probability_metric_needs_probabilities(home):
    with pytest.raises(
        UserError,
        match=r"fruit\.yaml: the metric auc is computed from probabilities: set submission\.takes: probab\w+$",
    ):
        competition(home, "auc")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.csv: the file is empty"),
        ("Id,Label\n", "s.csv: row 1: the header is 'Id,Label', expected 'Id,Fruit'"),
        (
            "Id;Fruit\n",
            "s.csv: row 1: the header is 'Id;Fruit', expected 'Id,Fruit': the columns are separated by ';', "
            "expected ','; save it with that separator (Excel takes its own from the language of the system)",
        ),
        ("Id,Fruit\na,apple,1\n", "s.csv: row 2: expected 2 fields, got 3"),
        ("Id,Fruit\na,apple\na,Pear\n", "s.csv: row 3: the id 'a' is in row 2 already"),
        ("Id,Fruit\nq,apple\n", "s.csv: row 2: the id 'q' is not one of the images to predict"),
        ("Id,Fruit\na,NaN\n", "s.csv: row 2: the id 'a' has no class"),
        ("Id,Fruit\na,pear\n", "s.csv: row 2: there is no class 'pear'; did you mean 'Pear'?"),
        ("Id,Fruit\na,apple\n", "s.csv: 2 of 3 ids are missing, the first is 'b'"),
        ("Id,Fruit\nb,apple\na,Pear\nc,Pear\n", "s.csv: row 2: the id 'b' stands where 'a' belongs"),
        ('Id,Fruit\n"a,apple\n', "s.csv: not a CSV file (unexpected end of data)"),
    ],
)
def test_refusals_of_labels(home, text, message, monkeypatch):
    monkeypatch.chdir(home)
    (home / "s.csv").write_text(text)
    with pytest.raises(UserError) as error:
        submission.check(home / "s.csv", submission.form(competition(home), ["a", "b", "c"]))
    assert str(error.value) == f"{home}/{message}"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,0.1,x,0.3", "'x' is not a probability (the id 'a')"),
        ("a,0.1,nan,0.3", "'nan' is not a probability (the id 'a')"),
        ("a,0.1,-0.2,0.3", "'-0.2' is not a probability (the id 'a')"),
        ("a,0.1,1.2,0.3", "'1.2' is not a probability (the id 'a')"),
        ("a,0,0,0", "every probability of the id 'a' is 0"),
        ("a,0,1", "expected 4 fields, got 3"),
    ],
)
def test_refusals_of_probabilities(home, row, message):
    form = submission.form(competition(home, "log_loss", takes="probabilities"), ["a"])
    (home / "s.csv").write_text(f"Id,apple,Pear,sour cherry\n{row}\n")
    with pytest.raises(UserError) as error:
        submission.check(home / "s.csv", form)
    assert str(error.value) == f"{home}/s.csv: row 2: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Id,Fruit,More\na,b,c\n", "row 1: expected two columns, an id and a label, got 3"),
        ("Id,Fruit\n1,apple\n1,apple\n", "the id '1' appears twice"),
        (
            "Id,Fruit\n1,apple\n3,apple\n",
            "the 2 ids are not those of the 2 images to predict; for example '3' has no image",
        ),
        ("Id,Fruit\n1,apple\n", "the 1 ids are not those of the 2 images to predict; for example '2' has no row"),
    ],
)
def test_refusals_of_samples(home, text, message):
    with pytest.raises(UserError, match=r"sample\.csv") as error:
        submission.form(competition(home, sample=sample(home, text)), ["1", "2"])
    assert message in str(error.value)


def test_sample_columns_must_be_the_classes(home):
    text = "Id,apple,Pear,plum\n1,0,0,0\n"
    with pytest.raises(UserError, match="for example 'plum' is in only one"):
        submission.form(competition(home, "log_loss", takes="probabilities", sample=sample(home, text)), ["1"])


def test_solution_with_usage_is_scored_in_both_parts(home):
    rules = competition(home)
    ids = [f"{n}.png" for n in range(6)]
    form = submission.form(rules, ids)
    (home / "s.csv").write_text("Id,Fruit\n" + "".join(f"{id},apple\n" for id in ids))
    (home / "solution.csv").write_text(
        "Id,Fruit,Usage\n5.png,apple,Public\n0.png,apple,Public\n1.png,Pear,Private\n2.png,apple,private\n"
        "3.png,apple,Private\n4.png,?,Ignored\n"
    )
    answers, parts = submission.solution(home / "solution.csv", rules, form)
    scores = submission.score_parts(home / "s.csv", form, answers, parts, rules, groups=None)
    assert {part: (score.value, score.count) for part, score in scores.items()} == {
        "": (0.8, 5),
        "Public": (1.0, 2),
        "Private": (pytest.approx(2 / 3), 3),
    }


def test_solution_of_one_column_a_class(home):
    rules = competition(home, "log_loss", takes="probabilities")
    form = submission.form(rules, ["a", "b"])
    (home / "solution.csv").write_text("Id,Pear,apple,sour cherry,Usage\na,1,0,0,Public\nb,0,0,1,Private\n")
    answers, parts = submission.solution(home / "solution.csv", rules, form)
    assert answers == {"a": "Pear", "b": "sour cherry"}
    assert parts == {"a": "Public", "b": "Private"}


PETS = Form(("Id", "Dog"), ["007", "7"], ["cat", "dog"], takes="probability", positive=1)


def test_one_column_holds_the_probability_of_the_positive_class(tmp_path):
    probs = np.array([[0.25, 0.75], [1, 0]])
    write(tmp_path / "s.csv", PETS, ["7", "007"], probs)
    assert (tmp_path / "s.csv").read_text() == "Id,Dog\n007,1e-15\n7,0.75\n"
    np.testing.assert_allclose(check(tmp_path / "s.csv", PETS), probs[::-1], atol=1e-9)
    cats = dataclasses.replace(PETS, positive=0)
    write(tmp_path / "s.csv", cats, ["7", "007"], probs)
    assert (tmp_path / "s.csv").read_text() == "Id,Dog\n007,0.99999999999999889\n7,0.25\n"
    np.testing.assert_allclose(check(tmp_path / "s.csv", cats), probs[::-1], atol=1e-9)


@pytest.mark.parametrize(("positive", "expected"), [(1, ["dog", "cat"]), (0, ["cat", "dog"])])
def test_one_and_zero_in_a_solution_are_the_positive_class_and_the_other(home, positive, expected):
    rules = competition(home).model_copy(update={"classes": ("cat", "dog")})
    (home / "solution.csv").write_text("Id,Fruit\n007,1\n7,0\n")
    answers, _ = submission.solution(home / "solution.csv", rules, dataclasses.replace(PETS, positive=positive))
    assert [answers["007"], answers["7"]] == expected


def test_one_column_is_scored_as_the_positive_class(home, tmp_path):
    pets = config.load_competition("digits").model_copy(update={"classes": ["cat", "dog"]})
    (tmp_path / "s.csv").write_text("Id,Dog\n007,0.2\n7,0.9\n")
    answers = {"007": "cat", "7": "dog"}
    for name, value in (("log_loss", -np.log([0.8, 0.9]).mean()), ("auc", 1.0), ("accuracy", 1.0)):
        rules = pets.model_copy(
            update={
                "metric": TypeAdapter(config.Competition.model_fields["metric"].rebuild_annotation()).validate_python(
                    name
                )
            }
        )
        assert score(tmp_path / "s.csv", PETS, answers, rules, groups=None).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("007,x", "row 2: 'x' is not a probability (the id '007')"),
        ("007,", "row 2: '' is not a probability (the id '007')"),
        ("007,dog", "row 2: 'dog' is not a probability (the id '007')"),
        ("007,1.5", "row 2: '1.5' is not a probability (the id '007')"),
        ("007,nan", "row 2: 'nan' is not a probability (the id '007')"),
        ("007,0_1", "row 2: '0_1' is not a probability (the id '007')"),
        ("007,\uff10.\uff15", "row 2: '\uff10.\uff15' is not a probability (the id '007')"),
    ],
)
def test_refusals_of_one_probability(tmp_path, row, message):
    (tmp_path / "s.csv").write_text(f"Id,Dog\n{row}\n7,0\n")
    with pytest.raises(UserError) as error:
        check(tmp_path / "s.csv", PETS)
    assert str(error.value) == f"{tmp_path}/s.csv: {message}"


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1.0), (" .5 ", 0.5), ("1.", 1.0), ("-2e-3", -0.002), ("+1E2", 100.0)]
    + [(text, None) for text in ("1_0", "\u0661", "nan", "inf", "", "e5", "1 0", "0x1")],
)
def test_numbers_are_those_of_spreadsheets(text, number):
    assert number_of(text) == number


FORM = Form(("Id", "Label"), ["007", "7", "a b.png"], ["cat", "dog", "Dog"])
GOOD = "Id,Label\n007,cat\n7,dog\na b.png,Dog\n"


def test_what_is_written_passes_its_check_with_ids_as_given(tmp_path):
    probs = np.eye(3, dtype=np.float32)[[2, 0, 1]]
    write(tmp_path / "s.csv", FORM, ["a b.png", "007", "7"], probs)  # the model's order is not the form's
    assert (tmp_path / "s.csv").read_text() == GOOD
    assert check(tmp_path / "s.csv", FORM).tolist() == [0, 1, 2]


REFUSED = [
    ("", "the file is empty"),
    ("Id,Class\n007,cat\n7,dog\na b.png,Dog\n", "row 1: the header is 'Id,Class', expected 'Id,Label'"),
    ("Label,Id\ncat,007\n", "row 1: the header is 'Label,Id', expected 'Id,Label'"),
    ("Id,Label\n007,cat\n7,dog\n", "1 of 3 ids are missing, the first is 'a b.png'"),
    ("Id,Label\n", "3 of 3 ids are missing, the first is '007'"),
    (GOOD + "8,cat\n", "row 5: the id '8' is not one of the images to predict"),
    (
        "Id,Label\n07,cat\n7,dog\na b.png,Dog\n",
        "row 2: the id '07' is not one of the images to predict; did you mean '007'?",
    ),
    (GOOD + "7,cat\n", "row 5: the id '7' is in row 3 already"),
    ("Id,Label\n7,dog\n007,cat\na b.png,Dog\n", "row 2: the id '7' stands where '007' belongs"),
    ("Id,Label\n007,cat\n7,dgo\na b.png,Dog\n", "row 3: there is no class 'dgo'; did you mean 'dog'?"),
    ("Id,Label\n007,CAT\n7,dog\na b.png,Dog\n", "row 2: there is no class 'CAT'; did you mean 'cat'?"),
    ("Id,Label\n007,nan\n7,dog\na b.png,Dog\n", "row 2: the id '007' has no class"),
    ("Id,Label\n007,\n7,dog\na b.png,Dog\n", "row 2: the id '007' has no class"),
    ("Id,Label\n007\n7,dog\na b.png,Dog\n", "row 2: expected 2 fields, got 1"),
    ("Id,Label\n007,cat,x\n7,dog\na b.png,Dog\n", "row 2: expected 2 fields, got 3"),
    ('Id,Label\n007,"cat\n7,dog\n', "not a CSV file (unexpected end of data)"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_the_checker_refuses(tmp_path, text, message):
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        check(path, FORM)
    assert str(caught.value) == f"{path}: {message}"


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*s\.csv: No such file"):
        check(tmp_path / "s.csv", FORM)
    (tmp_path / "s.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"not UTF-8 text .*; save it as UTF-8"):
        check(tmp_path / "s.csv", FORM)


@pytest.mark.parametrize("text", ["\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), GOOD.rstrip("\n"), GOOD + "\n\n"])
def test_what_spreadsheets_do_to_a_csv_is_accepted(tmp_path, text):
    (tmp_path / "s.csv").write_bytes(text.encode())
    assert len(check(tmp_path / "s.csv", FORM)) == 3


def test_the_score_is_of_the_file(tmp_path):
    (tmp_path / "s.csv").write_text(GOOD)
    pets = load_competition("digits").model_copy(update={"classes": FORM.classes})
    result = score(tmp_path / "s.csv", FORM, {"007": "cat", "7": "cat", "a b.png": "Dog"}, pets, groups=None)
    assert (result.value, result.count) == (2 / 3, 3)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=8)


@given(
    st.lists(texts.filter(str.strip), min_size=1, max_size=8, unique=True),
    st.lists(texts.filter(str.strip), min_size=2, max_size=5, unique=True),
    st.data(),
)
def test_any_ids_and_classes_survive_the_trip(tmp_path_factory, ids, classes, data):
    path = tmp_path_factory.mktemp("trip") / "s.csv"
    wanted = Form(("i,d", 'la"bel'), ids, classes)
    labels = data.draw(st.lists(st.sampled_from(range(len(classes))), min_size=len(ids), max_size=len(ids)))
    write(path, wanted, ids, np.eye(len(classes), dtype=np.float32)[labels])
    assert check(path, wanted).tolist() == labels
    with path.open(newline="", encoding="utf-8") as stream:
        assert [row[0] for row in csv.reader(stream)][1:] == ids


SEVERAL = np.array([[0.9, 0.2, 0.8], [0.1, 0.1, 0.2], [0.6, 0.7, 0.1]])
KINDS = {
    "set": ("Id,Labels\n1,apple cherry\n2,\n3,apple banana\n", [[1, 0, 1], [0, 0, 0], [1, 1, 0]]),
    "one_hot": ("Id,apple,banana,cherry\n1,1,0,1\n2,0,0,0\n3,1,1,0\n", [[1, 0, 1], [0, 0, 0], [1, 1, 0]]),
    "ranked": ("Id,Labels\n1,apple cherry\n2,cherry apple\n3,banana apple\n", [[0, 2], [2, 0], [1, 0]]),
    "probabilities": ("Id,apple,banana,cherry\n1,0.9,0.2,0.8\n2,0.1,0.1,0.2\n3,0.6,0.7,0.1\n", SEVERAL.tolist()),
}


def fruit_form(takes, several=True):
    classes = ["apple", "banana", "cherry"]
    columns = ("Id", *classes) if takes in ("one_hot", "probabilities") else ("Id", "Labels")
    return Form(columns, ["1", "2", "3"], classes, takes=takes, several=several, k=2 if takes == "ranked" else None)


@pytest.mark.parametrize("takes", KINDS)
def test_every_kind_of_submission_is_read_back_as_it_was_written(takes, tmp_path):
    text, given = KINDS[takes]
    submission.write(tmp_path / "s.csv", fruit_form(takes), ["1", "2", "3"], SEVERAL)
    assert (tmp_path / "s.csv").read_text() == text
    assert submission.check(tmp_path / "s.csv", fruit_form(takes)).tolist() == given


def test_a_set_without_classes_is_written_as_the_word_for_it_and_else_counted(tmp_path, capsys):
    path, form, ids = tmp_path / "s.csv", fruit_form("set"), ["1", "2", "3"]
    sets = KINDS["set"][1]
    for word, read in (("none", sets), ("banana", [sets[0], [0, 1, 0], sets[2]])):  # a class, as No Finding is
        named = dataclasses.replace(form, empty=word)
        submission.write(path, named, ids, SEVERAL)
        assert f"\n2,{word}\n" in path.read_text()
        assert submission.check(path, named).tolist() == read
        assert submission.check_upload(path, named) == 3
    assert not capsys.readouterr().out
    submission.write(path, form, ids, SEVERAL)
    assert submission.check_upload(path, form) == 3
    assert "s.csv: 1 of 3 rows have no class, so an empty field" in capsys.readouterr().out


def test_one_hot_rows_of_one_class(tmp_path):
    submission.write(tmp_path / "s.csv", fruit_form("one_hot", False), ["1", "2", "3"], SEVERAL)
    assert (tmp_path / "s.csv").read_text().endswith("\n1,1,0,0\n2,0,0,1\n3,0,1,0\n")
    assert submission.check(tmp_path / "s.csv", fruit_form("one_hot", False)).tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("takes", "several", "row", "fault"),
    [
        ("set", True, "2,apple aple", "row 3: there is no class 'aple'"),
        ("set", True, "2,apple apple", "row 3: the class 'apple' appears twice"),
        ("ranked", True, "2,apple banana cherry", "row 3: 3 classes for the id '2', expected 1 to 2"),
        ("ranked", True, "2,", "row 3: 0 classes for the id '2', expected 1 to 2"),
        ("one_hot", True, "2,1,0,0.5", "row 3: '0.5' is neither 0 nor 1"),
        ("one_hot", False, "2,1,1,0", "row 3: 2 classes hold 1 for the id '2', expected one"),
        ("probabilities", True, "2,1,0,1.5", "row 3: '1.5' is not a probability"),
    ],
)
def test_faults_of_every_kind_are_told_by_row(takes, several, row, fault, tmp_path):
    submission.write(tmp_path / "s.csv", fruit_form(takes, several), ["1", "2", "3"], SEVERAL)
    lines = (tmp_path / "s.csv").read_text().splitlines()
    (tmp_path / "s.csv").write_text("\n".join([*lines[:2], row, *lines[3:]]) + "\n")
    with pytest.raises(UserError, match=re.escape(fault)):
        submission.check(tmp_path / "s.csv", fruit_form(takes, several))


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"target": "several"}, "is computed from sets of classes: set submission.takes: set or one_hot"),
        ({"target": "several", "metric": "auc"}, "set submission.takes: probabilities"),
        ({"target": "several", "metric": "matthews"}, "matthews cannot be used with target: several"),
        ({"metric": "samples_f1"}, "samples_f1 cannot be used with target: one"),
        ({"metric": "map_at_k"}, "is computed from a ranking of classes: set submission.takes: ranked"),
        ({"metric": "map_at_k", "submission": {"takes": "ranked"}}, "submission.k"),
        ({"metric": "map_at_k", "submission": {"takes": "ranked", "k": 3}}, "needs 5 classes, but 3 are listed"),
        ({"submission": {"takes": "set"}}, "set does not suit target: one"),
        (
            {"metric": {"name": "weighted_log_loss", "weights": [1.0]}, "submission": {"takes": "probabilities"}},
            "1 weights",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_when_the_file_is_read(keys, fault, tmp_path):
    base = load_competition("digits").model_dump(mode="json")
    with pytest.raises(ValidationError, match=fault):
        Competition.model_validate(base | {"submission": {}} | keys)


def test_one_probability_near_one_is_not_rounded_to_certainty(tmp_path):
    probs = np.array([[1e-9, 1], [0.25, 0.75]], dtype=np.float32)
    write(tmp_path / "s.csv", PETS, PETS.ids, probs)
    rows = [line.split(",")[1] for line in (tmp_path / "s.csv").read_text().splitlines()[1:]]
    assert 1 - float(rows[0]) == pytest.approx(1e-9, rel=1e-6)
    assert rows[1] == "0.75"


def test_related_images_count_as_one_in_each_part_too(home, monkeypatch):
    """Ten images of seven frames in both parts, one image wrong: each interval is that of ten images."""
    rules = competition(home, solution="solution.csv")
    ids = [f"{n}.png" for n in range(140)]
    form = submission.form(rules, ids)
    groups = np.arange(140) // 7
    (home / "s.csv").write_text("Id,Fruit\n" + "".join(f"{id},apple\n" for id in ids))
    true = np.where(groups % 10 == 0, "Pear", "apple")
    part_of = np.where(groups < 10, "Public", "Private")
    rows = "".join(f"{id},{name},{part}\n" for id, name, part in zip(ids, true, part_of, strict=True))
    (home / "data" / "solution.csv").write_text(f"Id,Fruit,Usage\n{rows}")
    known = submission.solution(home / "data" / "solution.csv", rules, form)
    alone, related = (submission.score_parts(home / "s.csv", form, *known, rules, groups=of) for of in (None, groups))
    for part in ("Public", "Private"):
        assert related[part].value == alone[part].value
        assert related[part].high - related[part].low > 2 * (alone[part].high - alone[part].low)
    monkeypatch.setattr(grading, "_form", lambda competition: form)
    monkeypatch.setattr(grading, "groups", lambda competition, form: groups)
    assert str(related["Private"]) in grading.score_csv(home / "s.csv", rules)


def test_copies_among_the_images_to_predict_are_related(home, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    pixels[1] = pixels[0]
    ids = [f"{chr(97 + n % 26)}{n}.png" for n in range(40)]
    rules = competition(home)
    monkeypatch.setattr(type(rules), "load", lambda self: Data(Pack([], pixels[:0]), Pack(ids, pixels)))
    groups = grading.groups(rules, submission.form(rules, ids[::-1]))
    assert groups[-1] == groups[-2]
    assert len(set(groups.tolist())) == 39


@pytest.mark.parametrize("separator", [" ", ",", ", ", "|", ";"])
@pytest.mark.parametrize("takes", ["set", "ranked"])
def test_what_separates_classes_is_written_and_read_back(home, takes, separator):
    kind = {"set": "samples_f1", "ranked": {"name": "map_at_k", "k": 2}}[takes]
    text = {"takes": takes, "separator": separator, **({"k": 2} if takes == "ranked" else {})}
    content = {**BASE, "metric": kind, "submission": {**BASE["submission"], **text}}
    if takes == "set":
        content["target"] = "several"
    if not separator.strip():
        content["submission"]["spelling"] = {"sour cherry": "sour_cherry"}
    path = home / "fruit.yaml"
    path.write_text(yaml.dump(content))
    form = submission.form(config.load_competition(str(path)), IDS)
    submission.write(home / "s.csv", form, IDS, np.array([[0.9, 0.1, 0.8], [0.1, 0.7, 0.6], [0.2, 0.9, 0.3]]))
    rows = list(csv.reader((home / "s.csv").open(newline="")))
    cherry = "sour cherry" if separator.strip() else "sour_cherry"
    assert rows[1] == ["007.png", f"apple{separator}{cherry}"]
    read = submission.check(home / "s.csv", form).tolist()
    assert read[0] == ([1, 0, 1] if takes == "set" else [0, 2])
    assert read[1] == ([0, 1, 1] if takes == "set" else [1, 2])


def test_a_class_that_holds_the_separator_is_refused(home):
    text = {"takes": "ranked", "k": 2, "separator": "|"}
    path = home / "fruit.yaml"
    path.write_text(yaml.dump({**BASE, "classes": ["a|b", "c"], "metric": "accuracy", "submission": text}))
    with pytest.raises(UserError, match=r"separates classes by '\|', but 'a\|b' contains one; set submission.spelling"):
        config.load_competition(str(path))


@pytest.mark.parametrize(
    ("classes", "own", "between"),
    [(["a", "b"], " ", " "), (["a", "b"], ",", ","), (["red fox", "a"], " ", ";"), (["red fox;", "a"], ";", "|")],
)
def test_a_list_of_predicted_sets_keeps_classes_of_several_words_apart(tmp_path, classes, own, between):
    columns = {"takes": "probabilities", "separator": own}
    content = {**BASE, "classes": classes, "target": "several", "metric": "auc", "submission": columns}
    (tmp_path / "c.yaml").write_text(yaml.dump(content))
    competition = config.load_competition(str(tmp_path / "c.yaml"))
    assert submission.separator(competition) == between
    with WRITERS[".csv"](tmp_path / "out.csv", 1, between) as told:
        told("x.png", [(classes[0], 0.9)], tuple(classes))
    (row,) = csv.DictReader((tmp_path / "out.csv").open())
    assert row["decided"].split(between) == classes
