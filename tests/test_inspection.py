"""`inspect` finds duplicates, conflicting labels, leaks, shift and imbalance where they are, and not elsewhere."""

import re

import numpy as np
import pytest
from PIL import Image as Pillow

from featherweight.cli import main
from featherweight.config import Split, load_competition
from featherweight.data import near_duplicates
from featherweight.data.pack import Data, Pack
from featherweight.data.parts import divide
from featherweight.data.split import groups_of
from featherweight.inspection import checks, command


def pictures(count, side=32, seed=0):
    """Make smooth random images, all different."""
    random = np.random.default_rng(seed)
    made = [
        Pillow.fromarray(random.integers(0, 256, (7, 7, 3), dtype=np.uint8)).resize(
            (side, side), Pillow.Resampling.BICUBIC
        )
        for _ in range(count)
    ]
    return np.stack([np.asarray(picture) for picture in made])


def saved_again(image, tmp_path):
    Pillow.fromarray(image).save(tmp_path / "x.jpg", quality=70, subsampling=0)
    return np.asarray(Pillow.open(tmp_path / "x.jpg"))


# ----------------------------------------------------------------------------------------------------------- likeness


def test_different_pictures_are_different():
    assert near_duplicates.groups(pictures(600)) == []


def test_copies_near_and_exact_are_found(tmp_path):
    images = pictures(300)
    images[250] = images[3]
    images[251] = saved_again(images[4], tmp_path)
    images[252] = (images[5] * 0.9 + 12).astype(np.uint8)
    small = Pillow.fromarray(images[6]).resize((20, 20), Pillow.Resampling.BILINEAR)
    images[253] = np.asarray(small.resize((32, 32), Pillow.Resampling.BILINEAR))
    images[254] = images[251]
    assert near_duplicates.groups(images) == [[3, 250], [4, 251, 254], [5, 252], [6, 253]]


def test_flat_pictures_are_copies_only_when_they_are_equal():
    images = np.zeros((40, 16, 16, 3), np.uint8)
    images[20:] = np.arange(20, dtype=np.uint8)[:, None, None, None] + 100
    assert near_duplicates.groups(images) == [list(range(20))]


@pytest.mark.parametrize("side", [8, 20, 33])
@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnails_are_means_of_areas(side, channels):
    images = np.random.default_rng(0).integers(0, 256, (5, side, side, channels), dtype=np.uint8)
    small = near_duplicates.thumbnails(images)
    assert small.shape == (5, 16, 16, channels)
    np.testing.assert_allclose(small.mean((1, 2)), images.mean((1, 2)), atol=1.0)


# ------------------------------------------------------------------------------------------------------------- checks


def packed(images, labels=None, prefix=""):
    ids = [f"{prefix}{n:04d}.png" for n in range(len(images))]
    return Pack(ids, images, None if labels is None else np.asarray(labels, dtype=np.int64))


def titles(found):
    return {finding.title: finding for finding in found.findings}


def test_a_clean_set_raises_no_warning():
    images = pictures(700)
    data = Data(packed(images[:400], np.arange(400) % 4), packed(images[400:]))
    found = checks.inspect(data, list("abcd"), np.arange(400) < 40)
    assert not [finding.title for finding in found.findings if finding.warning]
    assert found.counts == [100] * 4
    assert "the images to train on and to predict look alike" in titles(found)
    assert found.channels["train"][0] == pytest.approx(images[:400].mean((0, 1, 2)) / 255, abs=1e-4)
    assert found.channels["train"][1] == pytest.approx(images[:400].std((0, 1, 2)) / 255, abs=1e-4)


def test_what_is_planted_is_found():
    images = pictures(400)
    images[200] = images[0]  # another class
    images[5] = images[201]  # held out, and trained on
    images[399] = images[300]  # train and test
    labels = np.r_[np.zeros(200), np.ones(100)]
    found = checks.inspect(
        Data(packed(images[:301], np.r_[labels, 1]), packed(images[301:], prefix="t")), list("ab"), np.arange(301) < 30
    )
    told = titles(found)
    assert told["2 images have copies of different classes"].warning
    assert told["the holdout leaks"].detail.startswith("2 of 30 held-out images (6.7%)")
    assert told["1 of 99 images to predict are copies of training images"].warning
    assert told["1 of 99 images to predict are copies of training images"].rows[0][-1][1] == "to predict: t0098.png"
    assert found.groups["0200.png"] == found.groups["0000.png"] == "0000.png"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (lambda n: f"{'ab'[n % 2]}/{n:04d}.png", None),  # all but the number is the class
        (lambda n: f"{'ab'[n % 2]}/walk{n // 10}_{n}.png", "walk"),
    ],
)
def test_a_pattern_is_proposed_only_where_it_leaves_groups_to_divide(name, wanted):
    images = np.repeat(pictures(40), 10, axis=0)
    order = np.arange(400)
    pack = Pack([name(n) for n in order], images, order % 2)
    told = titles(checks.inspect(Data(pack, None), list("ab"), order % 10 == 0))["the holdout leaks"]
    assert told.advice.startswith(
        "set in the competition file: group: " if wanted else "set in the competition file: groups:"
    )
    if wanted:
        keys = groups_of(pack.ids, re.search("'(.*)'", told.advice)[1])
        assert all("walk" in key for key in keys)
        assert len(set(keys)) == 40


def test_shift_is_found_and_shows_what_gives_it_away():
    images = pictures(800)
    images[600:] = (images[600:] * 0.6).astype(np.uint8)
    found = checks.inspect(
        Data(packed(images[:400], np.arange(400) % 2), packed(images[400:])), list("ab"), np.arange(400) < 40
    )
    shifted = titles(found)["the images to train on and to predict differ"]
    assert shifted.warning
    assert shifted.rows[0]
    assert all(int(caption[:4]) >= 200 for _, caption in shifted.rows[0])


def test_imbalance_and_small_classes():
    labels = [0] * 200 + [1] * 15
    found = checks.inspect(Data(packed(pictures(215), labels), None), ["a", "b", "c"], np.arange(215) < 20)
    told = titles(found)
    assert told["classes without an image"].detail == "c"
    assert told["classes of fewer than 20 images"].detail == "b (15)"
    assert told["imbalance of 200.0 to 1"].warning


def test_every_warning_says_what_to_do():
    images = np.concatenate([pictures(60)] * 2)
    found = checks.inspect(Data(packed(images, [0] * 110 + [1] * 10), packed(images)), ["a", "b"], np.arange(120) < 60)
    warnings = [finding for finding in found.findings if finding.warning]
    assert len(warnings) >= 3
    assert all(finding.advice for finding in warnings)


# ------------------------------------------------------------------------------------------------------------ command


@pytest.fixture
def tracks(home):
    """Make 12 tracks of 5 nearly equal frames, and test images with a frame of one track."""
    base = pictures(12)
    for n in range(60):
        frame = np.clip(base[n // 5].astype(int) + n % 5, 0, 255).astype(np.uint8)
        path = home / f"data/t/train/{'ab'[n // 5 % 2]}/walk{n // 5}_{n:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(frame).save(path)
    (home / "data/t/test").mkdir()
    Pillow.fromarray(base[0]).save(home / "data/t/test/x.png")
    assert main.main(["init", str(home / "data/t"), "--group", "none"]) == 0
    return home


def test_the_page_needs_no_network_and_the_grouping_ends_the_leak(tracks, capsys):
    assert main.main(["inspect", "t"]) == 0
    told = capsys.readouterr().out
    assert "- a split that separates duplicates would leak" in told
    assert "every run keeps them together" in told
    page = (tracks / "reports/t-data.html").read_text()
    assert len(page) < 5_000_000
    assert "data:image/webp;base64," in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert "http" not in page
    assert "walk0_000.png" in page

    config = tracks / "configs/competitions/t.yaml"
    before = config.read_text()
    pattern = re.search(r"say in the competition file: (group: .*)", told)
    for line in ([pattern[1]] if pattern else []) + ["groups: t-groups.csv"]:
        config.write_text(f"{before}{line}\n")
        competition = load_competition("t")
        data = competition.load()
        parts = divide(Split(), competition, data)
        sides = [{id.split("_")[0] for id in part.ids} for part in parts[:2]]
        assert not sides[0] & sides[1]
        capsys.readouterr()
        assert main.main(["inspect", "t"]) == 0
        assert "no image is on both sides of the split" in capsys.readouterr().out


def test_a_grouping_that_cannot_lie_beside_the_data_lies_elsewhere(tracks, capsys):
    (tracks / "data/t-groups.csv").mkdir()  # cannot be replaced by a file, as in a folder that is read-only
    assert main.main(["inspect", "t"]) == 0
    told = capsys.readouterr().out
    path = tracks / "reports/t-groups.csv"
    assert f"groups: {path}" in told
    assert (tracks / "reports/t-data.html").is_file()
    config = tracks / "configs/competitions/t.yaml"
    config.write_text(f"{config.read_text()}groups: {path}\n")
    competition = load_competition("t")
    data = competition.load()
    sides = [{id.split("_")[0] for id in part.ids} for part in divide(Split(), competition, data)[:2]]
    assert not sides[0] & sides[1]


def test_names_are_escaped_on_the_page(home, capsys):
    for n in range(12):
        path = home / f"data/t/train/{['<b>x', 'y&z'][n % 2]}/{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(pictures(1, seed=n)[0]).save(path)
    assert main.main(["init", str(home / "data/t")]) == 0
    page = command.inspect("t").read_text()
    assert "&lt;b&gt;x" in page
    assert "<b>x" not in page


def test_an_unknown_name_is_told(home, capsys):
    assert main.main(["inspect", "digts"]) == 2
    assert "did you mean 'digits'?" in capsys.readouterr().err
