"""The number of wrong labels is estimated from held-out probabilities, of strong and of weak classifiers."""

import json

import numpy as np
import pytest

from featherweight.cli import main
from featherweight.evaluation.label_noise import MIN_IMAGES, label_noise
from featherweight.runs import wrong_labels
from featherweight.runs.run import Run
from featherweight.runs.wrong_labels import WrongLabels


def classifier(count, strength, noise, seed, classes=5, confidence=1.0):
    """Make over- or underconfident probabilities [N, K], the true classes, and labels that are partly random."""
    random = np.random.default_rng(seed)
    true = random.integers(classes, size=count)
    logits = random.normal(size=(count, classes)) + strength * np.eye(classes)[true]
    probs = np.exp(confidence * logits)
    wrong = random.random(count) < noise
    return (
        probs / probs.sum(1, keepdims=True),
        true,
        np.where(wrong, (true + random.integers(1, classes, count)) % classes, true),
    )


@pytest.mark.some(2)
@pytest.mark.parametrize("confidence", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("strength", [1.5, 3.0, 6.0])
@pytest.mark.parametrize("noise", [0.0, 0.08, 0.2])
def test_the_part_of_wrong_labels_is_within_its_interval(noise, strength, confidence):
    held, named = [], []
    for seed in range(10):
        probs, true, labels = classifier(400, strength, noise, seed, confidence=confidence)
        found = label_noise(probs, labels)
        held.append(found.low - 1e-9 <= (labels != true).mean() <= found.high)
        named.append(found.is_seen)
    assert np.mean(held) >= 0.8
    if noise == 0:
        assert np.mean(named) <= 0.1
    elif strength >= 3:
        assert np.mean(named) == 1


def test_suspects_are_wrong_as_often_as_is_said():
    probs, true, labels = classifier(3000, 4.0, 0.1, 1)
    found = label_noise(probs, labels)
    wrong = labels != true
    assert found.share == pytest.approx(wrong.mean(), abs=0.02)
    assert wrong[found.suspects].mean() > 0.9
    assert found.probability[found.suspects].mean() == pytest.approx(wrong[found.suspects].mean(), abs=0.05)
    assert np.isin(np.flatnonzero(wrong), found.suspects).mean() > 0.85
    assert (np.diff(found.probability[found.suspects]) <= 0).all()


def test_few_images_tell_nothing():
    probs, _, labels = classifier(MIN_IMAGES - 1, 5, 0.3, 0)
    assert not label_noise(probs, labels).is_seen
    assert len(label_noise(probs, labels).suspects) == 0


def test_a_run_names_wrong_labels_and_inspect_lists_them(home, capsys, monkeypatch):
    from sklearn.datasets import load_digits

    images, true = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    labels = np.where(random.random(len(true)) < 0.1, (true + 3) % 10, true)
    (home / "data").mkdir()
    np.savez(home / "data/x.npz", images=(images.reshape(-1, 8, 8) * 15).astype(np.uint8), labels=labels)
    (home / "configs/competitions").mkdir(parents=True)
    text = "title: x\nsource: {name: arrays, train: 'x.npz:images', labels: 'x.npz:labels'}\n"
    text += f"image: {{size: 8, channels: 1, mirror: false}}\nclasses: {[str(k) for k in range(10)]}\n"
    (home / "configs/competitions/x.yaml").write_text(text + "limit: {parameters: 5_000_000}\n")
    words = ["tiny", "--competition", "x", "--name", "r", "--threads", "1", "--no-report", "--set", "split.holdout=0.3"]
    assert main.main([*words, "--set", "predict.views=[]", "--set", "train.epochs=6"]) == 0
    said = capsys.readouterr().out
    run = Run.find("r")
    found = WrongLabels.read(run)
    assert found is not None
    assert 0.05 < found.low < 0.1 < found.high < 0.2
    assert f"  labels      about {found.share:.0%} look wrong" in said
    assert json.loads((home / "runs/r/labels.json").read_text())["share"] == found.share
    place = {id: k for k, id in enumerate(run.competition.load().train.ids)}
    assert np.mean([labels[place[id]] != true[place[id]] for id, _, _ in found.suspects]) > 0.8
    assert main.main(["inspect", "x"]) == 0
    told = capsys.readouterr().out.replace("\n", " ")
    assert "of the labels that r held out about" in told
    assert f"{found.suspects[0][0]} is {found.suspects[0][1]}, and looks like {found.suspects[0][2]}" in told
    assert wrong_labels.latest("digits") is None
