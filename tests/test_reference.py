"""The reference page agrees with the declarations and is up to date."""

import pytest

from conftest import ROOT
from featherweight.augment.table import AUGMENTATIONS
from featherweight.cli import main
from featherweight.config import Competition, Recipe, reference
from featherweight.evaluation.metrics import METRICS
from featherweight.models import MODELS

PAGE = reference.page()


def test_the_committed_page_is_up_to_date():
    stored = ROOT / "docs" / "reference.md"
    assert stored.read_text() == PAGE, "write it anew: ./run.sh reference"


def test_every_key_has_its_type_range_default_and_meaning():
    """One key of each kind, as a row of its table."""
    for line in (
        "| `optimizer` | one of `sgd`, `adam`,",
        "| `train.epochs` | whole number from 0 | `50` | 0 trains only the linear probe",
        "| `train.clip` | number over 0 or null | null | maximum norm of the whole gradient;",
        '| `train.normalize` | `channel`, `pixel` | `"channel"` | subtract the mean of each channel or pixel;',
        "| `distill.teachers` | a list of: text (at least one) | | runs, or .npz files",
        "| `limit.parameters` | whole number from 1 | | maximum number of parameters",
        "| `momentum` | number from 0 below 1 | `0.9` | |",
        "| `stages` | a list of: [whole number from 1, number over 0] (at least one) | | |",
        "| `submission.spelling` | a section of names, each: text | `{}` |",
        "| `sam` | the section below or null | null | |",
        "| `augment` | a list, each one of `crop`,",
        "| `predict.views` | a list, each one of `flip`,",
    ):
        assert f"\n{line}" in PAGE, line


def test_every_choice_is_there_and_said():
    for name, function in {**MODELS, **AUGMENTATIONS}.items():
        assert f": {name}\n\n{reference.paragraphs(function)}" in PAGE
    for name, metric in METRICS.items():
        own = " ".join((metric.function.__doc__ or "").split("\n\n")[0].split())
        assert own, name
        assert f": {name}\n\n{own}" in PAGE, name
    assert "\n### predict.views\n" in PAGE
    for kind in (Recipe, Competition):
        assert all(f"| `{key}` |" in PAGE for key in kind.model_fields)


def test_a_docstring_keeps_its_paragraphs_and_its_lists():
    def told() -> None:
        """One line
        and its end.

        Two, as

        - a thing
          of two lines
        - another
        """

    assert reference.paragraphs(told) == "One line and its end.\n\nTwo, as\n\n- a thing of two lines\n- another"


@pytest.mark.parametrize("name", ["page.md", "deep/page.md"])
def test_the_command_writes_it(name, tmp_path, capsys):
    assert main.main(["reference", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_text() == PAGE
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path / name}\nnext: ")
