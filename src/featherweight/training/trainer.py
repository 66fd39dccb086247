"""The training loop, in the order in which things happen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from featherweight import atomic
from featherweight.augment.mixing import mix
from featherweight.augment.table import Augmentation
from featherweight.console import Progress as Bar
from featherweight.console import say
from featherweight.data.pack import Pack
from featherweight.errors import DivergedError, UserError
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.metrics import METRICS, metric_of, value
from featherweight.models import Classifier
from featherweight.runtime.device import Runtime
from featherweight.runtime.interrupts import interruptible
from featherweight.runtime.rng import derive
from featherweight.schema import Choice, OneOf
from featherweight.training import checkpoint
from featherweight.training.averaging import Averages
from featherweight.training.batches import Batch, Batches
from featherweight.training.distillation import NOBODY, Teachers, learn
from featherweight.training.early_stopping import classified, look, since_best
from featherweight.training.norm_stats import renew, standardize, start_from_images
from featherweight.training.optimizers import prepare
from featherweight.training.progressive import grown
from featherweight.training.sam import climbed
from featherweight.training.schedules import Progress, rising

if TYPE_CHECKING:
    import pandas as pd

    from featherweight.config import EarlyStopping, Recipe

LOOK_SECONDS = 1.0  # between looks at the losses: each look makes a GPU wait for the host


def fit(
    recipe: Recipe,
    model: Classifier,
    train: Pack,
    holdout: Pack,
    num_classes: int,
    augment: list[Augmentation],
    runtime: Runtime,
    folder: Path,
    teachers: Teachers = NOBODY,
    metric: Choice | None = None,
    watching: Callable[[Mapping[str, Any]], None] = lambda row: None,
) -> pd.DataFrame:
    """Train `model` in place and return one row an epoch, also kept in `folder/history.csv`: loss, accuracy, macro F1
    and the score by the competition's `metric` (accuracy where none is given), of training images and holdout.

    Of training images these are of what each step saw, as it was augmented and mixed (a mixed one is of the class it
    has most of), by the weights before the step. Where the metric judges probabilities, only the holdout is scored.

    Goes on from the checkpoint in `folder`, if there is one, and ends in the same bytes as if it had not been stopped.
    Several processes call it alike, share every batch, and end with the same model; the first one writes.
    `watching` is told each row as it comes; what it raises ends the training.
    Raises DivergedError when the loss is no longer a number, and KeyboardInterrupt after Ctrl-C, with the state saved
    between two steps, or as it was last saved where the holdout was being looked at for the last time.
    """
    processes = runtime.processes
    batches = Batches(train, num_classes, recipe.train.batch_size, recipe.seed, runtime, recipe.sampling)
    steps = batches.steps_per_epoch
    metric = metric or OneOf(METRICS).validate("accuracy")
    falls = metric_of(metric).lower_is_better
    start = replace(beginning(recipe, steps), score_falls=falls)
    epochs = start.epochs

    for teacher in teachers.models:
        runtime.place(teacher.eval())
    state = _prepared(recipe, model, train, batches, runtime)
    state.restore(folder / "checkpoint.pt")

    with interruptible() as stop, Bar("train", start.total, "steps") as bar:
        bar.resume(state.step, state.note(short=True))
        looked = save = clock = time.monotonic()
        for epoch in range(len(state.history), epochs):
            model.train()
            for batch in batches.epoch(epoch, state.step - epoch * steps, min(steps, start.total - epoch * steps)):
                state.set_rate(rate_factor(recipe, replace(start, step=state.step, history=state.history)))
                scale = recipe.growth.scale(state.step / start.total) if recipe.growth else 1.0
                loss, answers = _step(recipe, state, batch, augment, runtime, teachers, scale)

                state.losses[state.step - epoch * steps] = loss
                state.answers[:, state.step - epoch * steps] = answers
                state.step += 1
                state.averages.follow(model, replace(start, step=state.step))
                now = time.monotonic()
                state.seconds, clock = state.seconds + now - clock, now
                bar.advance(1)
                due = runtime.device.type == "cpu" or now - looked > LOOK_SECONDS
                stopping, due = processes.any(stop.is_set(), due)  # all stop, and look, at the same step
                if stopping or due:
                    looked = now
                    _refuse_nan(state, epoch * steps)
                if processes.first and (stopping or now - save >= recipe.train.checkpoint_seconds):
                    state.save(folder / "checkpoint.pt")
                    save = time.monotonic()
                if stopping:
                    raise KeyboardInterrupt
            _refuse_nan(state, epoch * steps)  # for which a GPU ends what it has to do
            state.seconds += time.monotonic() - clock
            last = epoch + 1 == epochs
            state.history.append(_epoch_row(recipe, state, holdout, runtime, epoch * steps, last, metric))
            if processes.first:
                atomic.write_text(folder / "history.csv", _table(state.history).to_csv(index=False))
            watching(state.history[-1])
            bar.advance(0, state.note(short=True))
            if (epoch + 1) * 10 // epochs > epoch * 10 // epochs:
                say(f"  epoch {epoch + 1:>{len(str(epochs))}}/{epochs}  {state.note()}")
            clock = time.monotonic()
            if recipe.early_stopping is not None and _has_settled(recipe.early_stopping, recipe.ship, state, falls):
                say(f"  stopped after epoch {epoch + 1}: {recipe.early_stopping.metric} has not got better")
                break
        if any(processes.any(stop.is_set())):  # asked during the last look, after which there is no step
            raise KeyboardInterrupt
    _take_what_ships(recipe, state, batches, augment, runtime)
    return _table(state.history)


def _prepared(recipe: Recipe, model: Classifier, train: Pack, batches: Batches, runtime: Runtime) -> _State:
    """The model on its device, knowing the images' statistics, and all that trains it, before the first step."""
    runtime.place(model)
    standardize(model, train.images, recipe.train.normalize == "pixel")
    start_from_images(model, train.images)
    steps = batches.steps_per_epoch
    state = _State(
        model,
        prepare(recipe.optimizer, model, recipe.train.decay_norms, recipe.train.bias_rate),
        runtime.scaler(),
        Averages(model, recipe.averages),
        losses=torch.zeros(steps, device=runtime.device),
        answers=torch.zeros(2, steps, batches.size, dtype=torch.int32, device=runtime.device),
    )
    if recipe.train.compile:
        state.forward = torch.compile(model, dynamic=False)  # shares the weights; what is saved and asked is the model
    return state


def _table(rows: list[dict[str, float]]) -> pd.DataFrame:
    import pandas as pd  # half a second, which the first step does not wait for

    return pd.DataFrame(rows)


def beginning(recipe: Recipe, steps_per_epoch: int) -> Progress:
    """Where a run of the recipe starts, and how long it is."""
    total = recipe.train.epochs * steps_per_epoch
    total = min(total, recipe.train.steps or total)
    warmup = 0
    if recipe.warmup is not None:
        said = recipe.warmup
        warmup = round(total * said.fraction if said.epochs is None else steps_per_epoch * said.epochs)
        if warmup >= total:
            raise UserError(f"warmup: its {warmup:,} steps leave the schedule none of the run's {total:,}")
    return Progress(0, steps_per_epoch, -(-total // steps_per_epoch), total, warmup)


def rate_factor(recipe: Recipe, progress: Progress) -> float:
    """The factor on the optimizer's rates at a step."""
    factor: float = recipe.schedule(progress)
    return factor * rising(progress, recipe.warmup.start) if recipe.warmup else factor


def _step(
    recipe: Recipe,
    state: _State,
    batch: Batch,
    augment: list[Augmentation],
    runtime: Runtime,
    teachers: Teachers = NOBODY,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """One optimizer step; returns the loss and the true and the given classes [2, B], all still on the device."""
    images, targets = batch.images, teachers.beside(batch.targets, batch.draws.samples)
    for operation in augment:
        images = operation(images, batch.draws)
    images, targets = mix(images, targets, batch.draws, recipe.mix, runtime.processes)
    images = grown(images, scale)
    size = batch.draws.size

    def gradients() -> tuple[Tensor, Tensor]:
        """Leave the (scaled) gradients in the parameters, gathered over the parts of the batch and the processes."""
        torch.manual_seed(derive(recipe.seed, "step", state.step))  # what dropout draws hangs on the step alone
        total, answers = torch.zeros((), device=runtime.device), torch.zeros(2, size, device=runtime.device)
        mine = answers[:, runtime.processes.part(size)]  # the others' stay 0, and are added
        for piece in runtime.processes.pieces(size, recipe.train.accumulate):
            part = images[piece.rows]
            wanted, known = targets[piece.rows].tensor_split([batch.targets.shape[1]], dim=1)
            with runtime.autocast(), runtime.processes.whole_batch(piece):
                logits = _answer(state, part)
            loss = recipe.loss(logits.float(), wanted, batch.counts)
            if recipe.distill is not None:
                taught = teachers.answer(part, known, recipe.distill.temperature, runtime)
                loss = learn(loss, logits.float(), taught, recipe.distill.weight, recipe.distill.temperature)
            loss = loss * (len(part) / size)
            state.scaler.scale(loss).backward()
            total += loss.detach()
            mine[:, piece.rows] = torch.stack([wanted.argmax(1), logits.argmax(1)]).float()
        slopes = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
        runtime.processes.add_up([total, answers, *slopes])
        return total, answers

    loss, answers = gradients()
    if recipe.sam is not None:
        with climbed(state.model, recipe.sam.rho, recipe.sam.adaptive):
            gradients()
    if recipe.train.clip is not None:
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.train.clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    return loss, answers


def _has_settled(stopping: EarlyStopping, ship: str, state: _State, score_falls: bool) -> bool:
    """Has the holdout gone without a new best for long enough? Keeps the weights of the best as it passes."""
    if math.isnan(state.history[-1][f"holdout_{stopping.metric}"]):
        return False
    waited = since_best(state.history, stopping.metric, stopping.margin, score_falls)
    if waited == 0 and stopping.restore == "best":
        shipping = state.averages.shipping(ship, state.model)
        state.best = {name: tensor.clone() for name, tensor in shipping.state_dict().items()}
    return waited >= stopping.patience


def _answer(state: _State, images: Tensor) -> Tensor:
    try:
        return state.forward(images)
    except ValueError as error:  # torch's batch norm takes no statistics of a single number
        if len(images) > 1:
            raise
        raise UserError(
            "one image alone, its maps of one pixel, has no batch-norm statistics: choose train.batch_size and "
            "train.accumulate so that no part of a batch is a single image"
        ) from error


def _take_what_ships(
    recipe: Recipe, state: _State, batches: Batches, augment: list[Augmentation], runtime: Runtime
) -> None:
    """Give the model the weights that ship: the best, the average's or its own."""
    shipping = state.averages.shipping(recipe.ship, state.model)
    if recipe.ship != "raw" and shipping is state.model:
        say(f"  ship: {recipe.ship} had not begun when the run ended, so the raw weights ship")
    state.model.load_state_dict(state.best or shipping.state_dict())
    if recipe.ship == "swa" and shipping is not state.model:
        renew(state.model, batches, augment, runtime)


@dataclass
class _State:
    """All that changes while a run trains, and so all that a checkpoint holds."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    averages: Averages
    losses: Tensor  # float32 [steps]: of each step of the current epoch
    answers: Tensor  # int32 [2, steps, B]: the classes that its images were of, and those they were given
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None  # the weights that did best on the holdout, where early stopping keeps them

    def __post_init__(self) -> None:
        self.forward: Callable[[Tensor], Tensor] = self.model
        self._rates = [group["lr"] for group in self.optimizer.param_groups]

    def set_rate(self, factor: float) -> None:
        """Let the optimizer go on at so much of the rates it was made with."""
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def save(self, path: Path) -> None:
        checkpoint.save(
            path,
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "averages": self.averages.state_dict(),
                "best": self.best,
                "losses": self.losses,
                "answers": self.answers,
                "step": self.step,
                "seconds": self.seconds,
                "history": self.history,
            },
        )

    def restore(self, path: Path) -> None:
        saved = checkpoint.load(path)
        if saved is None:
            return
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.averages.load_state_dict(saved["averages"])
        self.best = saved["best"]
        self.losses.copy_(saved["losses"])
        self.answers.copy_(saved["answers"])
        self.step, self.seconds, self.history = saved["step"], saved["seconds"], saved["history"]
        say(f"  going on from step {self.step:,}")

    def note(self, short: bool = False) -> str:
        if not self.history:
            return ""
        row = self.history[-1]
        looked = next((past for past in reversed(self.history) if not math.isnan(past["holdout_accuracy"])), None)
        held = f"  holdout {looked['holdout_accuracy']:.2%}" if looked else ""
        trained = "" if short else f"  train {row['train_accuracy']:.2%}"
        return f"loss {row['train_loss']:.4f}{trained}{held}"


def _epoch_row(
    recipe: Recipe, state: _State, holdout: Pack, runtime: Runtime, first: int, last: bool, metric: Choice
) -> dict[str, Any]:
    """What is known at the end of the epoch whose first step was `first`, by the weights that ship."""
    epoch = len(state.history) + 1
    true, given = state.answers[:, : state.step - first].flatten(1).long().cpu().numpy()
    row = {
        "epoch": epoch,
        "step": state.step,
        "lr": state.optimizer.param_groups[0]["lr"],
        "train_loss": state.losses[: state.step - first].cpu().double().mean().item(),
        **classified("train", given, true),
        "train_score": value(metric, given, true) if metric_of(metric).judges == "classes" else math.nan,
        "holdout_loss": math.nan,
        "holdout_accuracy": math.nan,
        "holdout_f1": math.nan,
        "holdout_score": math.nan,
        "seconds": state.seconds,
    }
    if epoch % recipe.train.evaluate_every == 0 or last:
        shipping = state.averages.shipping(recipe.ship, state.model)
        probs = predict_probs([shipping], holdout.images, runtime=runtime, batch_size=recipe.predict.batch_size)
        assert holdout.labels is not None
        row |= look(probs, holdout.labels)
        row["holdout_score"] = value(metric, probs.astype(np.float64), holdout.labels)
    return row


def _refuse_nan(state: _State, first: int) -> None:
    """Raise DivergedError if the loss of a step of this epoch, whose first step is `first`, is not a finite number."""
    losses = state.losses[: state.step - first]
    if bool(losses.isfinite().all()):
        return
    bad = first + int((~losses.isfinite()).nonzero()[0])
    rate = state.optimizer.param_groups[0]["lr"]
    raise DivergedError(
        f"the loss became {losses[bad - first].item()} at step {bad:,} (epoch {len(state.history) + 1}) "
        f"with a learning rate of {rate:g}. Try a smaller optimizer.lr, or a schedule with a warm-up; "
        f"with train.precision fp16 or bf16, try fp32"
    )
