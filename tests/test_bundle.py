"""Bundles of runs: what is loaded equals what was packed; otherwise nothing is stored."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.runs import elsewhere, ledger, pipeline
from featherweight.runs.ensemble import ensemble
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run

FAST = ["train.epochs=1", "train.batch_size=256", "model.width=0.25", "train.checkpoint_seconds=0"]


def task(*settings: str) -> RunRequest:
    return RunRequest(
        "tiny", load_recipe("tiny", [*FAST, *settings]), "digits", load_competition("digits"), ["x"], "cpu", 1
    )


@pytest.fixture(scope="module")
def sent(tmp_path_factory) -> Path:
    """Make a workspace with bundles of a finished run and of an ensemble."""
    folder = tmp_path_factory.mktemp("sent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATHERWEIGHT_HOME", str(folder))
        for name, seed in (("one", 0), ("two", 1)):
            pipeline.execute(task(f"seed={seed}").start(name))
        ensemble(["one", "two"], fit=False, name="both", command=["x"])
        for name in ("one", "both"):
            assert main.main(["bundle", name]) == 0
    return folder


def receive(sent: Path, home: Path, name: str) -> Path:
    return Path(shutil.copy(sent / "runs" / f"{name}.zip", home))


def test_a_run_arrives_whole_and_goes_on_there(sent, home, capsys):
    bundle = receive(sent, home, "one")
    assert main.main(["load", str(bundle)]) == 0
    assert "next: ./run.sh predict one FOLDER" in capsys.readouterr().out
    for file in (sent / "runs" / "one").rglob("*"):
        if file.is_file() and file.suffix != ".lock":
            assert (home / "runs" / "one" / file.relative_to(sent / "runs" / "one")).read_bytes() == file.read_bytes()
    assert (home / "submissions" / "one.csv").read_bytes() == (sent / "submissions" / "one.csv").read_bytes()
    assert ledger.read()["run"].tolist() == ["one"]
    assert main.main(["load", str(bundle), "--name", "again"]) == 0
    assert ledger.read()["run"].tolist() == ["one", "again"]
    assert main.main(["compare", "one", "again"]) == 0
    assert main.main(["predict", "one", "digits", "--out", str(home / "out.csv")]) == 0
    assert main.main(["resume", "again", "--no-report"]) == 0
    assert main.main(["load", str(bundle)]) == 2
    assert f"there is a run called 'one' already: ./run.sh load {bundle} --name OTHER" in capsys.readouterr().err


def test_an_ensemble_brings_its_members(sent, home, capsys):
    assert main.main(["load", str(receive(sent, home, "one"))]) == 0
    assert main.main(["load", str(receive(sent, home, "both"))]) == 0
    assert Run.find("both").weigh().counted == 2 * Run.find("two").result.parameters
    assert main.main(["predict", "both", "digits", "--out", str(home / "out.csv"), "--top", "1"]) == 0
    written = [line.split(",")[:2] for line in (home / "out.csv").read_text().splitlines()[1:]]
    assert written == [line.split(",") for line in (home / "submissions" / "both.csv").read_text().splitlines()[1:]]


def test_the_bundle_says_what_made_it_and_is_the_same_twice(sent, home, monkeypatch):
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(sent))
    assert main.main(["bundle", "one", "--out", str(home / "a.zip")]) == 0
    assert (home / "a.zip").read_bytes() == (sent / "runs" / "one.zip").read_bytes()
    with zipfile.ZipFile(home / "a.zip") as bundle:
        about = json.loads(bundle.read("bundle.json"))
    assert about["command"] == "x"
    assert {"torch", "featherweight", "packages"} <= set(about["environment"])
    assert {"runs/one/recipe.yaml", "runs/one/competition.yaml", "runs/one/weights.safetensors"} <= set(about["files"])


def altered(bundle: Path, change) -> Path:
    """Return the bundle with some of its members, given by name, replaced."""
    with zipfile.ZipFile(bundle) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    change(members)
    with zipfile.ZipFile(bundle, "w") as written:
        for name, content in members.items():
            written.writestr(name, content)
    return bundle


def described(members: dict[str, bytes], **more: object) -> None:
    members["bundle.json"] = json.dumps({**json.loads(members["bundle.json"]), **more}).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update({"runs/one/weights.safetensors": b"x"}), "weights.safetensors has another checksum"),
        (lambda m: m.update({"runs/one/more.txt": b"x"}), "runs/one/more.txt is not listed"),
        (lambda m: m.pop("runs/one/split.json"), "runs/one/split.json is missing"),
        (lambda m: m.pop("bundle.json"), "not a bundle of a run"),
        (lambda m: m.update({"bundle.json": b"{"}), "bundle.json in it is damaged"),
        (lambda m: m.update({"../../outside": b"x"}), "outside"),
        (lambda m: described(m, runs=["../one"], run="../one"), "its names are not those of runs"),
        (lambda m: described(m, format=9), "a later version"),
        (lambda m: described(m, ledger=[{"run": "other"}]), "its rows are not those of a ledger"),
    ],
)
def test_what_was_changed_on_the_way_is_refused_and_leaves_nothing(sent, home, capsys, change, message):
    bundle = altered(receive(sent, home, "one"), change)
    assert main.main(["load", str(bundle)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) <= 5
    assert not list((home / "runs").glob("*"))
    assert not (home / "submissions").exists()


def test_a_run_at_work_is_not_bundled(sent, monkeypatch, capsys):
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(sent))
    with FileLock(sent / "runs" / "one" / "run.lock"):
        assert main.main(["bundle", "one", "--out", str(sent / "held.zip")]) == 2
    assert "another process is working on the run one" in capsys.readouterr().err
    assert not (sent / "held.zip").exists()


def test_a_cut_zip_is_refused(sent, home, capsys):
    bundle = receive(sent, home, "one")
    bundle.write_bytes(bundle.read_bytes()[:-200])
    assert main.main(["load", str(bundle)]) == 2
    assert "not a bundle of a run, or a damaged one" in capsys.readouterr().err


def test_exports_do_not_travel_and_a_name_is_checked_as_everywhere(sent, home, capsys):
    shutil.copytree(sent, home, dirs_exist_ok=True)
    (home / "runs" / "one" / "export").mkdir()
    (home / "runs" / "one" / "export" / "one.onnx").write_bytes(bytes(99))
    target = home / "again.zip"
    assert main.main(["bundle", "one", "--out", str(target)]) == 0
    assert target.read_bytes() == (sent / "runs" / "one.zip").read_bytes()
    for name in ("-x", "a/b", ""):
        assert main.main(["load", str(target), f"--name={name}"]) == 2
        assert f"--name {name}" in capsys.readouterr().err


def test_a_stopped_student_says_whose_bundles_it_needs_too(sent, home, capsys):
    shutil.copytree(sent, home, dirs_exist_ok=True)
    made = task("distill.teachers=[one, two]").start("pupil")
    (made.folder / "checkpoint.pt").write_bytes(b"of a training that was stopped")
    capsys.readouterr()
    assert main.main(["bundle", "pupil", "--out", str(home / "pupil.zip")]) == 0
    assert "its teachers are needed too; bundle them separately: one, two" in capsys.readouterr().out
    for name in ("pupil", "two"):
        shutil.rmtree(home / "runs" / name)
    assert main.main(["load", str(home / "pupil.zip")]) == 0
    assert "to continue it, load its teachers too: two" in capsys.readouterr().out


def test_data_in_a_folder_of_the_other_machine_are_those_of_the_same_named_competition_here(home, tmp_path):
    own = "title: x\nclasses: [cat, dog]\nimage: {size: 8, channels: 3, mirror: true}\nlimit: 5M\n"
    own += "submission: {sample: SAMPLE}\nsource: {name: folders, path: FOLDER}\nfolder: FOLDER\n"

    def competition(file, folder, more=""):
        sample = folder / "sample.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(own.replace("SAMPLE", str(sample)).replace("FOLDER", str(folder)) + more)
        return load_competition(str(file))

    there, here = tmp_path / "gone", tmp_path / "here"
    here.mkdir()
    named = home / "configs" / "competitions" / "pets.yaml"
    stored = competition(tmp_path / "stored.yaml", there)
    assert elsewhere.lacks_data(stored)
    assert elsewhere.data_here(stored, "pets") is stored
    competition(named, here, "metric: log_loss\n".replace("log_loss", "macro_f1"))
    assert elsewhere.data_here(stored, "pets") is stored  # another task
    known = competition(named, here)
    found = elsewhere.data_here(stored, "pets")
    assert (found.source, found.submission, found.folder) == (known.source, known.submission, str(here))
    assert not elsewhere.lacks_data(found)
    there.mkdir()
    assert elsewhere.data_here(stored, "pets") is stored


def test_a_member_that_is_being_worked_on_is_not_bundled(sent, home, monkeypatch, capsys):
    monkeypatch.setenv("FEATHERWEIGHT_HOME", str(sent))
    with FileLock(sent / "runs" / "two" / "run.lock"):
        assert main.main(["bundle", "both", "--out", str(home / "b.zip")]) == 2
    assert "another process is working on the run two" in capsys.readouterr().err
