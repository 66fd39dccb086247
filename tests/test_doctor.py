"""The doctor, the completion script and the progress line: what they print."""

import shutil
import subprocess

import pytest

from conftest import ROOT
from featherweight import console
from featherweight.cli import main
from featherweight.cli.tool import doctor
from featherweight.console import Progress
from featherweight.report import tables
from kaggle_server import TOKEN


def test_a_sound_environment_has_nothing_wrong(home, no_credentials, capsys):
    assert main.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("python", "torch ", "GB free", "no credentials", "nothing is wrong"):
        assert word in out


def test_credentials_are_named_and_never_shown(home, no_credentials, monkeypatch, capsys):
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    assert main.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "credentials from KAGGLE_API_TOKEN" in out
    assert TOKEN not in out


def test_what_is_wrong_is_marked_with_its_remedy(home, no_credentials, monkeypatch, capsys):
    monkeypatch.setattr(doctor.metadata, "version", {"numpy": "1.0"}.get)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    (no_credentials / ".kaggle").mkdir()
    (no_credentials / ".kaggle" / "access_token").write_text(TOKEN)
    (no_credentials / ".kaggle" / "access_token").chmod(0o644)

    def version(name):
        if name == "timm":
            raise doctor.metadata.PackageNotFoundError(name)
        return "1.0" if name == "numpy" else "999"

    monkeypatch.setattr(doctor.metadata, "version", version)
    assert main.main(["doctor"]) == 2
    out = capsys.readouterr().out
    assert "!! timm           missing" in out
    assert ">=2.0 is needed: ./run.sh install 'numpy>=2.0'" in out
    assert "free some space" in out
    assert "chmod 600" in out


def test_wrong_findings_are_counted(capsys):
    assert tables.findings([doctor.Check("a", "b"), doctor.Check("c", "d", "e")]) == 1
    assert "-> e" in capsys.readouterr().out


COMPLETE = """source /dev/stdin
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_featherweight; printf '%s\\n' "${COMPREPLY[@]}" """


def complete(words, shell="bash", cwd=ROOT):
    script = subprocess.run(
        [
            "bash",
            "-c",
            COMPLETE,
            "x",
            *words,
        ],
        input=cli_output(["completion", shell]),
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    assert script.stderr == ""
    return script.stdout.split()


def cli_output(words):
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert main.main(words) == 0
    return text.getvalue()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["./run.sh", "wrn16"], {"wrn16_4"}),
        (["./run.sh", "su"], {"submit"}),
        (["./run.sh", "check", "ti"], {"tiny"}),
        (["./run.sh", "tiny", "--competition", "dig"], {"digits"}),
        (["./run.sh", "tiny", "--su"], {"--submit"}),
        (["./run.sh", "train", "ti"], {"tiny"}),
        (["./run.sh", "search", "fastnet_d"], {"fastnet_digits"}),
        (["./run.sh", "completion", "z"], {"zsh"}),
        (["./run.sh", "runs", "--ma"], {"--markdown"}),
        (["./run.sh", "check", "_"], set()),
    ],
)
def test_completion(words, expected, monkeypatch):
    monkeypatch.delenv("FEATHERWEIGHT_HOME", raising=False)
    assert expected <= set(complete(words))
    assert bool(expected) == bool(complete(words))


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not on this machine")
def test_the_script_for_zsh_is_zsh():
    done = subprocess.run(
        ["zsh", "-n"], input=cli_output(["completion", "zsh"]), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_of_runs(home, monkeypatch):
    (home / "runs" / "hotter").mkdir(parents=True)
    assert complete(["./run.sh", "submit", "ho"]) == ["hotter"]


@pytest.mark.parametrize(("variable", "live"), [(None, True), ("CI", False), ("JPY_PARENT_PID", False)])
def test_the_live_line_is_for_terminals_alone(monkeypatch, capsys, variable, live):
    for name in ("CI", "JPY_PARENT_PID", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(console.console, "_force_terminal", True)
    with Progress("train", 10, "steps") as bar:
        bar.advance(5)
    assert ("\x1b[?25l" in capsys.readouterr().out) == live  # the cursor is hidden while a line is redrawn
    monkeypatch.setattr(console.console, "_force_terminal", False)
    with Progress("train", 10, "steps") as bar:
        bar.advance(5)
    assert capsys.readouterr().out == ""
