"""Everything that a recipe may name runs on every device of this machine and is deterministic, or is refused.

On a machine without a GPU only the CPU is tested.
"""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from featherweight.augment.mixing import MIXINGS
from featherweight.augment.table import AUGMENTATIONS
from featherweight.config import Recipe
from featherweight.data.pack import Pack
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.tta import VIEWS
from featherweight.models import FAMILIES, build
from featherweight.models.shape import Shape
from featherweight.runtime.device import make_runtime
from featherweight.runtime.processes import ALONE, Processes
from featherweight.runtime.rng import Draws, generator
from featherweight.schema import OneOf
from featherweight.training.examples import Examples
from featherweight.training.losses import LOSSES
from featherweight.training.optimizers import OPTIMIZERS
from featherweight.training.trainer import Trainer

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
CLASSES, SIDE = 3, 16
MODELS = {
    "wrn": {"depth": 10, "width": 0.5, "dropout": 0.2, "drop_connect": 0.2},
    "cifar_resnet": {"depth": 8},
    "resnet": {"depth": 18},
    "efficientnet": {"width": 0.2, "depth": 0.2},
    "fastnet": {"widths": [8, 8, 8], "depth": 3},
    "compact_transformer": {},
    "fpn": {},
    "mobilenet_v2": {"width": 0.25},
    "vgg": {"depth": 11, "width": 0.05},
}
PACK = Pack(
    [str(place) for place in range(24)],
    np.random.default_rng(0).integers(0, 256, (24, SIDE, SIDE, 3), dtype=np.uint8),
    np.arange(24, dtype=np.int64) % CLASSES,
)


@pytest.fixture(params=DEVICES)
def device(request) -> str:
    return request.param


def trained(folder, device: str, processes: Processes = ALONE, **changes):
    """Train for two epochs; return the weights and the history."""
    base = {"model": {"name": "wrn", "depth": 10, "width": 0.25}, "optimizer": {"name": "sgd", "lr": 0.02}}
    base["train"] = {"epochs": 2, "batch_size": 8, "precision": "fp32", "checkpoint_seconds": 0}
    recipe = Recipe.model_validate({**base, **changes})
    runtime = make_runtime(device, recipe.train.precision, processes=processes)
    torch.manual_seed(0)
    model = build(recipe.model, Shape(CLASSES, 3, SIDE))
    folder.mkdir(exist_ok=True)
    history = Trainer(recipe, model, Examples(PACK, PACK, CLASSES, recipe.augment), runtime, folder).fit()
    return {name: tensor.cpu() for name, tensor in model.state_dict().items()}, history


def same(one, other) -> None:
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_same_seed_gives_the_same_bytes_at_every_precision(tmp_path, device, precision):
    if device == "cpu" and precision == "fp16":
        pytest.skip("fp16 needs a GPU")
    train = {"epochs": 2, "batch_size": 8, "precision": precision}
    runs = [trained(tmp_path / str(turn), device, augment=["crop", "flip"], train=train) for turn in range(2)]
    same(runs[0][0], runs[1][0])
    assert np.isfinite(runs[0][1]["train_loss"]).all()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_networks_take_a_step(device, name):
    """Forward and backward with deterministic arithmetic."""
    runtime = make_runtime(device, "auto")
    torch.manual_seed(0)
    model = runtime.place(build(FAMILIES.validate({"name": name, **MODELS[name]}), Shape(CLASSES, 3, 32))).train()
    images = runtime.images(torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8))
    with runtime.autocast():
        logits = model(images)
    targets = F.one_hot(torch.arange(4, device=runtime.device) % CLASSES, CLASSES).float()
    F.cross_entropy(logits.float(), targets).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_augmentations_draw_alike_on_every_device(device, name):
    runtime = make_runtime(device)
    operation = OneOf(AUGMENTATIONS).validate(name)
    pixels = torch.from_numpy(PACK.images)

    def augmented(on: torch.device) -> torch.Tensor:
        images = pixels.to(on).permute(0, 3, 1, 2).float() / 255
        return operation(images, Draws(generator(0), len(pixels), on)).cpu()

    ours, again = augmented(runtime.device), augmented(runtime.device)
    assert torch.equal(ours, again)
    expected = augmented(torch.device("cpu"))
    assert ((ours - expected).abs() > 0.02).float().mean() < 0.01  # rounding may take a level's edge to either side


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_and_mixings(tmp_path, device, name):
    mix = sorted(MIXINGS) if name == "cross_entropy" else []
    _, history = trained(tmp_path / "run", device, loss={"name": name}, mix=mix, sam={"rho": 0.05})
    assert np.isfinite(history["train_loss"]).all()


@pytest.mark.some(2)
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers_go_on_from_a_checkpoint_to_the_same_bytes(tmp_path, device, name):
    said = {"optimizer": {"name": name}, "averages": ["ema"], "ship": "ema"}
    whole, _ = trained(tmp_path / "whole", device, **said)
    folder = tmp_path / "cut"
    trained(folder, device, **said, train={"epochs": 2, "steps": 3, "batch_size": 8, "checkpoint_seconds": 0})
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3  # the checkpoint in the middle of the run, from which the rest is done
    resumed, _ = trained(folder, device, **said)
    same(whole, resumed)


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_views(device, name):
    runtime = make_runtime(device)
    torch.manual_seed(0)
    model = build(FAMILIES.validate({"name": "wrn", "depth": 10, "width": 0.25}), Shape(CLASSES, 3, SIDE))
    views = [OneOf(VIEWS).validate(name)]
    asked = [predict_probs([model], PACK.images, runtime=runtime, views=views, batch_size=9) for _ in range(2)]
    assert np.array_equal(*asked)
    np.testing.assert_allclose(asked[0].sum(1), 1, atol=1e-5)


class Several(int):
    """A count that is not equal to one, so one process runs the code for several: one GPU suffices for nccl."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def test_what_processes_tell_each_other_over_the_devices_own_backend(tmp_path, device, monkeypatch):
    """Losses within 1e-3 of those of one process, on CUDA over nccl."""
    sent, all_reduce = set(), dist.all_reduce
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: (sent.add(tensor.device.type), all_reduce(tensor)))
    said = {"mix": ["mixup"], "averages": ["ema"], "ship": "ema", "sam": {"rho": 0.05}}
    _, alone = trained(tmp_path / "alone", device, **said)
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        _, together = trained(tmp_path / "together", device, Processes(count=Several(1)), **said)
    finally:
        dist.destroy_process_group()
    np.testing.assert_allclose(together["train_loss"], alone["train_loss"], rtol=1e-3)
    np.testing.assert_allclose(together["holdout_loss"], alone["holdout_loss"], rtol=1e-3)
    assert sent == {"cpu", device}  # flags are of the host, on every device
