import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherweight.config import load_competition
from featherweight.errors import UserError
from featherweight.submission import Form, check, form, score, write

FORM = Form(("Id", "Label"), ["007", "7", "a b.png"], ["cat", "dog", "Dog"])
GOOD = "Id,Label\n007,cat\n7,dog\na b.png,Dog\n"


def test_what_is_written_passes_its_check_with_ids_as_given(tmp_path):
    probs = np.eye(3, dtype=np.float32)[[2, 0, 1]]
    write(tmp_path / "s.csv", FORM, ["a b.png", "007", "7"], probs)  # the model's order is not the form's
    assert (tmp_path / "s.csv").read_text() == GOOD
    assert check(tmp_path / "s.csv", FORM) == {"007": "cat", "7": "dog", "a b.png": "Dog"}


REFUSED = [
    ("", "the file is empty"),
    ("Id,Class\n007,cat\n7,dog\na b.png,Dog\n", "row 1: the header is 'Id,Class', expected 'Id,Label'"),
    ("Label,Id\ncat,007\n", "row 1: the header is 'Label,Id', expected 'Id,Label'"),
    ("Id,Label\n007,cat\n7,dog\n", "1 of 3 ids are missing, the first is 'a b.png'"),
    ("Id,Label\n", "3 of 3 ids are missing, the first is '007'"),
    (GOOD + "8,cat\n", "row 5: the id '8' is not in the test set"),
    ("Id,Label\n07,cat\n7,dog\na b.png,Dog\n", "row 2: the id '07' is not in the test set; did you mean '007'?"),
    (GOOD + "7,cat\n", "row 5: the id '7' stands in row 3 already"),
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
    with pytest.raises(UserError, match="not UTF-8 text"):
        check(tmp_path / "s.csv", FORM)


@pytest.mark.parametrize("text", ["\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), GOOD.rstrip("\n"), GOOD + "\n\n"])
def test_what_spreadsheets_do_to_a_csv_is_accepted(tmp_path, text):
    (tmp_path / "s.csv").write_bytes(text.encode())
    assert len(check(tmp_path / "s.csv", FORM)) == 3


def test_the_score_is_of_the_file(tmp_path):
    (tmp_path / "s.csv").write_text(GOOD)
    result = score(tmp_path / "s.csv", FORM, {"007": "cat", "7": "cat", "a b.png": "Dog"}, load_competition("digits"))
    assert (result.value, result.count) == (2 / 3, 3)


def test_the_sample_file_settles_header_and_order(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_DATA", str(tmp_path))
    (tmp_path / "sample.csv").write_text("file,kind\n2,cat\n1,cat\n")
    competition = load_competition("digits")
    wanted = competition.submission.model_copy(update={"sample": "sample.csv"})
    competition = competition.model_copy(update={"submission": wanted})
    assert form(competition, ["1", "2"]) == Form(("file", "kind"), ["2", "1"], competition.classes)
    with pytest.raises(UserError, match="'3' is in only one"):
        form(competition, ["1", "3", "2"])


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
    assert check(path, wanted) == dict(zip(ids, (classes[label] for label in labels), strict=True))
    with path.open(newline="", encoding="utf-8") as stream:
        assert [row[0] for row in csv.reader(stream)][1:] == ids
