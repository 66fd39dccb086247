import json
import os
import re
import subprocess
import sys

import pytest

from conftest import ROOT
from featherweight import paths
from featherweight.budget import weigh
from featherweight.cli import main
from featherweight.cli.arguments import DEFAULT, note_default, overrides
from featherweight.cli.commands import COMMANDS, EXAMPLES, GROUPS, SHELL, TRAIN, help_text
from featherweight.cli.parser import parse
from featherweight.config import load_competition, load_recipe
from featherweight.logbook import rerun
from featherweight.runs import published_results

CLI = ROOT / "src" / "featherweight" / "cli"


@pytest.mark.parametrize("words", [["--help"], [], ["wnr16_4"], ["tiny", "--competition", "digit"]], ids=" ".join)
def test_help_and_mistaken_names_import_nothing_heavy(words):
    """This keeps them fast: torch alone takes seconds to import."""
    code = "import sys; from featherweight.cli.main import main; main(sys.argv[1:])\n"
    code += "print('heavy', {'torch', 'pandas', 'sklearn', 'numpy'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "src")},
        check=False,
    )
    assert done.stdout.rstrip().endswith("heavy set()"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wnr16_4"], "error: there is no recipe or command called 'wnr16_4'; did you mean 'wrn16_4'?"),
        (["chek"], "error: there is no recipe or command called 'chek'; did you mean 'check'?"),
        (["delete", "RUN"], "error: there is no command 'delete'; to delete a run, delete its folder in runs/"),
        (["ls"], "error: there is no command 'ls'; ./run.sh runs lists your runs"),
        (["--fast"], "error: unknown option --fast; ./run.sh --help lists the commands"),
        (["tiny", "--competition", "digit"], "error: there is no competition called 'digit'; did you mean 'digits'?"),
        (["check", "wrn164"], "error: there is no recipe called 'wrn164'; did you mean 'wrn16_4'?"),
        (["nowhere.yaml"], "error: there is no file nowhere.yaml"),
        (
            ["check", "my_net.Gray"],
            "error: there is no recipe called 'my_net.Gray'; a network of yours is FILE.py:NAME or",
        ),
        (["check", "net.py:"], "error: --set model=net.py:: model: net.py: does not say which network: net.py:NAME"),
        (
            ["check", "tiny", "--set", "model={name:wrn,depth:16}"],
            "error: --set model={name:wrn,depth:16}: a space is needed after the first colon of 'name:wrn'",
        ),
        (["resume", "nothing"], "error: there is no run called 'nothing'"),
        (["score", "no.csv"], "error: cannot read no.csv: No such file or directory"),
        (["tiny", "--name", "a/b"], "error: --name a/b: expected a plain name without folder"),
        (["tiny", "--name", "a b"], "error: --name a b: expected a plain name without folder or spaces"),
        (["tiny", "--set", "epochs=2"], "error: --set epochs=2: epochs: unknown key 'epochs'; did you mean train.ep"),
        (
            ["tiny", "--set", "optimizer.learning_rate=1"],
            "error: --set optimizer.learning_rate=1: optimizer.learning_rate: unknown key 'learning_rate'; did you "
            "mean optimizer.lr?",
        ),
        (["check", "tiny", "--set", "model=net.py"], "error: --set model=net.py: model: net.py does not say which"),
        (
            ["tiny", "--views", "flop"],
            "error: --set predict.views=[flop]: predict.views.0: there is no 'flop'; did you mean 'flip'?",
        ),
        (["tiny", "--device", "gpu"], "error: --device gpu: not a device of this machine"),
        (["tiny", "--threads", "0"], "error: --threads 0: expected 1 or more"),
    ],
)
def test_a_users_mistake_is_one_clear_message(home, capsys, words, message):
    assert main.main(words) == 2
    assert capsys.readouterr().err.startswith(message)
    assert not (home / "runs").exists()


def test_a_training_says_which_competition_it_took_where_there_are_others(home, capsys):
    said = []
    for words in (["tiny"], ["tiny", "--competition=digits"]):
        for own in ("", "title: Flowers"):
            (home / "configs/competitions").mkdir(parents=True, exist_ok=True)
            path = home / "configs/competitions/flowers.yaml"
            path.write_text(own) if own else path.unlink(missing_ok=True)
            note_default(parse([TRAIN, *words]))
            said.append(capsys.readouterr().out)
    assert said == ["", "note: no --competition is given, so digits is used; yours: flowers\n", "", ""]


def test_the_recipes_are_too_many_for_an_error_and_another_command_lists_them(home, capsys):
    assert main.main(["zzzz"]) == 2
    assert capsys.readouterr().err.endswith("; ./run.sh lists the commands, ./run.sh models the recipes\n")


def test_check_prints_the_weigh_in_and_decides(home, capsys):
    assert main.main(["check", "wrn16_4", "--competition", "cifar10"]) == 0
    out = capsys.readouterr().out
    assert "2,748,890" in out
    assert "2,251,110 left" in out
    assert "in agreement" in out
    assert main.main(["check", "wrn40_3", "--competition", "cifar10"]) == 3
    assert "over the limit of 5,000,000" in capsys.readouterr().err
    assert not list(home.iterdir())


def test_check_all_weighs_every_recipe(home, capsys, monkeypatch):
    """With only these three recipes here; test_recipes tests that all can be weighed."""
    monkeypatch.setattr(paths, "config_names", lambda kind: ["tiny", "wrn16_4", "wrn40_3"])
    assert main.main(["check", "all", "--competition", "cifar10"]) == 0
    out = capsys.readouterr().out
    weighed = weigh(load_recipe("wrn40_3"), load_competition("cifar10"), "wrn40_3")
    line = next(line for line in out.splitlines() if "wrn40_3" in line)
    assert f"{weighed.counted:,}" in line
    assert "OVER" in line
    assert out.endswith("next: ./run.sh RECIPE --competition cifar10, with one within the limit\n")


def test_views_are_short_for_set(home, tmp_path):
    import argparse

    def views(text):
        given = argparse.Namespace(set=[], seed=None, views=text)
        return [(view.name, view.arguments) for view in load_recipe("tiny", overrides(given)).predict.views]

    assert views("none") == []
    assert views("flip+shift") == [("flip", {}), ("shift", {"distance": 1 / 32})]
    assert views("train:5") == [("train", {"count": 5})]


def test_schema_writes_both(home, tmp_path, capsys):
    assert main.main(["schema", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.glob("*.json")} == {"recipe.schema.json", "competition.schema.json"}
    assert json.loads((tmp_path / "recipe.schema.json").read_text())["title"] == "Recipe"


def test_runs_of_an_empty_workspace(home, capsys):
    assert main.main(["runs"]) == 0
    assert capsys.readouterr().out == "there are no finished runs yet\nnext: ./run.sh wrn16_4\n"
    assert main.main(["runs", "--competition", "cifar10", "--markdown"]) == 0
    told = "there are no finished runs of cifar10 yet\nnext: ./run.sh wrn16_4 --competition cifar10\n"
    assert capsys.readouterr().out == told


ENDINGS = {  # those that ask Kaggle: test_submit_and_score.py, init in test_init.py, search in test_search.py
    "train": (
        ["tiny", "--seeds", "0-1", "--name", "r", "--set", "train.epochs=1", "--threads", "1", "--no-report"],
        "next: ./run.sh runs --seeds",
    ),
    "resume": (["resume", "r-s0", "--no-report"], "next: ./run.sh runs"),
    "report": (["report", "r-s0"], "next: open it in a browser"),
    "check": (["check", "tiny"], "next: ./run.sh tiny --competition digits"),
    "models": (["models"], "next: ./run.sh models FAMILY for its keys, ./run.sh fill FAMILY to fill the limit"),
    "weigh": (["weigh", "timm/resnet18"], "next: with a limit, ./run.sh weigh WHAT --limit N"),
    "models --pretrained": (
        ["models", "--pretrained", "--count", "1"],
        "next: ./run.sh check finetune --competition digits --set model.variant=hgnetv2_b1.ssld_stage2_ft_in1k",
    ),
    "models wrn": (["models", "wrn"], "next: ./run.sh check RECIPE --set model.KEY=VALUE"),
    "fill": (
        ["fill", "fastnet", "--count", "1"],
        "next: paste a line into a recipe, or add --write NAME to store the first as a recipe",
    ),
    "draw": (["draw", "tiny"], "next: ./run.sh check tiny --competition digits"),
    "schedule": (["schedule", "tiny"], "next: ./run.sh tiny --competition digits"),
    "augment": (["augment", "tiny"], "next: ./run.sh tiny --competition digits"),
    "inspect": (["inspect", "digits"], "next: ./run.sh auto --competition digits --minutes 20"),
    "runs": (["runs"], "next: ./run.sh report RUN, or ./run.sh compare RUN RUN"),
    "publish": (["publish"], "next: git diff docs README.md"),
    "runs of none": (["runs", "--competition", "cifar10"], "next: ./run.sh wrn16_4"),
    "compare": (["compare", "r-s0", "r-s1"], "next: ./run.sh report r-s"),
    "ensemble": (["ensemble", "r-s0", "r-s1"], "next: ./run.sh runs"),
    "soup": (["soup", "r-s0", "r-s1"], "next: ./run.sh runs"),
    "score": (["score", "r-s0"], "next: ./run.sh runs"),
    "export": (["export", "r-s0", "--to", "safetensors"], "next: ./run.sh bundle r-s0"),
    "bundle": (["bundle", "r-s0"], "next: in another checkout, ./run.sh load r-s0.zip"),
    "schema": (
        ["schema", "."],
        "next: put `# yaml-language-server: $schema=../recipe.schema.json` as the first line of a recipe",
    ),
    "reference": (["reference", "page.md"], "next: ./run.sh check RECIPE --set KEY=VALUE"),
    "doctor": (["doctor"], "next: ./run.sh "),
    "completion": (["completion", "bash"], "# next: source <(./run.sh completion bash)"),
    "logbook": (["logbook", "D", "--scale", "0.001"], "next: ./run.sh runs --competition digits"),
}


def test_every_command_is_asked_how_it_ends():
    elsewhere = {
        "auto",
        "trim",
        "kernel",
        "load",
        "predict",
        "student",
        "init",
        "search",
        "download",
        "submit",
        "scores",
        "leaderboard",
    }
    asked = {"train" if words[0] == "tiny" else words[0] for words, _ in ENDINGS.values()}
    assert asked | elsewhere == set(COMMANDS)


def test_the_table_is_all_there_is_to_a_command():
    """Help, dispatch and completion are derived from it, and each module has what the table says."""
    shown = help_text()
    for command in COMMANDS.values():
        assert command.group in GROUPS
        assert f"\n  {command.name:<12}{command.summary}\n" in shown
        module = command.load()
        assert module.__doc__
        assert callable(module.run)
    modules = {path.relative_to(CLI).with_suffix("").as_posix().replace("/", ".") for path in CLI.glob("*/[!_]*.py")}
    shared = {"train.finish", "models.preview"}
    assert modules - shared == {command.module for command in COMMANDS.values()}
    in_run_sh = set(re.findall(r"^    (\w+)\)$", (ROOT / "run.sh").read_text(), re.MULTILINE))
    assert in_run_sh == set(SHELL)


def test_the_examples_of_the_help_can_be_typed():
    """The run that they submit is of a competition of the user's own: digits, the default, is not on Kaggle."""
    lines = re.findall(r"^  \./run\.sh (.+?)(?:  .*)?$", EXAMPLES, re.MULTILINE)
    typed = [parse([*([] if line.split()[0] in COMMANDS else [TRAIN]), *line.split()]) for line in lines]
    (submitted,) = [one.what for one in typed if one.command == "submit"]
    (trained,) = [one for one in typed if one.command == TRAIN and one.name == submitted]
    assert trained.competition != DEFAULT


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main([name, "--help"])
    assert ended.value.code == 0
    assert COMMANDS[name].load().__doc__.splitlines()[0] in capsys.readouterr().out


def test_the_word_train_may_be_left_out(home, capsys):
    assert main.main(["train", "tiny", "--threads", "0"]) == 2
    with_it = capsys.readouterr()
    assert main.main(["tiny", "--threads", "0"]) == 2
    assert capsys.readouterr() == with_it


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("tiny --epochs 5", "a recipe's key is changed with --set train.epochs=5; ./run.sh RECIPE --help shows all"),
        ("tiny --lr=0.1", "a recipe's key is changed with --set optimizer.lr=0.1;"),
        ("tiny --batch-size 64", "a recipe's key is changed with --set train.batch_size=64;"),
        ("tiny --learning-rate", "a recipe's key is changed with --set optimizer.lr=VALUE;"),
        ("tiny --optimizer.lr 3", "a recipe's key is changed with --set optimizer.lr=3;"),
        ("tiny --epoch 5", "a recipe's key is changed with --set train.epochs=5;"),
        ("tiny --patience 3", "--set KEY=3, where KEY is schedule.patience or early_stopping.patience;"),
        ("tiny --size 64", "image"),
        ("check tiny --epochs 5", "--set train.epochs=5; ./run.sh check --help shows all"),
        ("tiny --sed 1", "did you mean --seed?"),
        ("tiny --gpu", "did you mean --device cuda?"),
        ("runs --epochs 5", "./run.sh runs --help shows all"),
        ("auto --epochs 5", "--plan writes a recipe, whose keys you can change; ./run.sh auto --help shows all"),
        ("resume a --set seed=1", "a run continues with its own recipe; for other values train anew: ./run.sh RECIPE"),
        ("resume a --epochs 5", "a run continues with its own recipe;"),
        ("student a b --threads 1", "it is an option of ./run.sh RECIPE, and not of this command;"),
        ("tiny --zzz", "./run.sh RECIPE --help shows all"),
    ],
)
def test_an_unknown_option_is_answered_with_the_right_one(home, capsys, words, hint):
    assert main.main(words.split()) == 2
    error = capsys.readouterr().err
    option = next(word for word in words.split() if word.startswith("--")).partition("=")[0]
    assert error.startswith(f"error: unknown option {option}; ")
    assert hint in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("check", "error: the following arguments are required: RECIPE; ./run.sh check --help shows what it takes"),
        ("tiny --seed x", "error: --seed: expected a whole number, such as 20, got 'x'; ./run.sh RECIPE --help"),
        ("auto --minutes 5m", "error: --minutes: expected a number, such as 20 or 0.5, got '5m'; ./run.sh auto --help"),
        ("tiny more", "error: unexpected 'more'; ./run.sh RECIPE --help shows what it takes"),
        ("tiny --set train.epochs 2", "error: unexpected '2'; did you mean --set train.epochs=2? ./run.sh RECIPE"),
        ("tiny --set train.epochs = 2", "error: unexpected '='; did you mean --set train.epochs=2? ./run.sh RECIPE"),
        (
            "tiny --set train.epochs=2 seed=1",
            "error: unexpected 'seed=1'; did you mean --set seed=1? Each setting needs its own --set; ./run.sh RECIPE",
        ),
        ("auto cifar10", "error: unexpected 'cifar10'; did you mean --competition cifar10? ./run.sh auto --help shows"),
        ("completion fish", "error: shell: invalid choice: 'fish'"),
    ],
)
def test_argparse_speaks_as_every_other_error(home, capsys, words, message):
    assert main.main(words.split()) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert not captured.out


def test_a_path_with_spaces_that_was_typed_without_quotes_is_shown_with_them(tmp_path, monkeypatch, capsys):
    (tmp_path / "my images").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main.main(["init", "my", "images", "--pretrained"]) == 2
    assert "a path with spaces needs quotes: 'my images'; " in capsys.readouterr().err


def test_printed_commands_can_be_typed_whatever_the_names_of_files(home, monkeypatch, capsys):
    (home / "my recipe.yaml").write_text("extends: tiny\n")
    monkeypatch.chdir(home)
    assert main.main(["draw", "my recipe.yaml"]) == 0
    assert "next: ./run.sh check 'my recipe.yaml' --competition digits\n" in capsys.readouterr().out
    assert paths.plain("my recipe (1)-digits-s0") == "my_recipe__1_-digits-s0"


@pytest.mark.usefixtures("few_digits")
def test_every_command_ends_by_saying_what_to_do_next(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setattr(rerun, "rerun", lambda *_, **__: home)
    names = paths.config_names  # few recipes, of `models` and `publish`
    monkeypatch.setattr(paths, "config_names", lambda kind: ["tiny", "wrn16_4"] if kind == "recipes" else names(kind))
    monkeypatch.setattr(published_results, "pages", lambda: [home / "page.md"])
    (home / "table.md").write_text("")
    wrong = {}
    for name, (words, ending) in ENDINGS.items():
        main.main(words)
        told = capsys.readouterr().out
        if not told.splitlines()[-1].startswith(ending):
            wrong[name] = told[-300:]
    assert not wrong


def test_a_list_of_runs_waits_for_no_torch(finished):
    program = (
        "import sys; sys.modules['torch'] = None; from featherweight.cli import main; sys.exit(main.main(['runs']))"
    )
    environment = {**os.environ, "FEATHERWEIGHT_HOME": str(finished), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "first" in done.stdout


def test_a_folder_where_a_picture_should_be_is_one_clear_message(home, capsys, monkeypatch):
    monkeypatch.chdir(home)
    (home / "pics").mkdir()
    assert main.main(["schedule", "tiny", "--out", "pics"]) == 2
    assert capsys.readouterr().err == "error: cannot write pics: it is a folder; name a file in it\n"


def test_packages_are_put_into_the_environment(tmp_path):
    uv, told = tmp_path / "uv", tmp_path / "told"
    uv.write_text(f'#!/bin/sh\necho "$@" >{told}; [ "$8" != missing ]\n')
    uv.chmod(0o755)
    here = {**os.environ, "FEATHERWEIGHT_PYTHON": sys.executable, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def install(*packages):
        words = ["bash", str(ROOT / "run.sh"), "install", *packages]
        return subprocess.run(words, env=here, capture_output=True, text=True, check=False)

    assert install("onnx", "tensorboard").returncode == 0
    assert told.read_text().split()[-3:] == [sys.executable, "onnx", "tensorboard"]
    for packages, message in (
        ([], "name a package"),
        (["x", "missing"], "not everything could be installed"),
    ):
        done = install(*packages)
        assert done.returncode == 2
        assert f"error: {message}" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "weigh x --csv",
        "weigh x --html",
        "predict x y --out",
        "compare x y --out",
        "bundle x --out",
        "augment tiny --out",
        "models --plot",
        "inspect digits --list",
        "reference",
    ],
)
def test_a_dash_is_no_file_to_write(home, monkeypatch, capsys, command):
    monkeypatch.chdir(home)
    assert main.main([*command.split(), "-"]) == 2
    assert capsys.readouterr().err == "error: cannot write -: this output goes into a file only, so name one\n"
    assert not list(home.iterdir())


def test_a_run_named_after_the_pictures_is_answered_with_the_right_order(home, capsys):
    (home / "runs" / "a").mkdir(parents=True)
    (home / "runs" / "a" / "run.json").write_text("{}")
    (home / "my pictures").mkdir()
    assert main.main(["predict", str(home / "my pictures"), "a"]) == 2
    assert f"the run comes first: ./run.sh predict a '{home / 'my pictures'}'" in capsys.readouterr().err
