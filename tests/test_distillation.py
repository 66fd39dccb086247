import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from featherweight.augment.mixing import mix
from featherweight.config import Recipe, load_competition, load_recipe
from featherweight.data.pack import Pack
from featherweight.errors import UserError
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.report import evidence, write
from featherweight.runs import pipeline
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run
from featherweight.runtime.device import make_runtime
from featherweight.runtime.rng import Draws, generator
from featherweight.training.distillation import Teachers, learn, read_saved, teach
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

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
    torch.testing.assert_close(teach([one, other], torch.zeros(12), 2.0, make_runtime("cpu")), expected)


def run(name, *changes, competition=()):
    recipe = load_recipe("tiny", ["train.epochs=2", "predict.views=[]", *changes])
    told = load_competition("digits", competition)
    made = RunRequest("tiny", recipe, "digits", told, ["x"], "cpu", 1).start(name)
    return made, pipeline.execute(made)


@pytest.mark.slow
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
    assert made.weigh().counted == result.parameters
    _, again = run("again", *options, competition=small)
    assert (made.folder / "holdout_probs.npy").read_bytes() == (
        Run.find("again").folder / "holdout_probs.npy"
    ).read_bytes()
    run("alone", "mix=[cutmix]", competition=small)
    taught, teacher, alone = (
        np.load(Run.find(name).folder / "holdout_probs.npy").astype(float) for name in ("student", "teacher", "alone")
    )
    assert np.abs(taught - teacher).mean() < np.abs(alone - teacher).mean()
    assert again.holdout == result.holdout

    text = write.write(made).read_text()
    assert f"Taught by teacher ({large.parameters:,} parameters), not shipped and not counted." in text
    assert "% of 30,000; teacher not counted</span>" in text
    assert "aught by" not in write.write(Run.find("alone")).read_text()
    shutil.rmtree(Run.find("teacher").folder)
    distill = made.recipe.distill.model_copy(update={"teachers": ["teacher", "mine.npz"]})
    assert evidence._teachers(replace(made, recipe=made.recipe.model_copy(update={"distill": distill}))) == {
        "teacher": "a run that is no longer there",
        "mine.npz": "saved probabilities",
    }


def test_a_teacher_that_cannot_teach_is_refused(home):
    run("other", "split.seed=7", "train.epochs=1")
    with pytest.raises(UserError, match=r"distill.teachers: other was trained on \d+ of the 143 images held out here"):
        run("student", "distill.teachers=[other]")
    with pytest.raises(UserError, match=r"there is no run called 'othr'; did you mean 'other'\?"):
        run("student", "distill.teachers=[othr]")  # the name is free: what is refused leaves no run
    assert not (home / "runs" / "student").exists()
    Run.find("other").weights.unlink()
    with pytest.raises(UserError, match=r"distill.teachers: other is not trained yet: \./run.sh resume other"):
        run("student", "distill.teachers=[other]")
    facts = json.loads((home / "runs" / "other" / "run.json").read_text())
    assert facts["recipe"] == "tiny"


def test_a_teacher_is_asked_of_the_very_images_the_student_sees(tmp_path):
    """After mixing and augmentation; otherwise it would teach about other images."""
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    pack = Pack([str(n) for n in range(12)], images, np.arange(12) % 4)
    recipe = Recipe.model_validate(
        {
            "model": "mlp",
            "optimizer": "sgd",
            "mix": ["cutmix"],
            "augment": ["crop"],
            "distill": {"teachers": ["x"]},
            "train": {"epochs": 2, "batch_size": 6},
        }
    )
    model, shown, asked = build(recipe.model, Shape(4, 3, 8)), [], []
    model.register_forward_pre_hook(lambda module, given: shown.append(given[0].clone()) if module.training else None)

    class Teacher(torch.nn.Module):
        def forward(self, images):
            asked.append(images.clone())
            return torch.zeros(len(images), 4)

    teachers = Teachers([Teacher()])
    examples = Examples(pack, pack, 4, recipe.augment, teachers)
    Trainer(recipe, model, examples, make_runtime("cpu"), tmp_path).fit()
    assert len(shown) == 4
    for theirs, ours in zip(asked[1:], shown, strict=True):  # after one to count what a teacher computes
        assert torch.equal(theirs, ours)


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_what_is_saved_is_mixed_exactly_as_the_labels_are(mixing):
    """Teachers that predict the labels give exactly the mixed targets of the labels."""
    labels = torch.arange(12) % 4
    saved = F.one_hot(labels, 4).float()
    samples = torch.tensor([5, 0, 7, 2, 9, 11, 3, 1])
    recipe = Recipe.model_validate({"model": "mlp", "optimizer": "sgd", "mix": [mixing]})
    draws = Draws(generator(0, "x"), 8, torch.device("cpu"))
    both = Teachers(saved=saved, savers=1).beside(saved[samples], samples)
    _, mixed = mix(torch.rand(8, 3, 8, 8), both, draws, recipe.mix)
    assert torch.equal(mixed[:, :4], mixed[:, 4:])
    assert not torch.equal(mixed[:, :4], saved[samples])


def test_saved_and_asked_teachers_teach_the_mean_of_all():
    one, known = (lambda images: LOGITS), (TAUGHT / 2).softmax(1)
    expected = ((LOGITS / 2).softmax(1) + 2 * known) / 3
    teachers = Teachers([one], known, savers=2)
    torch.testing.assert_close(teachers.answer(torch.zeros(12), known, 2.0, make_runtime("cpu")), expected)
    assert torch.equal(Teachers([], known, 2).answer(torch.zeros(12), known, 2.0, make_runtime("cpu")), known)


def test_a_student_of_saved_probabilities_does_what_a_student_of_labels_does(tmp_path):
    """If teachers predict the labels, at temperature 1, in half batches: the gradients of cross-entropy."""
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    pack = Pack([str(n) for n in range(12)], images, np.arange(12) % 4)
    base = {
        "model": "mlp",
        "optimizer": "sgd",
        "mix": ["mixup"],
        "train": {"epochs": 2, "batch_size": 6, "accumulate": 2},
    }
    told = {"teachers": ["x.npz"], "weight": 1.0, "temperature": 1.0}
    weights = []
    for name, recipe, teachers in (
        ("labels", base, Teachers()),
        ("taught", {**base, "distill": told}, Teachers(saved=F.one_hot(torch.arange(12) % 4, 4).float(), savers=1)),
    ):
        (tmp_path / name).mkdir()
        checked = Recipe.model_validate(recipe)
        torch.manual_seed(0)
        model = build(checked.model, Shape(4, 3, 8))
        Trainer(checked, model, Examples(pack, pack, 4, [], teachers), make_runtime("cpu"), tmp_path / name).fit()
        weights.append(model.state_dict())
    for key, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][key])


def test_a_teacher_that_cannot_see_what_a_student_does_is_refused(home):
    for name, change in (("flat", "model={name: mlp, hidden: [8]}"), ("pixels", "train.normalize=pixel")):
        run(name, change, "train.epochs=1")
    grows = ["progressive={scales: [0.75], until: [0.5]}", "split.holdout=0.1"]
    with pytest.raises(UserError, match=r"flat: mlp, built for images of 8 px, cannot take images of 6 px"):
        run("one", *grows, "distill.teachers=[flat]")
    with pytest.raises(UserError, match=r"distill\.teachers: pixels subtracts the mean of every pixel"):
        run("two", *grows, "distill.teachers=[pixels]")


def test_probabilities_are_saved_by_asking_a_run_once(home, capsys):
    run("teacher", "train.epochs=4")
    options = ["mix=[cutmix]", "distill.teachers=[teacher]", "distill.once=true", "distill.weight=0.9"]
    made, _ = run("student", *options)
    saved = np.load(made.folder / "taught-teacher_probs.npy")
    ids = made.split.train
    assert saved.shape == (len(ids), 10)
    capsys.readouterr()
    competition = load_competition("digits")
    np.savez(home / "mine.npz", ids=np.array(ids[::-1]), probs=saved[::-1], classes=np.array(competition.classes))
    from_file, _ = run("other", *options[:1], "distill.teachers=[mine.npz]", "distill.weight=0.9")
    assert "taught by mine.npz: make sure that it was not trained on the held-out images" in capsys.readouterr().out
    same = [(each.folder / "weights.safetensors").read_bytes() for each in (made, from_file)]
    assert same[0] == same[1]
    live, _ = run("live", *[option for option in options if "once" not in option])
    assert (live.folder / "weights.safetensors").read_bytes() != same[0]


GOOD = {"ids": np.array(["a", "b"]), "probs": np.array([[0.1, 0.9], [0.5, 0.5]])}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"ids": GOOD["ids"]}, "lacks the array 'probs'"),
        ({**GOOD, "ids": np.array([1, 2])}, "ids must be text, without duplicates"),
        ({**GOOD, "ids": np.array(["a", "a"])}, "ids must be text, without duplicates"),
        ({**GOOD, "probs": np.ones((2, 3)) / 3}, "probs has the shape"),
        ({**GOOD, "classes": np.array(["y", "x"])}, "the 2 classes of the competition, in its order"),
        ({**GOOD, "probs": np.array([[0.1, 0.1], [0.5, 0.5]])}, "sum to 1 in each row"),
        ({**GOOD, "probs": np.array([[-0.1, 1.1], [0.5, 0.5]])}, "must be 0 or more"),
        ({**GOOD, "ids": np.array(["a", "c"])}, "lacks 1 of the 2 training images: b"),
    ],
)
def test_saved_probabilities_that_do_not_fit_are_refused(arrays, said, tmp_path):
    np.savez(tmp_path / "saved.npz", **arrays)
    with pytest.raises(UserError, match=said):
        read_saved(tmp_path / "saved.npz", ["a", "b"], ["x", "y"])


def test_saved_probabilities_come_in_the_order_of_the_images(tmp_path):
    np.savez(tmp_path / "saved.npz", **GOOD)
    np.testing.assert_allclose(read_saved(tmp_path / "saved.npz", ["b", "a"], ["x", "y"]), GOOD["probs"][::-1])
    with pytest.raises(UserError, match="ids are ambiguous"):
        read_saved(tmp_path / "saved.npz", ["b", "b"], ["x", "y"])
    (tmp_path / "no.npz").write_bytes(b"nothing")
    for name in ("no.npz", "absent.npz"):
        with pytest.raises(UserError, match=r"distill.teachers: cannot read"):
            read_saved(tmp_path / name, ["a"], ["x", "y"])
