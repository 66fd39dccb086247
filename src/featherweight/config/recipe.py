"""A recipe: what to train. It contains neither paths nor classes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, Strict, model_validator

from featherweight.augment.mixing import MIXINGS
from featherweight.augment.table import AUGMENTATIONS, WHOLE
from featherweight.data.image import Fit, Interpolation, Side
from featherweight.data.image import Share as ImageShare
from featherweight.evaluation.tta import VIEWS
from featherweight.models import FAMILIES
from featherweight.schema import (
    Choice,
    Flag,
    Fraction,
    HalfOpenFraction,
    LargeInt,
    NonNegative,
    NonNegativeInt,
    NonNegativeInt53,
    OneOf,
    Positive,
    PositiveInt,
    Section,
    Text,
)
from featherweight.training.averaging import AVERAGES
from featherweight.training.early_stopping import Watched
from featherweight.training.head import Head
from featherweight.training.losses import LOSSES
from featherweight.training.optimizers import OPTIMIZERS, SHARED
from featherweight.training.progressive import Progressive
from featherweight.training.sampling import SAMPLINGS
from featherweight.training.schedules import SCHEDULES


def _part_or_count(share: float) -> float:
    if share == 1 or (share > 1 and share != int(share)):
        raise ValueError(f"expected a part below 1, or a number of images from 2, got {share:g}")
    return share


Share = Annotated[float, Strict(), Field(gt=0), AfterValidator(_part_or_count)]


MOST_FOLDS = 1000


class Split(Section):
    """How the labelled images are divided. The split has its own seed, so runs with different seeds have the same
    holdout.
    """

    holdout: Share = Field(0.1, description="the validation set: a fraction of each class, or a number of images")
    test: Share | None = Field(
        None, description="labelled images that are scored once, at the end; a 6:2:2 split is holdout 0.2, test 0.2"
    )
    folds: Annotated[int, Strict(), Field(ge=2, le=MOST_FOLDS)] | None = Field(
        None, description="divide the images into this many folds and hold out one"
    )
    fold: NonNegativeInt53 = Field(0, description="which of the folds is held out, from 0")
    seed: NonNegativeInt53 = 0
    grouped: Flag = Field(
        True, description="keep groups of related images (copies, near-duplicates, numbered sequences) together"
    )
    subset: Annotated[LargeInt, Field(ge=2)] | None = Field(
        None, description="use only this many labelled images, a stratified sample taken before the split"
    )

    @model_validator(mode="after")
    def _fold_is_one_of_the_folds(self) -> Self:
        if self.fold >= (self.folds or 1):
            raise ValueError(f"split.fold: expected less than split.folds ({self.folds}), got {self.fold}")
        return self


class ImageOfRecipe(Section):
    """How this recipe's model sees the images, where that differs from the competition's file (null: no difference)."""

    size: Side | None = Field(None, description="height and width in pixels")
    fit: Fit | None = Field(None, description="how an image that is not square becomes square")
    store: Side | None = Field(None, description="shorter side, in pixels, of images stored with their aspect ratio")
    crop: ImageShare | None = Field(
        None, description="side of the centre crop that is predicted, as a fraction of the shorter side stored"
    )
    interpolation: Interpolation | None = Field(None, description="how that crop is resized to `size`")
    mirror: Flag | None = Field(None, description="true if a mirrored image has the same class")


class Warmup(Section):
    """A rise of the learning rate before the schedule. Epochs and steps in the schedule still count from step 0."""

    epochs: Positive | None = Field(None, description="length in epochs, which may be a fraction")
    fraction: HalfOpenFraction = Field(0.1, description="length as a fraction of the run, if `epochs` is null")
    start: Fraction = Field(0.01, description="factor on the learning rate at step 0")


class Train(Section):
    """Length, batches, precision, and how often to evaluate and to save."""

    epochs: NonNegativeInt = Field(50, description="0 trains only the linear probe of `head.start: probe`")
    steps: LargeInt | None = Field(None, description="stop after this many steps, unless the epochs end first")
    shortened: list[tuple[NonNegativeInt53, PositiveInt]] = Field(
        default_factory=list,
        description="[step, total]: from this step on the run has `total` steps; `auto` adds it to shorten a run",
    )
    batch_size: PositiveInt = 64
    normalize: Literal["channel", "pixel"] = Field(
        "channel",
        description="subtract the mean of each channel or pixel; pretrained weights have their own mean and deviation",
    )
    freeze_norms: Flag = Field(False, description="keep the initial running statistics of batch norms in training")
    accumulate: PositiveInt = Field(
        1, description="pass each batch through the model in this many parts, to save memory"
    )
    clip: Positive | None = Field(None, description="maximum norm of the whole gradient; a larger one is scaled down")
    decay_norms: Flag = Field(True, description="apply weight decay to norms and biases too")
    bias_rate: Positive = Field(1.0, description="factor on the learning rate of the norms' biases")
    precision: Literal["auto", "native", "bf16_if_supported", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="auto: bf16 on CUDA, else fp32; native: bf16 also on a CPU that is faster in it when the run "
        "starts; bf16_if_supported: fp32 on devices without instructions for bf16",
    )
    compile: Flag = Field(False, description="use torch.compile in training; starting takes a minute longer")
    evaluate_every: PositiveInt = Field(1, description="epochs from one evaluation on the holdout to the next")
    checkpoint_seconds: NonNegative = Field(
        60, description="seconds between checkpoints; a killed run loses at most this much work"
    )


class Sam(Section):
    """Sharpness-aware minimisation around the optimizer; each step takes a second pass (see `training.sam`)."""

    rho: Positive = Field(0.05, description="radius of the perturbation; the papers use 0.05 for SAM, 0.5 for ASAM")
    adaptive: Flag = Field(False, description="ASAM: the radius is relative to the size of each weight")


class Distill(Section):
    """Learn from finished runs, the teachers, as well as from the labels. Teachers may be over the limit: they are not
    part of the final model.
    """

    teachers: Annotated[list[Text], Field(min_length=1)] = Field(
        description="runs, or .npz files with arrays ids and probs; the mean of their probabilities is the target"
    )
    once: Flag = Field(
        False,
        description="teachers predict once, without augmentation: fast, but they do not see what the student sees",
    )
    weight: Fraction = Field(0.5, description="weight of the teachers in the loss; that of the labels is 1 - weight")
    temperature: Positive = Field(
        4.0, description="softmax temperature; higher values give small probabilities more influence"
    )


class Pseudo(Section):
    """Also train on the images to predict, with classes predicted by a finished run, if the competition allows it."""

    run: Text = Field(description="the run or ensemble that labels them")
    confidence: Fraction = Field(
        0.95, description="minimum probability of the predicted class; other images are left out"
    )


class EarlyStopping(Section):
    """Stop when the holdout has not improved for a while. The holdout score is then optimistic, because the epoch was
    chosen by it.
    """

    metric: Watched = "accuracy"
    patience: PositiveInt = Field(2, description="number of evaluations without a new best")
    margin: NonNegative = Field(0, description="minimum improvement that counts as a new best")
    restore: Literal["best", "last"] = Field("best", description="the weights that are kept at the end")


class Predict(Section):
    """How a trained model predicts: by all combinations of the test-time views, averaged by their weights."""

    views: list[Annotated[Choice, OneOf(VIEWS)]] = Field(default_factory=list)
    batch_size: PositiveInt = 256
    calibrate: Flag = Field(
        False, description="fit a temperature on the holdout; it changes probabilities, not classes"
    )


class Recipe(Section):
    """What to train."""

    model: Annotated[Choice, FAMILIES]
    optimizer: Annotated[Choice, OneOf(OPTIMIZERS, SHARED)]
    sam: Sam | None = None
    schedule: Annotated[Choice, OneOf(SCHEDULES)] = Field("constant", validate_default=True)
    warmup: Warmup | None = None
    loss: Annotated[Choice, OneOf(LOSSES)] = Field("cross_entropy", validate_default=True)
    distill: Distill | None = None
    pseudo: Pseudo | None = None
    sampling: Annotated[Choice, OneOf(SAMPLINGS)] = Field("each_once", validate_default=True)
    augment: list[Annotated[Choice, OneOf(AUGMENTATIONS)]] = Field(default_factory=list)
    mix: list[Annotated[Choice, OneOf(MIXINGS)]] = Field(default_factory=list)
    progressive: Progressive | None = None
    averages: list[Annotated[Choice, OneOf(AVERAGES)]] = Field(default_factory=list)
    ship: Text = Field("raw", description="weights of the final model: raw, or the name of one of `averages`")
    early_stopping: EarlyStopping | None = None
    image: ImageOfRecipe | None = Field(None, description="changes to the competition's `image`")
    head: Head = Head()
    split: Split = Split()
    train: Train = Train()
    predict: Predict = Predict()
    seed: NonNegativeInt53 = 0

    @model_validator(mode="after")
    def _something_is_trained(self) -> Self:
        if self.train.epochs == 0 and self.head.start == "random":
            raise ValueError("train.epochs: 0 trains nothing, unless head.start is probe")
        if self.train.epochs and self.head.epochs > self.train.epochs:
            raise ValueError(f"head.epochs: expected at most train.epochs, {self.train.epochs}, got {self.head.epochs}")
        return self

    @model_validator(mode="after")
    def _crops_come_first(self) -> Self:
        names = [choice.name for choice in self.augment]
        if WHOLE in names[1:]:
            raise ValueError(
                f"augment: {WHOLE} must be the first: it crops whole images to the squares that the others expect"
            )
        if WHOLE in names and self.train.normalize == "pixel":
            raise ValueError(f"train.normalize: pixel cannot be combined with augment: {WHOLE}")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.train.normalize == "pixel" and any(view.name == "scales" for view in self.predict.views):
            raise ValueError(
                "predict.views: scales cannot be combined with train.normalize: pixel, which fixes the image size"
            )
        if self.train.normalize == "pixel" and self.progressive is not None:
            raise ValueError(
                "progressive: it cannot be combined with train.normalize: pixel, which fixes the image size"
            )
        if self.train.epochs and self.warmup is not None and (self.warmup.epochs or 0) >= self.train.epochs:
            lengths = f"less than train.epochs, {self.train.epochs}, got {self.warmup.epochs:g}"
            raise ValueError(f"warmup.epochs: expected {lengths}: the schedule needs some epochs too")
        names = [average.name for average in self.averages]
        if len(set(names)) < len(names):
            raise ValueError(f"averages: each can be used once, got {', '.join(names)}")
        if names and "ship" not in self.model_fields_set:
            raise ValueError(f"ship: set which weights to use: raw, {', '.join(names)}")
        if self.ship not in ("raw", *names):
            raise ValueError(f"ship: there is no '{self.ship}'; choose one of {', '.join(['raw', *names])}")
        return self
