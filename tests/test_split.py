"""Splits: stratified, seeded, determined by the ids; counts, three parts, folds, groups."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from PIL import Image as Pillow

from featherweight.cli import main
from featherweight.data import split
from featherweight.data.split import divide, folds, groups_of, scarce, stratified_mask
from featherweight.errors import UserError


def sample(count=300, classes=5, seed=0):
    random = np.random.default_rng(seed)
    labels = [str(label) for label in random.choice(classes, count, p=np.arange(1, classes + 1) / 15)]
    return [f"{n:05d}.png" for n in range(count)], labels


labels_lists = st.lists(st.sampled_from("aabbbbcd"), min_size=12, max_size=80)


@given(labels_lists, st.sampled_from([0.05, 0.1, 0.25, 0.5]), st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_same_ids_whatever_the_order(labels, fraction, seed, random):
    ids = [f"{n}" for n in range(len(labels))]
    held = {ids[n] for n in np.flatnonzero(stratified_mask(ids, labels, fraction, seed))}
    order = list(range(len(ids)))
    random.shuffle(order)
    again = stratified_mask([ids[n] for n in order], [labels[n] for n in order], fraction, seed)
    assert {ids[order[n]] for n in np.flatnonzero(again)} == held


@given(labels_lists, st.one_of(st.sampled_from([0.1, 0.3]), st.integers(2, 9)), st.sampled_from([0, 0.2, 4]))
def test_parts_are_disjoint_whole_and_stratified(labels, holdout, test):
    ids = [f"{n}" for n in range(len(labels))]
    try:
        parts = divide(ids, labels, holdout=holdout, test=test, seed=3)
    except UserError:
        assert holdout * max(Counter(labels).values()) < 1.5 or test
        return
    together = np.concatenate([parts.train, parts.holdout, parts.test])
    assert sorted(together) == list(range(len(ids)))
    sizes, left = Counter(labels), Counter(np.array(labels)[parts.train])
    assert set(np.array(labels)[parts.train]) == set(labels), "a class was held out whole"
    for part, wanted in ((parts.holdout, holdout), (parts.test, test)):
        for label, got in Counter(np.array(labels)[part]).items():
            exact = wanted * sizes[label] if wanted < 1 else wanted * sizes[label] / len(ids)
            assert got <= exact + 1
            assert got >= exact - 1 or left[label] == 1, "only the last to train on is a reason to take fewer"


@pytest.mark.parametrize("holdout", [0.1, 198])
def test_rare_classes_are_held_out_as_often_as_others(holdout):
    rare = [f"r{n:03d}" for n in range(300) for _ in range(2 + n % 3)]
    labels = [*rare, *(f"c{n}" for n in range(20) for _ in range(54))]
    ids = [f"{n}.png" for n in range(len(labels))]
    shares, early = [], []
    for seed in range(5):
        held = [labels[n] for n in divide(ids, labels, holdout=holdout, seed=seed).holdout]
        shares.append(np.mean([label[0] == "r" for label in held]))
        early.append(np.mean([label < "r150" for label in held if label[0] == "r"]))
        assert abs(len(held) - 198) < 45
    assert np.mean(shares) == pytest.approx(900 / 1980, abs=0.07)
    assert 0.35 < np.mean(early) < 0.65, "not by the alphabet"


def test_as_before_with_a_fraction_alone():
    ids, labels = sample()
    held = stratified_mask(ids, labels, 0.1, 1)
    np.testing.assert_array_equal(divide(ids, labels, holdout=0.1, seed=1).holdout, np.flatnonzero(held))


def test_a_number_of_images_is_met_exactly():
    ids, labels = sample(1000)
    assert [len(part) for part in vars(divide(ids, labels, holdout=123, test=77)).values()] == [800, 123, 77]


def test_six_two_two():
    ids, labels = sample(1000)
    parts = divide(ids, labels, holdout=0.2, test=0.2)
    assert [len(part) for part in vars(parts).values()] == pytest.approx([600, 200, 200], abs=3)


@given(labels_lists, st.integers(2, 6), st.integers(0, 2))
def test_folds_deal_every_class_evenly(labels, k, seed):
    ids = [f"{n}" for n in range(len(labels))]
    fold = folds(ids, labels, k, seed)
    sizes = np.bincount(fold, minlength=k)
    assert sizes.max() - sizes.min() <= 1
    for label in set(labels):
        counts = np.bincount(fold[np.array(labels) == label], minlength=k)
        assert counts.max() - counts.min() <= 1


def test_folds_do_not_depend_on_the_order():
    ids, labels = sample()
    fold = dict(zip(ids, folds(ids, labels, 5), strict=True))
    assert fold == dict(zip(ids[::-1], folds(ids[::-1], labels[::-1], 5), strict=True))


grouped = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=10, max_size=120)


@given(grouped, st.sampled_from([0.1, 0.3, 5]), st.sampled_from([0, 0.2]))
def test_groups_stay_together_in_parts(pairs, holdout, test):
    labels, groups = [label for label, _ in pairs], [f"g{group}" for _, group in pairs]
    ids = [f"{n}" for n in range(len(pairs))]
    try:
        parts = divide(ids, labels, holdout=holdout, test=test, groups=groups)
    except UserError:  # where a class has but one group, that group cannot be spared
        reject()
    sets = [set(np.array(groups)[part]) for part in vars(parts).values()]
    assert sum(map(len, sets)) == len(set(groups))
    assert sorted(np.concatenate(list(vars(parts).values()))) == list(range(len(ids)))


@given(grouped, st.integers(2, 4))
def test_groups_stay_together_in_folds(pairs, k):
    labels, groups = [label for label, _ in pairs], [f"g{group}" for _, group in pairs]
    ids = [f"{n}" for n in range(len(pairs))]
    if len(set(groups)) < k:
        with pytest.raises(UserError, match=f"{k} folds need at least {k} groups"):
            folds(ids, labels, k, 0, groups)
        return
    fold = folds(ids, labels, k, 0, groups)
    assert all(len(set(fold[np.array(groups) == group])) == 1 for group in set(groups))
    assert set(fold) == set(range(k)), "a fold is empty"


def test_grouped_parts_come_near_to_what_was_asked():
    random = np.random.default_rng(0)
    groups = [f"p{group}" for group in random.integers(0, 200, 2000)]
    label_of = {group: "abc"[n % 3] for n, group in enumerate(sorted(set(groups)))}
    labels = [label_of[group] for group in groups]
    ids = [f"{n}" for n in range(2000)]
    held = divide(ids, labels, holdout=0.2, groups=groups).holdout
    sizes, got = Counter(labels), Counter(np.array(labels)[held])
    assert all(got[label] == pytest.approx(0.2 * size, rel=0.1) for label, size in sizes.items())
    fold = folds(ids, labels, 5, 0, groups)
    counts = np.array([np.bincount(fold[np.array(labels) == label], minlength=5) for label in "abc"])
    assert (np.ptp(counts, axis=1) <= 0.15 * counts.mean(1)).all()


def test_groups_larger_than_the_holdout_give_the_smallest():
    labels, groups = ["a", "b"] * 10, ["x"] * 12 + ["y"] * 8
    assert len(divide([str(n) for n in range(20)], labels, holdout=0.1, groups=groups).holdout) == 8


def test_small_classes_are_told():
    assert scarce(["a"] * 3 + ["b"] * 9, 5) == "1 of 2 classes have fewer than 5 images: a (3)"
    assert scarce(["a"] * 9, 5) == ""


def test_groups_by_a_pattern():
    assert groups_of(["t1_001.png", "t1_002.png", "t2_001.png"], r"^(\w+)_") == ["t1", "t1", "t2"]
    assert groups_of(["a-1-x", "a-2-x"], r"(a)-.-(x)") == ["a/x", "a/x"]
    with pytest.raises(UserError, match=r"group: \\d is not found in 1 of 2 ids: x"):
        groups_of(["1", "x"], r"\d")


def test_too_much_is_refused():
    with pytest.raises(UserError, match="split: 20 of 10 images leave none to train on"):
        divide([str(n) for n in range(10)], ["a", "b"] * 5, holdout=20)
    with pytest.raises(UserError, match=r"split\.folds: 5 folds need at least 5 images, got 3"):
        folds(["1", "2", "3"], ["a", "b", "a"], 5)


# ------------------------------------------------------------------------------------------------------- in a run


@pytest.fixture
def tracks(home):
    """Make 40 images of 10 tracks, 2 classes, and a validation folder."""
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("valid", 8)):
        for n in range(count):
            path = home / f"data/t/{part}/{'ab'[n % 2]}/track{n // 4}_{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    return home


def write(home, extra="", source=""):
    (home / "t.yaml").write_text(
        f"title: T\nsource: {{name: folders, path: t{source}}}\nimage: {{size: 8, mirror: true}}\n"
        f"classes: [a, b]\nlimit: {{parameters: 50000}}\n{extra}"
    )
    return str(home / "t.yaml")


def run(home, competition, *settings):
    words = [word for setting in ("train.epochs=1", "predict.views=[]", *settings) for word in ("--set", setting)]
    code = main.main(["tiny", "--competition", competition, "--name", "r", "--threads", "1", "--no-report", *words])
    path = home / "runs/r/split.json"
    return code, json.loads(path.read_text()) if path.exists() else {}


def test_a_given_validation_folder_is_used_as_it_is(tracks):
    code, split = run(tracks, write(tracks, source=", valid: valid"), "split.subset=20")
    assert code == 0
    assert len(split["train"]) == 20
    assert len(split["holdout"]) == 8


def test_training_images_replaced_under_their_names_end_an_unfinished_run(tracks, capsys):
    competition = write(tracks)
    assert run(tracks, competition)[0] == 0
    first = next((tracks / "data/t/train").rglob("*.png"))
    Pillow.fromarray(np.asarray(Pillow.open(first)) // 2).save(first)
    assert main.main(["resume", "r", "--no-report"]) == 0
    (tracks / "runs/r/result.json").unlink()
    assert main.main(["resume", "r", "--no-report"]) == 2
    assert (
        "some training images were replaced by others of the same names since r was started" in capsys.readouterr().err
    )


def test_a_given_validation_folder_leaves_none_to_keep_for_the_end(tracks, capsys):
    code, split = run(tracks, write(tracks, source=", valid: valid"), "split.test=0.2")
    assert (code, split) == (2, {})
    assert "split.test: a validation part came with the data, and is held out" in capsys.readouterr().err


def test_tracks_stay_together(tracks):
    code, split = run(tracks, write(tracks, r"group: '(track\d+)_'"), "split.holdout=0.3")
    assert code == 0
    sides = [{id.split("/")[1].split("_")[0] for id in split[part]} for part in ("train", "holdout")]
    assert not sides[0] & sides[1]


def test_three_ways_and_folds(tracks, capsys):
    code, split = run(tracks, write(tracks), "split.holdout=0.2", "split.test=0.2")
    assert code == 0
    assert [len(split[part]) for part in ("train", "holdout", "test")] == [24, 8, 8]
    assert "test        " in capsys.readouterr().out


def test_a_fold(tracks):
    code, split = run(tracks, write(tracks), "split.folds=5", "split.fold=4")
    assert code == 0
    assert [len(split[part]) for part in ("train", "holdout")] == [32, 8]


def test_folds_that_related_images_leave_empty_are_refused(tracks, capsys):
    assert run(tracks, write(tracks), "split.folds=30", "split.fold=29") == (2, {})
    assert "split.folds: related images stay together, and 40 images fill 20 of 30 folds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("split.holdout=1", "expected a part below 1, or a number of images from 2, got 1"),
        ("split.holdout=2.5", "expected a part below 1, or a number of images from 2, got 2.5"),
        ("split.holdout=0", "must be greater than 0"),
        ("split.fold=5", "split.fold: expected less than split.folds (None), got 5"),
        ("split.folds=1", "must be greater than or equal to 2"),
        ("split.holdout=40", "split: 40 of 40 images leave none to train on"),
    ],
)
def test_what_is_refused(tracks, setting, message, capsys):
    code, _ = run(tracks, write(tracks), setting)
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_pattern_that_is_none(tracks, capsys):
    assert run(tracks, write(tracks, "group: '('"))[0] == 2
    assert "group: not a regular expression" in capsys.readouterr().err


@given(labels_lists, st.integers(2, 10), st.randoms(use_true_random=False))
def test_a_subset_is_a_property_of_the_ids_and_met_exactly(labels, count, random):
    ids = [f"{n}" for n in range(len(labels))]
    chosen = {ids[n] for n in split.sample(ids, labels, count, 0)}
    order = list(range(len(ids)))
    random.shuffle(order)
    again = split.sample([ids[n] for n in order], [labels[n] for n in order], count, 0)
    assert {ids[order[n]] for n in again} == chosen
    assert len(chosen) == count
    for label, size in Counter(labels).items():
        assert abs(sum(labels[int(id)] == label for id in chosen) - count * size / len(ids)) < 1
