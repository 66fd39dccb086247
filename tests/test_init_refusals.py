"""What `init` cannot read is refused with the file, what is wrong in it, and what to do."""

import io
import struct
import subprocess

import numpy as np
import pytest

from described_layouts import classes_of, described, refused, table
from drawn_pictures import picture
from featherweight.data.csv_file import read
from featherweight.data.detect.scan import scan
from featherweight.data.image import Image, decode
from featherweight.describe.competition_file import Options, init
from featherweight.errors import UserError

RANDOM = np.random.default_rng(0)


def test_a_table_that_names_no_image_is_named(root):
    for n in range(12):
        picture(root / f"images/a{n}.jpg", "JPEG")
    table(root / "train.csv", ["image", "label"], [[f"b{n}.jpg", "xyz"[n % 3]] for n in range(12)])
    assert "train.csv was read: its first row, b0.jpg,x, names none of the images" in refused(root)


def test_a_table_that_names_images_is_not_said_to_name_none(root):
    for n in range(12):
        picture(root / f"images/{n}.png")
    (root / "train.csv").write_text(
        "image,label\n" + "".join(f"{n}.png,{'xyz'[n % 3]}\n" for n in range(11)) + "a,b,c\n"
    )
    told = refused(root)
    assert "row 13: expected 2 fields, got 3" in told
    assert "was read" not in told


def test_images_without_an_ending_are_told_with_the_command(root):
    for n in range(6):
        picture(root / f"train/{'ab'[n % 2]}/{n}", "JPEG")
    subprocess.run(["bash", "-c", refused(root).splitlines()[1]], check=True)
    assert sorted(classes_of(root, described(root)[1].train)) == sorted(
        f"train/{'ab'[n % 2]}/{n}.jpg" for n in range(6)
    )


def test_parquet_files_of_images_are_told(root):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": b"\xff\xd8", "path": None}] * 8
    parquet.write_table(pyarrow.table({"image": images, "label": [0, 1] * 4}), root / "train.parquet")
    assert "1 .parquet" in refused(root)


def test_a_table_of_numbers_without_headings_is_told_with_the_command(root):
    rows = [[n % 3, *RANDOM.integers(0, 3, 63).tolist()] for n in range(12)]  # no square of pixels
    table(root / "train.csv", rows[0], rows[1:])
    told = refused(root)
    assert "holds numbers, and no headings" in told
    subprocess.run(["bash", "-c", told.splitlines()[-1]], check=True)
    found = read(root / "train.csv")
    assert found.header == ["label", *map(str, range(63))]
    assert found.rows == [[*map(str, row)] for row in rows]


def many_bands(bands):
    """A TIFF of 4 x 4 pixels of that many bands."""
    pixels = RANDOM.integers(0, 255, (4, 4, bands), dtype=np.uint8).tobytes()
    bits = struct.pack(f"<{bands}H", *[8] * bands)
    place = 8 + len(pixels)
    tags = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, bands, place), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    tags += [(277, 3, 1, bands), (278, 3, 1, 4), (279, 4, 1, len(pixels)), (284, 3, 1, 1)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return struct.pack("<2sHI", b"II", 42, place + len(bits)) + pixels + bits + directory


def test_the_bands_of_a_satellite_image_are_counted(root, capfd):
    for n in range(6):
        path = root / f"{'ab'[n % 2]}/{n}.tif"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(many_bands(13))
    assert "it has 13 bands: save 3 of them as RGB" in refused(root)
    with pytest.raises(UserError, match="13 bands"):
        decode(path, Image(size=8, mirror=False))
    assert capfd.readouterr().err == ""  # Pillow logs a line for each
    with pytest.raises(UserError, match="no image format that is known"):
        decode("x.tif", Image(size=8, mirror=False), io.BytesIO(b"II*\0").getvalue())


@pytest.mark.parametrize("size", [0, 3, 1025])
def test_a_size_is_refused_before_anything_is_read(root, size):
    assert f"--size {size}: expected 4 to 1024 pixels" in refused(root, size=size)


def test_links_to_nothing_are_told(root):
    for n in range(6):
        picture(root / f"{'ab'[n % 2]}/{n}.png")
    (root / "a/gone.png").symlink_to(root / "nowhere.png")
    report = init(root, Options())
    told = "\n".join([*report.found, *report.assumed])
    assert "links to files that are not there (1), as a/gone.png, not counted as images" in told
    assert len(scan(root, root).images) == 6


def test_another_id_in_the_sample_is_no_target(root):
    for n in range(16):
        picture(root / f"{'train' if n < 12 else 'test'}/{n}.png")
    heads = ["image", "patient", "edema", "mass"]
    table(root / "train.csv", heads, [[n, f"p{n // 3}", n % 2, n % 3 // 2] for n in range(12)])
    table(root / "sample_submission.csv", heads, [[n, "p9", 0.5, 0.5] for n in range(12, 16)])
    told = refused(root)
    assert "--label edema,mass to train it alone, with the sample moved away" in told
    (root / "sample_submission.csv").unlink()
    assert init(root, Options(label="edema,mass")).path.is_file()


def test_the_table_of_most_training_images_says_why_it_is_no_label_table(root):
    for n in range(40):
        picture(root / f"images/{n}.png")
    table(root / "all_zeros_benchmark.csv", ["image", "round", "disc"], [[n, 0, 0] for n in range(32, 40)])
    shares = RANDOM.random((32, 2)).round(6).tolist()
    table(root / "training_solutions.csv", ["image", "round", "disc"], [[n, *shares[n]] for n in range(32)])
    told = refused(root)
    assert "training_solutions.csv: 'round' holds fractions" in told or "'disc' holds fractions" in told
