"""Exports agree with the run, in processes without this package; an export that does not agree is deleted."""

import csv
import inspect
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import forked
from featherweight.cli import main
from featherweight.config import load_recipe
from featherweight.data import image as images
from featherweight.evaluation import stratification
from featherweight.evaluation.calibration import temper_cross_fitted
from featherweight.export import formats, job, standalone, subprocess_runner
from featherweight.export.exportable import ExportSource
from featherweight.export.resampling import prepared
from featherweight.export.source import Source
from featherweight.models import Classifier, build
from featherweight.models.shape import Shape
from featherweight.runs import evaluate, fitted, stored_probs
from featherweight.runs.run import Run
from featherweight.runtime.torch_internals import build_on_meta


@pytest.fixture
def workspace(finished, home):
    shutil.copytree(finished, home, dirs_exist_ok=True)
    return home


@pytest.fixture
def onnx():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    return pytest.importorskip("onnx")


def test_a_script_classifies_files_without_the_package(workspace, tmp_path, capsys):
    Run.find("first").temperature.write_text("0.5\n")
    assert main.main(["export", "first", "--to", "script", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "the same classes and probabilities for 143 holdout images" in told
    assert "no test-time views" in told
    assert sorted(path.name for path in tmp_path.glob("first*")) == ["first.py", "first.safetensors"]
    assert "featherweight." not in (tmp_path / "first.py").read_text()

    run = Run.find("first")
    subject = ExportSource.of(run)
    (pack,) = subject.shown(subject.load(), run.split.holdout[:6])
    for place, pixels in enumerate(pack.images):
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{place}.png")
    names = [f"{place}.png" for place in range(6)]
    command = [sys.executable, "-IB", "first.py", *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = subject.probs([pack], "to compare with")
    rows = list(csv.reader(done.stdout.splitlines()))
    assert [row[0] for row in rows] == names
    assert [row[1] for row in rows] == [run.competition.classes[best] for best in expected.argmax(1)]
    np.testing.assert_allclose([float(row[2]) for row in rows], expected.max(1), atol=1e-4)

    (tmp_path / "0.png").rename(tmp_path / 'a,"b" ü.png')
    (tmp_path / "cut.png").write_bytes((tmp_path / "1.png").read_bytes()[:60])
    done = forked.python(["first.py", "cut.png", 'a,"b" ü.png', "gone.png", "."], cwd=tmp_path)
    assert done.returncode == 1
    assert list(csv.reader(done.stdout.splitlines())) == [['a,"b" ü.png', *rows[0][1:]]]
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["cut.png", "gone.png", "."]


@pytest.mark.slow
def test_an_onnx_file_says_what_it_is_and_what_its_int8_copy_costs(workspace, onnx, capsys):
    assert main.main(["export", "first", "--to", "onnx", "--int8"]) == 0
    told = capsys.readouterr().out
    folder = workspace / "runs" / "first" / "export"
    whole, small = folder / "first.onnx", folder / "first.int8.onnx"
    assert f"fp32: {whole.stat().st_size:>12,} bytes, holdout accuracy" in told
    assert f"int8: {small.stat().st_size:>12,} bytes, holdout accuracy" in told
    assert small.stat().st_size < whole.stat().st_size
    facts = {entry.key: entry.value for entry in onnx.load(str(whole)).metadata_props}
    assert json.loads(facts["classes"]) == [str(digit) for digit in range(10)]
    assert json.loads(facts["weigh_in"]) == {"parameters": 20506, "limit": 5_000_000}
    scores = [json.loads({e.key: e.value for e in onnx.load(str(p)).metadata_props}["holdout"]) for p in (whole, small)]
    assert abs(scores[0]["value"] - scores[1]["value"]) < 0.1
    assert b"/tests/" not in whole.read_bytes()


GRAPHS = [("pt2", "pad"), ("torchscript", "crop"), ("onnx", "pad")]  # a way to fit is one code in every format
MORE = [("pt2", "stretch"), ("pt2", "crop"), ("torchscript", "stretch"), ("torchscript", "pad")]


@pytest.mark.parametrize(("kind", "fit"), [*GRAPHS, *(pytest.param(*one, marks=pytest.mark.slow) for one in MORE)])
def test_graphs_take_pictures_of_any_size(kind, fit, tmp_path, workspace, monkeypatch, request):
    if kind == "onnx":
        request.getfixturevalue("onnx")
    subject = ExportSource.of(Run.find("first"))
    image = subject.run.competition.image.model_copy(update={"fit": fit})
    changed = subject.run.competition.model_copy(update={"image": image})
    object.__setattr__(subject.members[0].run, "competition", changed)
    path = tmp_path / "model"
    formats.FORMATS[kind].write(subject, {"run": "first"}, path)
    ask, own = subprocess_runner.FORMATS[kind](str(path)), formats.deployed(subject)
    for count, height, width in ((1, 8, 8), (3, 21, 8), (2, 9, 40)):
        shown = np.random.default_rng(0).integers(0, 256, (count, height, width, 1), dtype=np.uint8)
        with torch.no_grad():
            np.testing.assert_allclose(ask([shown])[0], own(torch.from_numpy(shown)).numpy(), atol=3e-3)


def test_what_disagrees_is_not_kept(workspace, monkeypatch, capsys):
    def spoilt(subject, facts, path):
        with torch.no_grad():
            subject.members[0].model.net.head.weight.mul_(1.01)
        formats._torchscript(subject, facts, path)

    monkeypatch.setitem(formats.FORMATS, "torchscript", formats.Format(".pt", (), "torchscript", spoilt))
    assert main.main(["export", "first", "--to", "torchscript"]) == 2
    assert "(0.0001 is allowed); the file is deleted" in capsys.readouterr().err
    assert not list((workspace / "runs" / "first" / "export").iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["first", "--to", "onx"], "did you mean 'onnx'?"),
        (["frist", "--to", "script"], "did you mean 'first'?"),
        (["first", "--to", "script", "--int8"], "--int8 works only with --to onnx"),
        (["first", "--to", "pt2", "--out", "model.onnx"], "a file that ends in .pt2"),
    ],
)
def test_mistakes_are_one_message(workspace, capsys, words, said):
    assert main.main(["export", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_run_without_weights_and_one_that_is_not_finished(workspace, capsys):
    weights = workspace / "runs" / "first" / "weights.safetensors"
    weights.rename(weights.with_name("gone"))
    assert main.main(["export", "first", "--to", "script"]) == 2
    assert "there are no weights at" in capsys.readouterr().err
    (workspace / "runs" / "first" / "result.json").unlink()
    assert main.main(["export", "first", "--to", "script"]) == 2
    assert "first is not finished: ./run.sh resume first" in capsys.readouterr().err


def test_missing_packages_are_named_with_the_command(workspace, capsys, monkeypatch):
    monkeypatch.setattr(job, "missing", lambda names: [name for name in names if name == "onnxruntime"])
    assert main.main(["export", "first", "--to", "onnx"]) == 2
    assert "--to onnx needs onnxruntime: ./run.sh install onnx onnxruntime onnxscript" in capsys.readouterr().err


@pytest.mark.slow
def test_an_ensemble_is_one_script_and_one_graph(workspace, tmp_path, capsys):
    small = ("--competition", "ours", "--set", "train.epochs=1", "--no-report", "--threads", "1")
    assert main.main(["resnet20", *small, "--set", "model.width=0.25", "--name", "second"]) == 0
    assert main.main(["ensemble", "first", "second", "--fit", "--name", "both"]) == 0
    for kind in ("script", "torchscript"):
        assert main.main(["export", "both", "--to", kind, "--out", str(tmp_path)]) == 0
    assert "ensemble" in (tmp_path / "both.py").read_text()


@pytest.mark.slow
def test_an_ensemble_of_folds_is_scored_by_whoever_held_a_picture_out(home, tmp_path, capsys):
    quick = ["--set", "train.epochs=2", "--set", "model.width=0.25", "--threads", "1", "--no-report"]
    assert main.main(["tiny", "--folds", "2", *quick, "--set", "predict.views=[]"]) == 0
    run = Run.find("tiny-digits-folds")
    subject = ExportSource.of(run)
    held = subject.shown(subject.load(), run.split.holdout)
    assert not subject.all_hold_out(run.split.holdout)
    assert job.plain_score(subject, held).value == pytest.approx(run.result.holdout.value)
    known = (subject.probs(held, "by all").argmax(1) == held[0].labels).mean()
    assert known > run.result.holdout.value  # who was trained on a picture knows it
    capsys.readouterr()
    assert main.main(["export", run.name, "--to", "script", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"holdout accuracy {run.result.holdout}; each image by the folds that held it out" in told

    (small := tmp_path / "x.int8.onnx").write_bytes(b"")
    labels = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job.quantize, "quantize", lambda *given: small.write_bytes(b"int8"))
        patch.setattr(job.quantize, "label", lambda file, facts: labels.update(facts))
        (tmp_path / "x.onnx").write_bytes(b"fp32")
        facts = job.facts_of(subject, 1, 2, run.result.holdout)
        job._quantized(subject, tmp_path / "x.onnx", facts, held, held)
    assert json.loads(labels["holdout"]) is None
    assert "no score" in capsys.readouterr().out


def test_an_export_has_the_interval_of_its_run(workspace, monkeypatch):
    run = replace(Run.find("first"), recipe=Run.find("first").recipe_with(["predict.views=[]"]))
    monkeypatch.setattr(stratification, "bias", lambda *judged, **of: 0.05)
    subject = ExportSource.of(run)
    held = subject.shown(subject.load(), run.split.holdout)
    stored_probs.store(run, "holdout", subject.held_out(held, "holdout"), run.split.holdout)
    assert job.plain_score(subject, held) == evaluate.evaluate(run, "holdout", run.split.holdout, held[0].labels)


def test_an_export_is_scored_by_its_own_arithmetic(workspace):
    run = Run.find("first")
    said = json.loads((run.folder / "result.json").read_text())
    said["holdout"]["value"] = 0.123  # as if by a GPU, in bf16
    (run.folder / "result.json").write_text(json.dumps(said))
    subject = ExportSource.of(Run.find("first"))
    held = subject.shown(subject.load(), run.split.holdout)
    right = (subject.probs(held, "").argmax(1) == held[0].labels).mean()
    assert job.plain_score(subject, held).value == pytest.approx(right)


def test_the_int8_copy_is_scored_at_temperatures_that_have_not_seen_the_labels(workspace):
    run = Run.find("first")
    run.temperature.write_text("0.25\n")  # as fitted to these very images
    subject = ExportSource.of(Run.find("first"))
    (pack,) = subject.shown(subject.load(), run.split.holdout)
    raw = stored_probs.read(run, "holdout")
    fair = temper_cross_fitted(raw, pack.labels, groups=run.groups(pack.ids))
    np.testing.assert_allclose(job._recalibrated(subject, fitted.calibrated(run, raw), pack), fair, atol=1e-3)


def test_networks_of_several_families_share_a_script():
    """Two have a block `_Block`, one imports a function whose name others use as an argument, one is a library's."""
    specs = [load_recipe(name).model for name in ("wrn16_4", "efficientnet_b0", "cct7", "d_shufflenet")]
    source, shape, given = Source(standalone.__name__, {build_on_meta: standalone.build_on_meta}), Shape(3, 1, 16), {}
    names = [source.add(type(spec).target) for spec in specs]
    classifier = source.add(Classifier)
    exec("\n".join([*source.imports, *source.definitions, inspect.getsource(standalone.build_on_meta)]), given)
    for spec, name in zip(specs, names, strict=True):
        model = build(spec, shape).eval()
        again = given[classifier](given[name](*shape, **spec.arguments), 1).eval()
        again.load_state_dict(model.state_dict())
        pictures = torch.rand(2, 1, 16, 16)
        with torch.no_grad():
            assert torch.equal(model(pictures), again(pictures))
    assert source.libraries == ["torch", "torchvision"]


def pictures():
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (37, 52, 3), dtype=np.uint8))
    yield "png", rgb
    yield "png", rgb.convert("L")
    yield "png", rgb.convert("P")
    yield "png", Image.merge("RGBA", [*rgb.split(), rgb.convert("L")])
    yield "png", Image.merge("LA", [rgb.convert("L"), rgb.convert("L").rotate(90)])
    yield "png", Image.fromarray(rng.integers(0, 65536, (20, 30), dtype=np.uint16))
    yield "tiff", Image.fromarray(rng.random((20, 30), dtype=np.float32))
    yield "jpeg", rgb.resize((260, 190))
    turned = rgb.resize((40, 40))
    turned.getexif()[0x0112] = 6
    yield "jpeg", turned


SHOWN = [
    {"fit": "stretch"},
    {"fit": "crop"},
    {"fit": "pad"},
    {"store": 16},
    {"store": 20},
    {"store": 30, "crop": 1.0, "interpolation": "bilinear"},
]


@pytest.mark.parametrize("how", [*SHOWN, {"black": 0.25}, {"black": -2.5, "levels": 3}], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_scripts_prepare_pictures_as_the_package_does(tmp_path, how, channels):
    wanted = images.Image(size=16, channels=channels, mirror=False, **how)
    for place, (kind, picture) in enumerate(pictures()):
        path = tmp_path / f"{place}.{kind}"
        picture.save(path, exif=picture.getexif())
        with Image.open(path) as opened:
            prepared = standalone.prepare(opened, wanted.model_dump())
        np.testing.assert_array_equal(prepared.numpy(), images.scored(path, wanted), err_msg=path.name)


@pytest.mark.some(3)
@pytest.mark.parametrize("how", SHOWN, ids=str)
@pytest.mark.parametrize("size", [(16, 16), (20, 20), (24, 31), (37, 18), (9, 60), (33, 17), (40, 12), (1, 1)])
def test_graphs_prepare_pictures_as_the_package_does(how, size):
    """Except for rounding: some pixels differ by one, few by two."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC))
    wanted = images.Image(size=16, mirror=False, **how)
    own = prepared(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float(), wanted)[0].permute(1, 2, 0).numpy()
    apart = np.abs(own - images.scored(picture, wanted))
    assert apart.max() <= 4
    assert apart.mean() < 0.5
