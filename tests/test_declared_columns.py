"""A column that `init` is told for one purpose (--id, --label, --group) is no candidate for another; columns that are
called as groups of images compete with no label.
"""

from __future__ import annotations

import pytest

from described_layouts import described, pictures, refused, table

CLASSES = [["cat", "dog", "owl"][n % 3] for n in range(15)]
PATIENTS = [f"p{n // 3}" for n in range(15)]
NAMES = [f"{n}.png" for n in range(15)]


def columns(path, **named):
    """Write a CSV of the images and these columns."""
    table(path, ["image", *named], zip(NAMES, *named.values(), strict=True))


@pytest.fixture
def images(root):
    pictures(root, [f"images/{name}" for name in NAMES])
    return root


@pytest.mark.parametrize("wish", [{"group": "patient"}, {}, {"label": "label"}], ids=str)
@pytest.mark.parametrize("name", ["labels.csv", "train_labels.csv"])
def test_groups_in_a_second_table_are_no_classes(images, name, wish):
    columns(images / name, label=CLASSES)
    columns(images / "meta.csv", patient=PATIENTS)
    competition, listing, told = described(images, **wish)
    assert (competition.source.label, competition.source.group) == ("label", "patient")
    assert (listing.train.labels, listing.train.groups) == (CLASSES, PATIENTS)
    assert "though they have classes" not in told


def test_a_declared_group_of_any_name_is_no_class(images):
    columns(images / "labels.csv", x=CLASSES)
    columns(images / "meta.csv", y=PATIENTS)
    listing = described(images, group="y")[1]
    assert (listing.train.labels, listing.train.groups) == (CLASSES, PATIENTS)


def test_tables_that_compete_name_the_options_that_choose(images):
    columns(images / "labels.csv", x=CLASSES)
    columns(images / "meta.csv", y=PATIENTS)
    told = refused(images)
    assert "labels.csv and meta.csv say different classes of the same images\npass --label x (labels.csv) or" in told
    assert "--label y (meta.csv)" in told
    assert "--group COLUMN" in told
    assert described(images, label="x")[1].train.labels == CLASSES


def test_the_same_column_in_two_tables_is_not_chosen_by_its_name(images):
    for name, values in (("a.csv", CLASSES), ("b.csv", PATIENTS)):
        columns(images / name, label=values)
    assert "a.csv and b.csv say different classes of the same images\nmove" in refused(images, label="label")


@pytest.mark.parametrize(("group", "label"), [("kind", "species"), ("species", "kind")])
def test_of_two_likely_classes_the_declared_group_is_none(images, group, label):
    columns(images / "labels.csv", species=CLASSES, kind=PATIENTS)
    source = described(images, group=group)[0].source
    assert (source.label, source.group) == (label, group)


def test_a_declared_group_is_no_split(images):
    parts = ["train", "test", "train"] * 5
    columns(images / "labels.csv", label=CLASSES, split=parts)
    competition, listing, _ = described(images, group="split")
    assert competition.source.split is None
    assert listing.train.groups == parts


def test_declared_columns_are_not_taken_for_the_names_of_images(images):
    table(
        images / "labels.csv", ["original", "copy", "label"], zip(NAMES, [*NAMES[1:], NAMES[0]], CLASSES, strict=True)
    )
    assert "'original' and 'copy' both name images" in refused(images)
    source = described(images, group="original")[0].source
    assert (source.id, source.group) == ("copy", "original")


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"group": "label"}, "no column can be the class besides 'image' and 'label' (--group)"),
        ({"group": "label", "label": "label"}, "--label and --group both name the column 'label'"),
        ({"group": "image"}, "has the names of the images there"),
    ],
    ids=str,
)
def test_one_column_for_two_purposes_is_refused(images, wish, said):
    columns(images / "labels.csv", label=CLASSES)
    assert said in refused(images, **wish)


@pytest.mark.parametrize(
    ("header", "names", "said"),
    [
        ("file", NAMES, "no column of names is called alike"),
        ("image", [name[:-4] for name in NAMES], "'image' has other values there, as '0'"),
        ("image", [*NAMES[:-1], NAMES[0]], "'image' has values in several rows there"),
    ],
)
def test_a_group_in_a_table_that_cannot_be_joined_says_why(images, header, names, said):
    columns(images / "labels.csv", label=CLASSES)
    table(images / "meta.csv", [header, "patient"], zip(names, PATIENTS, strict=True))
    assert said in refused(images, group="patient")
    assert described(images)[1].train.groups is None


@pytest.mark.parametrize("first", ["", "label"])
def test_tables_are_joined_by_the_names_of_the_images(images, first):
    """Not by the numbers of their rows, which stand in another order, nor by another column that both have."""
    columns = (range(15), range(15)) if not first else (CLASSES, CLASSES[::-1])
    table(images / "labels.csv", [first, "image", "species"], zip(columns[0], NAMES, CLASSES, strict=True))
    table(images / "meta.csv", [first, "image", "patient"], zip(columns[1], NAMES[::-1], PATIENTS[::-1], strict=True))
    listing = described(images, label="species")[1]
    assert listing.train.ids == NAMES
    assert listing.train.groups == PATIENTS


def test_row_numbers_join_no_tables(images):
    table(images / "labels.csv", ["", "image", "label"], zip(range(15), NAMES, CLASSES, strict=True))
    table(images / "meta.csv", ["", "file", "patient"], zip(range(15), NAMES[::-1], PATIENTS[::-1], strict=True))
    assert "no column of names is called alike" in refused(images, group="patient")
    assert described(images)[1].train.groups is None


def test_groups_are_found_in_a_table_for_training_beside_one_of_all(images):
    columns(images / "labels.csv", label=CLASSES)
    columns(images / "train_meta.csv", patient=PATIENTS)
    assert described(images, label="label")[1].train.groups == PATIENTS


def test_class_folders_are_preferred_to_a_table_of_groups(root):
    pictures(root, [f"{label}/{name}" for label, name in zip(CLASSES, NAMES, strict=True)])
    columns(root / "meta.csv", patient=PATIENTS)
    assert "meta.csv has that column, and no column of classes" in refused(root, group="patient")
    competition, _, told = described(root)
    assert competition.classes == ["cat", "dog", "owl"]
    assert "not used: meta.csv, whose 'patient' seems to say which images belong together" in told


def test_classes_by_patient_are_not_taken_to_be_the_patients(images):
    columns(images / "meta.csv", patient=PATIENTS)
    table(images / "labels.csv", ["patient", "label"], [[f"p{n}", CLASSES[n]] for n in range(5)])
    assert "its only column besides the images is 'patient', and labels.csv describes each" in refused(images)
    assert described(images, label="patient")[1].train.labels == PATIENTS


def test_rows_of_patients_can_be_grouped_by_their_own_column(root):
    pictures(root, [f"{patient}/{name}" for patient, name in zip(PATIENTS, NAMES, strict=True)])
    table(root / "labels.csv", ["patient_id", "label"], [[f"p{n}", "ab"[n % 2]] for n in range(5)])
    assert len(set(described(root, group="patient_id")[1].train.groups)) == 5


def test_declared_columns_of_a_table_of_pixels(root):
    rows = [[*row, *[n] * 64] for n, row in enumerate(zip(NAMES, CLASSES, PATIENTS, strict=True))]
    table(root / "train.csv", ["target", "kind", "patient", *(f"pixel{n}" for n in range(64))], rows)
    assert described(root, id="target", name="y")[0].source.label == "kind"
    _, listing, told = described(root, group="patient", label="kind", name="z")
    read = listing.train.read()
    assert (read.groups, read.labels) == (PATIENTS, CLASSES)
    assert "source.group: patient: 5 groups of 3 images stay together" in told


def test_groups_in_the_table_of_classes_beside_a_table_of_pixels(root):
    table(root / "train.csv", ["id", *(f"pixel{n}" for n in range(64))], [[name, *[7] * 64] for name in NAMES])
    groups = ["", *PATIENTS[1:]]
    table(root / "labels.csv", ["id", "label", "patient"], [*zip(NAMES, CLASSES, groups, strict=True)][::-1])
    read = described(root, group="patient")[1].train.read()
    assert (read.ids, read.labels, read.groups) == (NAMES, CLASSES, ["/0.png", *PATIENTS[1:]])
    assert "--group patent: no column of the label table" in refused(root, group="patent", name="y")
    assert "--group id: that column of labels.csv holds" in refused(root, group="id", name="y")
