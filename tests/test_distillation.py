import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from featherweight import job
from featherweight.config import load_competition, load_recipe
from featherweight.errors import UserError
from featherweight.training.distillation import learn, teach
from featherweight.training.runtime import start

LOGITS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
TAUGHT = torch.randn(12, 4, generator=torch.Generator().manual_seed(1))


def test_the_loss_is_hintons():
    """(1 - w) * loss + w * T^2 * KL(teacher || student), both at the temperature."""
    teacher, student = (TAUGHT / 3).softmax(1), (LOGITS / 3).softmax(1)
    divergence = (teacher * (teacher / student).log()).sum(1).mean()
    loss = F.cross_entropy(LOGITS, torch.zeros(12, dtype=torch.long))
    expected = 0.3 * loss + 0.7 * 9 * divergence
    torch.testing.assert_close(learn(loss, LOGITS, teacher, 0.7, 3.0), expected)
    torch.testing.assert_close(learn(loss, LOGITS, student, 1.0, 3.0), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_several_teachers_teach_their_mean():
    one, other = (lambda images: LOGITS), (lambda images: TAUGHT)
    expected = ((LOGITS / 2).softmax(1) + (TAUGHT / 2).softmax(1)) / 2
    torch.testing.assert_close(teach([one, other], torch.zeros(12), 2.0, start("cpu")), expected)


def run(name, *changes, competition=()):
    recipe = load_recipe("tiny", ["train.epochs=2", "predict.views=[]", *changes])
    told = load_competition("digits", competition)
    made = job.start("tiny", recipe, "digits", told, name=name, device="cpu", threads=1, command=["x"])
    return made, job.run(made)


def test_a_student_learns_from_a_teacher_over_the_limit_which_does_not_count(home, capsys):
    _, large = run("teacher", "model.width=1", "train.epochs=8")
    small = ["limit.parameters=30_000"]
    options = ["mix=[cutmix]", "distill.teachers=[teacher]", "distill.weight=0.9"]
    made, result = run("student", *options, competition=small)
    assert large.parameters > 30_000 > result.parameters
    assert (
        f"taught by teacher: {large.parameters:,} parameters, which do not ship and do not count"
        in capsys.readouterr().out
    )
    assert job.weigh_weights(made).counted == result.parameters
    _, again = run("again", *options, competition=small)
    assert (made.folder / "holdout_probs.npy").read_bytes() == (
        job.find("again").folder / "holdout_probs.npy"
    ).read_bytes()
    run("alone", "mix=[cutmix]", competition=small)
    taught, teacher, alone = (
        np.load(job.find(name).folder / "holdout_probs.npy").astype(float) for name in ("student", "teacher", "alone")
    )
    assert np.abs(taught - teacher).mean() != np.abs(alone - teacher).mean()
    assert again.holdout == result.holdout


def test_a_teacher_that_cannot_teach_is_refused(home):
    run("other", "split.seed=7", "train.epochs=1")
    with pytest.raises(UserError, match=r"distill.teachers: other was trained on \d+ of the 143 images held out here"):
        run("student", "distill.teachers=[other]")
    with pytest.raises(UserError, match=r"there is no run called 'othr'; did you mean 'other'\?"):
        run("student2", "distill.teachers=[othr]")
    job.find("other").weights.unlink()
    with pytest.raises(UserError, match=r"distill.teachers: other is not trained yet: \./run.sh resume other"):
        run("student3", "distill.teachers=[other]")
    facts = json.loads((home / "runs" / "other" / "run.json").read_text())
    assert facts["recipe"] == "tiny"
