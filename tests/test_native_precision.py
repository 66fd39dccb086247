"""The precision `native` is found by timing, which may turn out otherwise next time: a run stores what it was."""

import pytest
import torch

from featherweight.cli import main
from featherweight.config import load_competition, load_recipe
from featherweight.runs import pipeline
from featherweight.runs.ensemble import ensemble
from featherweight.runs.predictor import Predictor
from featherweight.runs.request import RunRequest
from featherweight.runs.run import Run
from featherweight.runtime import device
from featherweight.runtime.device import make_runtime

SETTINGS = ["train.epochs=1", "train.batch_size=256", "model.width=0.25", "train.precision=native"]
ALIKE = ["--device", "cpu", "--threads", "1", "--no-report"]
FAST, SLOW = 1.8, 0.5


@pytest.fixture
def gains(monkeypatch):
    """Return the function that sets what is timed from now on, on a processor with instructions for bf16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    return lambda gain: monkeypatch.setattr(device, "bf16_gain", lambda: gain)


def request(*changes: str) -> RunRequest:
    recipe = load_recipe("tiny", [*SETTINGS, *changes])
    return RunRequest("tiny", recipe, "digits", load_competition("digits"), ["./run.sh", "tiny"], "cpu", 1)


@pytest.mark.parametrize(("gain", "dtype"), [(SLOW, None), (FAST, torch.bfloat16)])
def test_native_is_bf16_only_where_the_cpu_is_faster_in_it(gains, gain, dtype):
    gains(gain)
    assert make_runtime("cpu", "native").dtype is dtype
    assert make_runtime("cpu", "bf16").dtype is torch.bfloat16
    assert make_runtime("cpu", "bf16_if_supported").dtype is torch.bfloat16
    assert make_runtime("cpu", "auto").dtype is None


def test_without_instructions_for_bf16_it_is_only_used_where_asked_for(gains, monkeypatch):
    gains(FAST)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert make_runtime("cpu", "native").dtype is None
    assert make_runtime("cpu", "bf16_if_supported").dtype is None
    assert make_runtime("cpu", "bf16").dtype is torch.bfloat16


@pytest.mark.usefixtures("few_digits", "home")
@pytest.mark.parametrize(("first", "later", "dtype"), [(FAST, SLOW, torch.bfloat16), (SLOW, FAST, None)])
def test_a_run_keeps_the_precision_that_it_was_started_in(gains, monkeypatch, first, later, dtype):
    """When it is continued, when its own recipe is trained, when it predicts, and when its series goes on."""
    gains(first)
    request().start("one-s0")
    gains(later)
    used = []
    train_model = pipeline.train_model

    def noted(run, train, holdout, runtime, **more):
        used.append(runtime.dtype)
        return train_model(run, train, holdout, runtime, **more)

    monkeypatch.setattr(pipeline, "train_model", noted)
    one = Run.find("one-s0")
    pipeline.execute(one)
    assert main.main([str(one.folder / "recipe.yaml"), "--competition", "digits", "--name", "again", *ALIKE]) == 0
    assert used == [dtype, dtype]
    for file in ("weights.safetensors", "predict_probs.npy"):
        assert (one.folder / file).read_bytes() == (Run.find("again").folder / file).read_bytes()
    assert Predictor(one).members[0].runtime.dtype is dtype
    changes = [word for setting in SETTINGS for word in ("--set", setting)]
    assert main.main(["tiny", "--seeds", "0", "--name", "one", *changes, *ALIKE]) == 0
    assert main.main(["tiny", "--seeds", "0", "--name", "one", *changes, *ALIKE, "--set", "train.precision=bf16"]) == 2


@pytest.mark.usefixtures("few_digits", "home")
def test_the_models_of_an_ensemble_predict_in_their_own_precisions(gains):
    for name, gain in (("a", FAST), ("b", SLOW)):
        gains(gain)
        pipeline.execute(request(f"seed={int(gain)}").start(name))
    both, _ = ensemble(["a", "b"], fit=False, name="both", command=["x"])
    assert [member.runtime.dtype for member in Predictor(both).members] == [torch.bfloat16, None]
