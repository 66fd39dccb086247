# ruff: noqa: E501, PT017 - an example of files is a line; what is refused is asked for its words
"""Readers with damaged files: each returns valid data or raises one UserError, and leaves no files behind.

2,000 examples with `--all`, else 500; `./run.sh bench fuzz --examples 20000` tests each property with that many.
"""

import io
import os
import pickle
import struct
import tarfile
import zipfile

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from featherweight import yaml
from featherweight.config import Recipe, load_recipe
from featherweight.data import csv_file, safe_arrays, safe_pickles
from featherweight.data.archive import unpack
from featherweight.data.image import Image, decode
from featherweight.errors import UserError

EXAMPLES = int(os.environ.get("FEATHERWEIGHT_FUZZ_EXAMPLES", "0"))  # of each property; 0: those of the suite
IMAGE = Image(size=8, channels=3, mirror=False)
EDGES = st.sampled_from(
    [b"", b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 8, b"\n", b'"', b",", b"\xe9", b"\0" * 512]
)


def fuzz(share):
    """Draw this many times the examples that other properties have."""
    return settings(
        max_examples=EXAMPLES or int(share * settings.default.max_examples),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@st.composite
def damaged(draw, whole):
    """Draw one of the files with pieces cut out, overwritten, inserted or doubled."""
    content = draw(st.sampled_from(whole))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 16) | st.integers(0, max(1, len(content))))
        piece = draw(EDGES | st.binary(max_size=12))
        content = draw(
            st.sampled_from(
                (
                    content[:start],
                    content[:start] + piece + content[start + len(piece) :],
                    content[:start] + piece + content[start:],
                    content[:start] + content[start + length :],
                    content[:start] + content[start : start + length] * 2 + content[start + length :],
                )
            )
        )
    return content


def picture(kind, mode="RGB"):
    stream = io.BytesIO()
    rng = np.random.default_rng(0)
    Pillow.fromarray(rng.integers(0, 255, (13, 9, 3), np.uint8)).convert(mode).save(stream, kind)
    return stream.getvalue()


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train/a/1.png", "train/b/2.png", "labels.csv"):
            archive.writestr(name, name * 9)
    return stream.getvalue()


def tarred(mode):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name in ("train/a/1.png", "train/b/2.png", "l" * 120):
            info = tarfile.TarInfo(name)
            info.size = 700
            archive.addfile(info, io.BytesIO(bytes(700)))
    return stream.getvalue()


def saved(write, *args, **kwargs):
    stream = io.BytesIO()
    write(stream, *args, **kwargs)
    return stream.getvalue()


PICTURES = [picture(*how) for how in (("PNG",), ("PNG", "P"), ("PNG", "LA"), ("JPEG",), ("JPEG", "CMYK"), ("GIF", "P"), ("BMP",), ("TIFF",), ("WEBP",), ("PPM",), ("ICO",))]  # fmt: skip
TABLES = [
    "id,label\n1,a\n2,b\n3,a\n".encode(code) for code in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1")
] + [b'id;label\r\n"1";"a;b"\r\n"2";"c"\r\n']
ARCHIVES = {".zip": [zipped()], ".tar": [tarred("w")], ".tar.gz": [tarred("w:gz")], ".tar.xz": [tarred("w:xz")]}
DATA = np.zeros((3, 4, 4), np.uint8)
ARRAYS = {".npy": [saved(np.save, DATA), saved(np.save, np.array(["a", "b"]))], ".npz": [saved(np.savez, x=DATA), saved(np.savez_compressed, x=DATA)]}  # fmt: skip
PICKLES = [pickle.dumps({"data": DATA, "labels": [0, 1, 2]}, protocol) for protocol in range(6)]
IDX = [bytes([0, 0, 8, 3]) + struct.pack(">3I", 3, 4, 4) + bytes(48)]


@fuzz(3.5)
@given(damaged(PICTURES))
def test_a_picture_or_a_refusal(content):
    try:
        pixels = decode("x.png", IMAGE, content)
    except UserError as error:
        assert str(error).startswith("x.png: cannot be read as an image (")
        assert "\n" not in str(error)
        return
    assert (pixels.shape, pixels.dtype) == ((8, 8, 3), np.uint8)


@fuzz(3.5)
@given(damaged(TABLES))
def test_a_table_or_a_refusal(tmp_path, content):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    csv_file.beginning(path, 5)
    try:
        table = csv_file.read(path)
    except UserError as error:
        assert str(error).startswith(str(path))
        return
    assert all(len(row) == len(table.header) for row in table.rows)


@fuzz(2.5)
@given(st.sampled_from(sorted(ARCHIVES)).flatmap(lambda kind: st.tuples(st.just(kind), damaged(ARCHIVES[kind]))))
def test_an_archive_whole_or_nothing(tmp_path_factory, case):
    kind, content = case
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / f"x{kind}").write_bytes(content)
    try:
        unpack(folder / f"x{kind}", folder / "out", largest=1 << 20)
    except UserError as error:
        assert f"x{kind}: " in str(error)
        assert [path.name for path in folder.iterdir()] == [f"x{kind}"]
        return
    assert sorted(path.name for path in folder.iterdir()) == ["out", f"x{kind}"]


@fuzz(3)
@given(st.sampled_from(sorted(ARRAYS)).flatmap(lambda kind: st.tuples(st.just(kind), damaged(ARRAYS[kind]))))
def test_an_array_or_a_refusal(tmp_path, case):
    kind, content = case
    path = tmp_path / f"x{kind}"
    path.write_bytes(content)
    try:
        for key, array in safe_arrays.declared(path).items():
            assert safe_arrays.load(path, key).shape == array.shape
    except UserError as error:
        assert str(error).startswith(str(path))


@fuzz(1.5)
@given(damaged(PICKLES))
def test_a_pickle_or_a_refusal(tmp_path, content):
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    try:
        assert isinstance(safe_pickles.read(path), dict)
    except UserError as error:
        assert str(error).startswith(str(path))


@fuzz(1)
@given(damaged(IDX))
def test_an_idx_file_or_a_refusal(tmp_path, content):
    path = tmp_path / "x-ubyte"
    path.write_bytes(content)
    try:
        assert safe_arrays.read_idx(path).dtype == np.uint8
    except UserError as error:
        assert str(error).startswith(str(path))


WORDS = st.sampled_from(["&a", "*a", "<<:", "!!set", "!x", "{", "}", "[", "]", ":", "-", "?", "|", "1e9", "~", "null", "0x7", "2026-01-01", ".inf", "'", '"', "#", "\n", " ", ",", "x"])  # fmt: skip
KEYS = st.sampled_from(["model", "model.name", "model.width", "train.epochs", "optimizer", "augment.0", "mix", "predict.views", "split.holdout", "seed", "growth", "x.y", "a..b"])  # fmt: skip


@fuzz(4)
@given(
    KEYS,
    st.lists(WORDS, max_size=8).map("".join) | st.text(max_size=12) | st.integers().map(str) | st.floats().map(str),
)
def test_an_override_makes_a_recipe_or_a_refusal(key, value):
    try:
        assert isinstance(load_recipe("tiny", [f"{key}={value}"]), Recipe)
    except UserError as error:
        assert str(error)


@fuzz(1)
@given(damaged([b"model: {name: wrn, depth: 16}\nlist: [&a 1, *a]\nmore:\n  - x: 'y'\n  - |\n    z\n"]))
def test_any_yaml_or_a_refusal(tmp_path, content):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(yaml.read(path).data, dict)
    except UserError as error:
        assert str(error).startswith(str(path))
