"""The training loop; its methods are in the order in which they are called."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from featherweight import atomic
from featherweight.augment.mixing import mix
from featherweight.augment.table import SIDEWAYS, WHOLE
from featherweight.console import Progress, say
from featherweight.errors import DivergedError, UserError
from featherweight.evaluation.inference import predict_probs
from featherweight.evaluation.metrics import METRICS, metric_of, value
from featherweight.models import Classifier
from featherweight.models.pretrained_weights import expected_input
from featherweight.models.shape import Shape
from featherweight.runtime.device import Runtime, explaining_nondeterminism
from featherweight.runtime.interrupts import interruptible
from featherweight.runtime.rng import derive, seed_layers
from featherweight.schema import Choice, OneOf
from featherweight.training.averaging import Averages
from featherweight.training.batches import Batch, Batches
from featherweight.training.checkpoint import TrainState
from featherweight.training.deadline import Deadline, evaluations
from featherweight.training.distillation import learn
from featherweight.training.early_stopping import classified, evaluate, since_best
from featherweight.training.examples import Examples
from featherweight.training.forecast import TimeForecast, forward_share, remaining_area
from featherweight.training.head import freeze_body, heads_of
from featherweight.training.losses import loss_for
from featherweight.training.norm_stats import renew, standardize, start_from_images
from featherweight.training.optimizers import prepare
from featherweight.training.probe import start_from_probe
from featherweight.training.progressive import shrunk
from featherweight.training.sam import perturbed
from featherweight.training.schedules import beginning, rate_factor

if TYPE_CHECKING:
    import pandas as pd

    from featherweight.config import Recipe

READ_SECONDS = 1.0  # between readings of the losses: each makes the host wait for the GPU


class Trainer:
    """Trains a model in place, to the same bytes whether or not it was interrupted.

    If there is a checkpoint in `folder`, it continues from it. Each of several processes makes a trainer; they share
    every batch and end with the same model, and the first one writes the files. `metric` is the competition's (default:
    accuracy) and is computed at every evaluation.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Classifier,
        examples: Examples,
        runtime: Runtime,
        folder: Path,
        metric: Choice | None = None,
    ) -> None:
        self.recipe, self.model, self.examples, self.runtime, self.folder = recipe, model, examples, runtime, folder
        self.metric = metric or OneOf(METRICS).validate("accuracy")
        self.processes = runtime.processes
        self.probe_seconds = 0.0  # seconds of the probe's regression, once it is done
        train = recipe.train
        self.source = Batches(
            examples.train,
            examples.num_classes,
            train.batch_size,
            recipe.seed,
            runtime,
            recipe.sampling,
            whole=any(choice.name == WHOLE for choice in recipe.augment),
        )
        self.steps_per_epoch = self.source.steps_per_epoch
        self.length = replace(
            beginning(recipe, self.steps_per_epoch), score_falls=metric_of(self.metric).lower_is_better
        )

    def fit(
        self,
        on_epoch: Callable[[Mapping[str, Any]], None] = lambda row: None,
        deadline: Deadline | None = None,
        shorter: str = "",
    ) -> pd.DataFrame:
        """Train, and return one row per epoch, also written to `folder/history.csv`: loss, accuracy, macro F1 and the
        metric, of training images and holdout.

        The values of training images come from the steps themselves: from augmented and mixed images (a mixed one has
        the class with the largest part) and from the weights before each step. Where the metric needs probabilities,
        only the holdout is scored. `on_epoch` is called with each row; an exception in it ends the training. A
        `deadline` may shorten it. `shorter` is the command that plans a shorter one (see `TimeForecast`).

        Raises DivergedError when the loss is no longer finite. Raises KeyboardInterrupt after Ctrl-C, with the state
        saved between two steps, or as it was last saved if the holdout was being scored for the last time.
        """
        self.state = state = self._prepare()
        state.restore(self.folder / "checkpoint.pt")
        with interruptible() as self.interrupted, Progress("train", self.length.total, "steps") as self.progress:
            self.progress.resume(state.step, state.note(short=True))
            self.losses_read_at = self.saved_at = self.timed_at = time.monotonic()
            self.epoch_began_at = 0
            self.shorten(deadline)
            self.forecast = TimeForecast(self.length.total, self.recipe.progressive, shorter, self.evaluation_cost())
            while (epoch := len(state.history)) < self.length.epochs:
                self.set_mode(epoch)
                for batch in self.batches(epoch):
                    self.set_rate()
                    self.take_step(batch)
                    self.announce_forecast()
                    self.stop_or_save()
                    self.shorten(deadline)
                self.refuse_nan()  # waits for the GPU
                self.end_epoch(on_epoch)
                if self.should_stop_early():
                    break
            if self.length.epochs == 0:
                self.end_epoch(on_epoch)
            if any(self.processes.any(self.interrupted.is_set())):  # while the holdout was scored for the last time
                raise KeyboardInterrupt
        self.load_final_weights()
        return table(state.history)

    def _prepare(self) -> TrainState:
        """Place the model on the device, set its data-dependent values, and return the state before the first step."""
        recipe, model, images = self.recipe, self.model, self.examples.train.images
        for teacher in self.examples.teachers.models:
            self.runtime.place(teacher.eval())
        self.runtime.place(model)
        self.learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        expected = expected_input(recipe.model)
        standardize(model, images, recipe.train.normalize == "pixel", expected)
        start_from_images(model, images)
        if recipe.head.start == "probe" and not (self.folder / "checkpoint.pt").exists():
            mirror = any(getattr(choice, "name", "") in SIDEWAYS for choice in self.examples.augment)
            self.probe_seconds = start_from_probe(model, self.heads, self.examples.train, mirror, self.runtime)
        steps, device = self.steps_per_epoch, self.runtime.device
        state = TrainState(
            model,
            prepare(recipe.optimizer, model, recipe.train.decay_norms, recipe.train.bias_rate, self._heads_apart()),
            self.runtime.scaler(),
            Averages(model, recipe.averages),
            losses=torch.zeros(steps, device=device),
            answers=torch.zeros(2, steps, self.source.size, dtype=torch.int32, device=device),
        )
        if recipe.train.compile:  # shares the weights; the model itself is saved and evaluated
            state.forward = torch.compile(model, dynamic=False)
        return state

    def _heads_apart(self) -> list[nn.Linear]:
        """Return the classifier if the optimizer treats it apart and there is one, else an empty list."""
        optimizer = self.recipe.optimizer
        if optimizer.name != "muon" and getattr(optimizer, "layer_decay", 1.0) == 1:
            return []
        with suppress(UserError):
            return self.heads
        return []

    @functools.cached_property
    def heads(self) -> list[nn.Linear]:
        """The classification layers. Raises UserError for a network without a separate classifier."""
        return heads_of(self.model, self.recipe.model, self._shape)

    @functools.cached_property
    def _shape(self) -> Shape:
        _, side, _, channels = self.examples.train.images.shape
        return Shape(self.examples.num_classes, channels, side)

    def set_mode(self, epoch: int) -> None:
        """Make the whole model trainable, or only its head; frozen batch norms keep their statistics."""
        self.model.train()
        if self.recipe.head.epochs:
            freeze_body(self.model, self.heads, self.learning, epoch < self.recipe.head.epochs)
        if self.recipe.train.freeze_norms:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the remaining batches of an epoch, fewer if the run is shortened meanwhile."""
        self.epoch_began_at = epoch * self.steps_per_epoch  # the step that the epoch begins with
        last = min(self.steps_per_epoch, self.length.total - self.epoch_began_at)
        batches = self.source.epoch(epoch, self.state.step - self.epoch_began_at, last)
        return itertools.takewhile(lambda batch: self.state.step < self.length.total, batches)

    def set_rate(self) -> None:
        """Set the optimizer's learning rate for the next step."""
        state = self.state
        state.set_rate(rate_factor(self.recipe, replace(self.length, step=state.step, history=state.history)))

    def take_step(self, batch: Batch) -> None:
        """Take one optimizer step; its loss and predictions stay on the device."""
        state, index = self.state, self.state.step - self.epoch_began_at
        with explaining_nondeterminism():
            state.losses[index], state.answers[:, index] = self.step_on(batch)
        state.step += 1
        state.averages.follow(self.model, replace(self.length, step=state.step))
        now = time.monotonic()
        state.seconds, self.timed_at = state.seconds + now - self.timed_at, now
        self.progress.advance(1)

    def step_on(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Augment a batch and update the weights; return the loss, and the true and the predicted classes [2, B]."""
        recipe, state, size = self.recipe, self.state, batch.draws.size
        images, targets = batch.images, self.examples.teachers.beside(batch.targets, batch.draws.samples)
        for operation in self.examples.augment:
            images = operation(images, batch.draws)
        images, targets = mix(images, targets, batch.draws, recipe.mix, self.processes)
        if recipe.progressive:
            images = shrunk(images, recipe.progressive.scale(state.step / self.length.total))

        loss, answers = self.compute_gradients(images, targets, batch)
        if recipe.sam is not None:
            with perturbed(state.model, recipe.sam.rho, recipe.sam.adaptive):
                self.compute_gradients(images, targets, batch)
        if recipe.train.clip is not None:
            state.scaler.unscale_(state.optimizer)
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.train.clip)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        return loss, answers.view(2, size)

    def compute_gradients(self, images: Tensor, targets: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the (scaled) gradients, summed over the parts of the batch and the processes.

        To the right of `targets` [B, K] may be the teachers' saved probabilities. Returns the loss, and the true and
        the predicted classes [2, B].
        """
        recipe, state, size = self.recipe, self.state, batch.draws.size
        device, teachers = self.runtime.device, self.examples.teachers
        seed_layers(derive(recipe.seed, "step", state.step), device)  # dropout's draws depend on the step only
        total, answers = torch.zeros((), device=device), torch.zeros(2, size, device=device)
        mine = answers[:, self.processes.part(size)]  # the others' stay 0, and are added
        for piece in self.processes.pieces(size, recipe.train.accumulate):
            part = images[piece.rows]
            wanted, known = targets[piece.rows].tensor_split([batch.targets.shape[1]], dim=1)
            with self.runtime.autocast(), self.processes.whole_batch(piece):
                logits = state.logits(part)
            loss = loss_for(recipe.loss, batch.several)(logits.float(), wanted, batch.counts)
            if recipe.distill is not None:
                taught = teachers.answer(part, known, recipe.distill.temperature, self.runtime)
                loss = learn(loss, logits.float(), taught, recipe.distill.weight, recipe.distill.temperature)
            loss = loss * (len(part) / size)
            if not loss.requires_grad:  # a network of the user's, under no_grad or detached
                raise UserError("model: no gradient leads from its output to its parameters (torch.no_grad, detach?)")
            state.scaler.scale(loss).backward()
            total += loss.detach()
            mine[:, piece.rows] = torch.stack([wanted.argmax(1), logits.argmax(1)]).float()
        slopes = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
        self.processes.add_up([total, answers, *slopes])
        return total, answers

    def announce_forecast(self) -> None:
        """Once the first steps are timed, print the expected duration and memory, unless the training is short."""
        if self.forecast.done_once:
            return
        step, total = self.state.step, self.length.total
        line = self.forecast.line(step, self.state.seconds, self.evaluations(step, total), lambda: self.state.nbytes)
        if line:
            say(line)

    def stop_or_save(self) -> None:
        """Check the losses now and then, and save a checkpoint when it is due, or when the user stops the run."""
        now = time.monotonic()
        due = self.runtime.device.type == "cpu" or now - self.losses_read_at > READ_SECONDS
        stopping, due = self.processes.any(self.interrupted.is_set(), due)  # all stop, and read, at the same step
        if stopping or due:
            self.losses_read_at = now
            self.refuse_nan()
        if self.processes.first and (stopping or now - self.saved_at >= self.recipe.train.checkpoint_seconds):
            self.state.save(self.folder / "checkpoint.pt")
            self.saved_at = now
        if stopping:
            raise KeyboardInterrupt

    def shorten(self, deadline: Deadline | None) -> None:
        """Between two steps, shorten the run as its recipe says, or as it has to be to end in time."""
        step = self.state.step
        totals = [self.length.total, *(total for since, total in self.recipe.train.shortened if since <= step)]
        if deadline is not None and step < self.length.total:
            totals.append(deadline.shortened(step, self.length.total, functools.partial(self.remaining, deadline)))
        total = min(totals)
        if total < self.length.total:
            self.length = replace(self.length, total=total, epochs=-(-total // self.steps_per_epoch))
            self.progress.shorten(total)

    def remaining(self, deadline: Deadline, step: int, total: int) -> float:
        """Return the cost of what follows after `step` steps of `total`, in units of one full-resolution step."""
        evaluated = self.evaluations(step, total) * deadline.evaluation / deadline.step
        return remaining_area(self.recipe.progressive, step, total) + evaluated

    def evaluations(self, step: int, total: int) -> int:
        """Return how many evaluations of the holdout follow after `step` steps of `total`."""
        each = self.steps_per_epoch
        return evaluations(step, -(-total // each), self.recipe.train.evaluate_every, each)

    def evaluation_cost(self) -> float:
        """Return the time of an evaluation of the holdout in full-resolution steps, estimated from the images."""
        passes = 2 if self.recipe.sam is not None else 1  # of a step, forward and backward
        image = torch.zeros(1, self._shape.channels, self._shape.size, self._shape.size, device=self.runtime.device)
        with explaining_nondeterminism():
            share = forward_share(self.model, self.examples.teachers.models, image)
        return len(self.examples.holdout) / self.source.size * share / passes

    def refuse_nan(self) -> None:
        """Raise DivergedError if the loss of any step of this epoch is not a finite number."""
        losses = self.state.losses[: self.state.step - self.epoch_began_at]
        if bool(losses.isfinite().all()):
            return
        bad = int((~losses.isfinite()).nonzero()[0])
        rate = self.state.optimizer.param_groups[0]["lr"]
        raise DivergedError(
            f"the loss became {losses[bad].item()} at step {self.epoch_began_at + bad:,} "
            f"(epoch {len(self.state.history) + 1}) with a learning rate of {rate:g}. "
            f"Try a smaller optimizer.lr, or a schedule with a warm-up; with train.precision fp16 or bf16, try fp32"
        )

    def end_epoch(self, on_epoch: Callable[[Mapping[str, Any]], None]) -> None:
        """Add the epoch's row to the history, score the holdout if it is due, and show both."""
        state, epochs = self.state, max(1, self.length.epochs)
        state.seconds += time.monotonic() - self.timed_at
        state.history.append(self.epoch_row())
        epoch = len(state.history)
        if self.processes.first:
            atomic.write_text(self.folder / "history.csv", table(state.history).to_csv(index=False))
        on_epoch(state.history[-1])
        self.progress.advance(0, state.note(short=True))
        if self.length.epochs == 0:
            say(f"  only the linear probe is trained  {state.note()}")
        elif epoch * 10 // epochs > (epoch - 1) * 10 // epochs:
            views = "  (without the test-time views)" if self.recipe.predict.views and epoch == epochs else ""
            say(f"  epoch {epoch:>{len(str(epochs))}}/{epochs}  {state.note()}{views}")
        self.timed_at = time.monotonic()

    def epoch_row(self) -> dict[str, Any]:
        """Return the epoch's row of the history; the holdout is scored by the weights that would ship."""
        state, recipe, epoch, holdout = self.state, self.recipe, len(self.state.history) + 1, self.examples.holdout
        several = self.source.several
        true, predicted = state.answers[:, : state.step - self.epoch_began_at].flatten(1).long().cpu().numpy()
        trained = len(true) > 0 and not several
        judged = metric_of(self.metric).input_kind == "answers" and trained
        row = {
            "epoch": epoch,
            "step": state.step,
            "lr": state.optimizer.param_groups[0]["lr"],
            "train_loss": state.losses[: state.step - self.epoch_began_at].cpu().double().mean().item(),
            # The predictions of each step are stored as one class per image, which does not serve for sets.
            **(classified("train", predicted, true) if trained else {"train_accuracy": math.nan, "train_f1": math.nan}),
            "train_score": value(self.metric, predicted, true) if judged else math.nan,
            "holdout_loss": math.nan,
            "holdout_accuracy": math.nan,
            "holdout_f1": math.nan,
            "holdout_score": math.nan,
            "seconds": state.seconds,
        }
        if epoch % recipe.train.evaluate_every == 0 or epoch >= self.length.epochs:
            shipping = state.averages.shipping(recipe.ship, state.model)
            if recipe.ship == "swa" and shipping is not state.model and not recipe.train.freeze_norms:
                renew(shipping, self.source, self.examples.augment, self.runtime)
            probs = predict_probs(
                [shipping],
                holdout.images,
                runtime=self.runtime,
                several=several,
                batch_size=recipe.predict.batch_size,
            )
            row |= evaluate(probs, holdout.labels)
            row["holdout_score"] = value(self.metric, probs.astype(np.float64), holdout.labels)
        return row

    def should_stop_early(self) -> bool:
        """Return True if early stopping applies: no new best on the holdout for `patience` evaluations.

        Copies the weights of each new best, if they are to be restored.
        """
        stopping, state = self.recipe.early_stopping, self.state
        if stopping is None or math.isnan(state.history[-1][f"holdout_{stopping.metric}"]):
            return False
        waited = since_best(state.history, stopping.metric, stopping.margin, self.length.score_falls)
        if waited == 0 and stopping.restore == "best":
            shipping = state.averages.shipping(self.recipe.ship, state.model)
            state.best = {name: tensor.clone() for name, tensor in shipping.state_dict().items()}
        if waited >= stopping.patience:
            say(f"  stopped after epoch {len(state.history)}: {stopping.metric} has not improved")
        return waited >= stopping.patience

    def load_final_weights(self) -> None:
        """Load the final weights into the model: the best, an average's, or its own."""
        state, ship = self.state, self.recipe.ship
        shipping = state.averages.shipping(ship, state.model)
        if ship != "raw" and shipping is state.model:
            say(f"  ship: {ship} had not begun when the run ended, so the raw weights are shipped")
        state.model.load_state_dict(state.best or shipping.state_dict())


def table(rows: list[dict[str, float]]) -> pd.DataFrame:
    """Return the history as a table."""
    import pandas as pd  # takes half a second, so not before the first step

    return pd.DataFrame(rows)
