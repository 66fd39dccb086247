import numpy as np
import pytest
from PIL import Image

from featherweight import plotting
from featherweight.config import load_competition, load_recipe
from featherweight.report import preview


def test_the_rate_is_drawn(tmp_path):
    told = preview.schedule(load_recipe("tiny"), load_competition("digits"), tmp_path / "rate.png")
    assert told.splitlines()[0].startswith("      0.1 │█")
    assert told.splitlines()[-1].endswith("0 to 5 epochs of 20 steps")
    assert Image.open(tmp_path / "rate.png").size[0] > 500


def test_the_sheet_begins_every_row_with_the_image_as_it_is(tmp_path):
    recipe, competition = load_recipe("tiny", ["mix=[cutmix]"]), load_competition("digits")
    told = preview.augment(recipe, competition, tmp_path / "sheet.png", rows=3, columns=4)
    assert told == "3 images, unchanged on the left, 3 draws each of: crop, cutmix"  # a digit is not mirrored
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert pixels.shape == ((3 * 10 - 2) * 6, (4 * 10 - 2) * 6, 3)
    original, draw = pixels[: 8 * 6, : 8 * 6], pixels[: 8 * 6, 10 * 6 : 18 * 6]
    assert not np.array_equal(original, draw)


def test_a_curve_in_the_terminal():
    lines = plotting.in_terminal([1, 2, 4], height=2).splitlines()
    assert lines == ["        4 │  █", "        0 │▄██"]


@pytest.mark.parametrize("count", [1, 3, 5000])
def test_a_curve_fits_the_terminal(count):
    assert max(map(len, plotting.in_terminal(range(count)).splitlines())) <= 11 + 72


def test_images_of_other_than_one_or_three_channels_are_no_sheet(tmp_path):
    with pytest.raises(ValueError, match="1 or 3 channels, got 4"):
        plotting.sheet(np.zeros((2, 4, 4, 4), np.uint8), 2, tmp_path / "sheet.png")
