"""A recipe: what to train. It never knows paths or classes."""

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
    """Which training images are held out to be scored; its seed is its own, so runs of all seeds share a holdout."""

    holdout: Share = Field(0.1, description="held out to be scored: a part of each class, or a number of images")
    test: Share | None = Field(
        None, description="labelled images scored once, at the end: 6:2:2 is holdout 0.2, test 0.2"
    )
    folds: Annotated[int, Strict(), Field(ge=2, le=MOST_FOLDS)] | None = Field(
        None, description="hold out one of this many parts"
    )
    fold: NonNegativeInt53 = Field(0, description="which of the folds is held out, from 0")
    seed: NonNegativeInt53 = 0
    kin: Flag = Field(True, description="keep related images (copies, near-duplicates, numbered sequences) on one side")
    subset: Annotated[LargeInt, Field(ge=2)] | None = Field(
        None, description="use only this many training images, stratified, before splitting"
    )

    @model_validator(mode="after")
    def _fold_is_one_of_the_folds(self) -> Self:
        if self.fold >= (self.folds or 1):
            raise ValueError(f"split.fold: expected less than split.folds ({self.folds}), got {self.fold}")
        return self


class ImageOfRecipe(Section):
    """How the model sees the competition's images, where it is not as the competition's file has it."""

    size: Side | None = Field(None, description="height and width in pixels")
    fit: Fit | None = Field(None, description="how an image that is no square becomes one")
    store: Side | None = Field(None, description="the shorter side of images that keep their proportion, in pixels")
    crop: ImageShare | None = Field(None, description="the part of a stored image's shorter side that is scored")
    interpolation: Interpolation | None = Field(None, description="how that crop becomes `size`")
    mirror: Flag | None = Field(None, description="may an image be mirrored and keep its class?")


class Warmup(Section):
    """A rise of the rate before the schedule; what a schedule counts in epochs or steps it still counts from step 0."""

    epochs: Positive | None = Field(None, description="how many epochs it takes, whole or not")
    fraction: HalfOpenFraction = Field(0.1, description="the part of the run it takes, where no epochs are given")
    start: Fraction = Field(0.01, description="the factor on the rate at step 0")


class Train(Section):
    """How long, in what batches, at what precision, and how often to evaluate and to save."""

    epochs: NonNegativeInt = Field(50, description="0: nothing is trained but `head.start`: a probe")
    steps: LargeInt | None = Field(None, description="stop after this many steps, unless the epochs end first")
    shortened: list[tuple[NonNegativeInt53, PositiveInt]] = Field(
        default_factory=list,
        description="from a step on, how many steps the run has: `auto` notes here what it left out to end in time",
    )
    batch_size: PositiveInt = 64
    normalize: Literal["channel", "pixel"] = Field(
        "channel",
        description="subtract the mean of each channel or pixel; pretrained weights bring their own mean and deviation",
    )
    freeze_norms: Flag = Field(False, description="keep the statistics that batch norms start with, in training too")
    accumulate: PositiveInt = Field(
        1, description="pass a batch through the model in this many parts, to need less memory"
    )
    clip: Positive | None = Field(None, description="the largest norm of all gradients together; longer ones are cut")
    decay_norms: Flag = Field(True, description="does weight decay pull at norms and biases too?")
    bias_rate: Positive = Field(1.0, description="multiplies the learning rate of the norms' biases")
    precision: Literal["auto", "native", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on CUDA, else fp32; native: bf16 also on a CPU with instructions for it"
    )
    compile: Flag = Field(False, description="fuse the training pass with torch.compile: a minute more to start")
    evaluate_every: PositiveInt = Field(1, description="evaluate on the holdout after this many epochs")
    checkpoint_seconds: NonNegative = Field(60, description="a kill loses at most this much work")


class Sam(Section):
    """Sharpness-aware minimisation around the optimizer, at the cost of a second pass: see `training.sam`."""

    rho: Positive = Field(0.05, description="the radius climbed; the papers take 0.05 for SAM, 0.5 for ASAM")
    adaptive: Flag = Field(False, description="ASAM: measure the radius relative to each weight's size")


class Distill(Section):
    """Learn from runs that are done as well as from the classes; they may be over the limit, and do not ship."""

    teachers: Annotated[list[Text], Field(min_length=1)] = Field(
        description="names of runs, or .npz files of saved ids and probs; their mean is taught"
    )
    once: Flag = Field(False, description="ask runs once, of the images as they are: quick, but deaf to augmentation")
    weight: Fraction = Field(0.5, description="how much the teachers count against the classes")
    temperature: Positive = Field(4.0, description="how much of the small probabilities is taught")


class Pseudo(Section):
    """Train on images to predict too, by a finished run's classes, where the competition allows that."""

    run: Text = Field(description="the run, or ensemble, that labels them")
    confidence: Fraction = Field(0.95, description="the least probability of the class that is given")


class EarlyStopping(Section):
    """Stop when the holdout has not got better for a while. The score of the holdout is then its own best: be wary."""

    metric: Watched = "accuracy"
    patience: PositiveInt = Field(2, description="evaluations on the holdout without a new best")
    margin: NonNegative = Field(0, description="what a new best must be better by")
    restore: Literal["best", "last"] = Field("best", description="the weights that ship")


class Predict(Section):
    """How a trained model is asked: the test-time views multiply, and the probabilities are averaged by weight."""

    views: list[Annotated[Choice, OneOf(VIEWS)]] = Field(default_factory=list)
    batch_size: PositiveInt = 256
    calibrate: Flag = Field(False, description="fit a temperature to the holdout: probabilities change, classes do not")


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
    ship: Text = Field("raw", description="the weights that ship: raw, or the name of one of the averages")
    early_stopping: EarlyStopping | None = None
    image: ImageOfRecipe | None = Field(None, description="in place of the competition's")
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
            raise ValueError(f"augment: {WHOLE} comes first: it cuts whole images to the squares that the others take")
        if WHOLE in names and self.train.normalize == "pixel":
            raise ValueError(f"train.normalize: with the mean of every pixel subtracted there is no {WHOLE}")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.train.normalize == "pixel" and any(view.name == "scales" for view in self.predict.views):
            raise ValueError("predict.views: with the mean of every pixel subtracted an image has one size; no scales")
        if self.train.normalize == "pixel" and self.progressive is not None:
            raise ValueError("progressive: with the mean of every pixel subtracted an image keeps its one size")
        if self.train.epochs and self.warmup is not None and (self.warmup.epochs or 0) >= self.train.epochs:
            lengths = f"{self.warmup.epochs:g} epochs of train.epochs {self.train.epochs}"
            raise ValueError(f"warmup.epochs: {lengths} leave the schedule none")
        names = [average.name for average in self.averages]
        if len(set(names)) < len(names):
            raise ValueError(f"averages: one of a kind, got {', '.join(names)}")
        if names and "ship" not in self.model_fields_set:
            raise ValueError(f"ship: set which weights ship: raw, {', '.join(names)}")
        if self.ship not in ("raw", *names):
            raise ValueError(f"ship: there is no '{self.ship}'; the weights there are: {', '.join(['raw', *names])}")
        return self
