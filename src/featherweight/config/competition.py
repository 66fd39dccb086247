"""A competition: what to win. It never knows models."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from featherweight.data import pack
from featherweight.data.image import Image
from featherweight.data.sources import SOURCES
from featherweight.errors import UserError, nearest
from featherweight.evaluation.metrics import METRICS, metric_of
from featherweight.models.shape import Shape
from featherweight.schema import Choice, Flag, Fraction, LargeInt, OneOf, Positive, PositiveInt, Section, Text, amount

if TYPE_CHECKING:
    from featherweight.config.recipe import Recipe


NAMES = ("title", "kaggle", "folder", "kernel")  # what a competition is called, here and elsewhere


class Limit(Section):
    """The weight class. What counts: see `budget`. `limit: 5000000`, or `5M`, is short for the parameters alone."""

    NUMBERS: ClassVar = ("bytes", "macs", "score", "folded")  # besides parameters

    parameters: LargeInt = Field(
        description="the most parameters; without it, where the bytes or the score are limited, as many as these allow "
        "in 32 bits"
    )
    bytes: LargeInt | None = Field(None, description="the most bytes of the stored weights")
    macs: LargeInt | None = Field(
        None, description="the most multiply-adds for one image, at the size the model sees it"
    )
    score: Positive | None = Field(
        None, description="the highest MicroNet score, which is a size: 32-bit parameters, 8 bits are 1/4, zeros a bit"
    )
    folded: LargeInt | None = Field(None, description="the most parameters with batch norms folded and branches merged")
    buffers: Flag = Field(False, description="do buffers (running statistics) count too?")
    allow_pretrained: Flag = Field(False, description="may a model start from weights trained on other images?")
    allow_pseudo_labels: Flag = Field(
        False, description="may it train on the images to predict, as a model labels them?"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_people_write_it(cls, data: Any) -> Any:
        if isinstance(data, int | float | str) and not isinstance(data, bool):
            data = {"parameters": data}
        if not isinstance(data, Mapping):
            return data
        data = {key: _number(value) if key in (*cls.NUMBERS, "parameters") else value for key, value in data.items()}
        if "parameters" not in data:
            bounds = ((data.get("bytes"), 4), (data.get("score"), 1))  # and what a 32-bit parameter takes of it
            rooms = [most // size for most, size in bounds if isinstance(most, int | float) and size <= most < math.inf]
            data |= {"parameters": int(min(rooms))} if rooms else {}
        return data

    @property
    def others(self) -> dict[str, float]:
        """What is limited beside parameters, by its key."""
        limits = {key: getattr(self, key) for key in self.NUMBERS}
        return {key: most for key, most in limits.items() if most is not None}


def _number(written: Any) -> Any:
    """A number that is written as 5e6, '5M' or '5,000,000'; anything else as it is, for others to judge."""
    found = written
    if isinstance(written, str):
        with suppress(ValueError):
            found = amount(written)
    return int(found) if isinstance(found, float) and found.is_integer() else found


class Submission(Section):
    """The CSV the competition takes. With a sample file, its header, ids and their order are the law."""

    id: Text = "id"
    label: Text = "label"
    sample: Text | None = Field(None, description="the sample submission, relative to the data folder")
    takes: Literal["labels", "probabilities", "probability", "set", "ranked", "one_hot"] = Field(
        "labels",
        description="the class; one column per class; the probability of the positive of two; a set of classes, "
        "separated by spaces; the `k` best classes, separated by spaces; one column per class that holds 1 or 0",
    )
    k: PositiveInt | None = Field(None, description="how many classes a ranked submission lists")
    positive: Text | None = Field(None, description="the class whose probability is taken; default the second of two")
    codes: Flag = Field(False, description="classes are written as their places in the list (0, 1, ...), not by name")
    spelling: dict[Text, Text] = Field({}, description="classes that are spelled otherwise than in the data, by class")
    solution: Text | None = Field(None, description="the answers of a competition that is over, with a Usage column")
    public: Fraction | None = Field(None, description="the part of the rows that the public score is of, where stated")


class Kernel(Section):
    """What a competition that takes code allows its notebooks."""

    minutes: PositiveInt = Field(540, description="how long one may run")
    gpu: Flag = Field(False, description="may it use a GPU?")
    internet: Flag = Field(False, description="may it use the network?")


class Competition(Section):
    """What to win."""

    title: Text
    source: Annotated[Choice, OneOf(SOURCES)]
    image: Image
    classes: list[Text] = Field(min_length=2, description="the labels as the data spells them, in index order")
    target: Literal["one", "several", "ordered"] = Field(
        "one", description="what an image has: one class, a set of classes, or one of classes that have an order"
    )
    folder: Text | None = Field(
        None,
        description="the folder of the data, below the data folder; inspect --list writes paths relative to it",
    )
    limit: Limit
    metric: Annotated[Choice, OneOf(METRICS)] = Field(
        "accuracy",
        validate_default=True,
        description="recorded after every epoch for the holdout, and for the training images where it judges classes",
    )
    submission: Submission = Submission()
    group: Text | None = Field(None, description="a regular expression: images whose ids agree in it stay together")
    groups: Text | None = Field(None, description="or a CSV of the columns id and group, relative to the data folder")
    kaggle: Text | None = Field(None, description="the competition's slug on Kaggle")
    kernel: Kernel | None = Field(None, description="of a competition that takes a notebook, not a CSV")
    _declared: Image | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _classes_are_distinct(self) -> Self:
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if twice:
            raise ValueError(f"classes named twice: {', '.join(twice)}")
        return self

    @field_validator("group")
    @classmethod
    def _group_is_a_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        return pattern

    @model_validator(mode="after")
    def _submission_suits_the_metric(self) -> Self:
        self._metric_suits_the_target()
        wanted = self.submission
        takes, judges = wanted.takes, metric_of(self.metric).input_kind
        if judges == "probabilities" and takes not in ("probabilities", "probability"):
            raise ValueError(f"the metric {self.metric.name} judges probabilities: set submission.takes: probabilities")
        if judges == "ranking" and takes not in ("probabilities", "probability", "ranked"):
            raise ValueError(f"the metric {self.metric.name} judges the best classes: set submission.takes: ranked")
        if self.target == "several" and judges == "answers" and takes not in ("set", "one_hot"):
            raise ValueError(
                f"the metric {self.metric.name} judges sets of classes: set submission.takes: set or one_hot"
            )
        if (self.target == "several") != (takes == "set") and takes in ("set", "labels", "probability"):
            raise ValueError(f"submission.takes: {takes} does not suit target: {self.target}")
        if (wanted.k is not None) != (takes == "ranked"):
            raise ValueError("submission.k: set it where submission.takes is ranked, and only there")
        wants = self.metric.arguments.get("k")
        if takes == "ranked" and wants is not None and wanted.k is not None and wanted.k < wants:
            raise ValueError(f"submission.k: the metric looks at {wants} classes, more than the {wanted.k} listed")
        if takes in ("set", "ranked") and not wanted.codes:
            parted = [name for name in self.classes if re.search(r"\s", wanted.spelling.get(name, name))]
            if parted:
                raise ValueError(
                    f"submission.takes: {takes} separates classes by spaces, and '{parted[0]}' has one; set "
                    f"submission.spelling, or submission.codes: true"
                )
        if wanted.takes == "probability" and len(self.classes) != 2:
            raise ValueError(
                f"submission.takes: one probability tells two classes apart, and there are {len(self.classes)}; "
                f"set submission.takes: probabilities, one column per class"
            )
        if wanted.positive is not None and wanted.takes != "probability":
            raise ValueError("submission.positive: only where submission.takes is probability")
        if wanted.positive is not None and wanted.positive not in self.classes:
            raise ValueError(
                f"submission.positive: there is no class '{wanted.positive}'{nearest(wanted.positive, self.classes)}; "
                f"there are {', '.join(self.classes)}"
            )
        strange = sorted(set(self.submission.spelling) - set(self.classes))
        if strange:
            raise ValueError(
                f"submission.spelling: there is no class '{strange[0]}'{nearest(strange[0], self.classes)}"
            )
        self._refuse_equal_words()
        if wanted.codes and wanted.spelling:
            raise ValueError(
                "submission.spelling: with submission.codes classes are written as numbers; set only one of the two"
            )
        return self

    @model_validator(mode="after")
    def _groups_are_said_once(self) -> Self:
        if self.group is not None and self.groups is not None:
            raise ValueError("groups: the images are grouped by the pattern `group` already; set only one of the two")
        return self

    def _refuse_equal_words(self) -> None:
        """Two columns of one name, or two classes written alike, make a submission that says something else."""
        if self.submission.label == self.submission.id and self.submission.sample is None:
            raise ValueError(f"submission.label: '{self.submission.label}' is the heading of the ids already")
        written: dict[str, str] = {}
        for name in self.classes:
            word = self.submission.spelling.get(name, name)
            if word in written:
                raise ValueError(f"submission.spelling: '{written[word]}' and '{name}' would both be written '{word}'")
            written[word] = name

    @property
    def shape(self) -> Shape:
        """What a model for it takes and gives."""
        return Shape(len(self.classes), self.image.channels, self.image.size)

    def load(self) -> pack.Data:
        """Its images, decoded once and mapped. Raises UserError for data that are not as it declares."""
        return pack.load(self.source, self.image, self.classes)

    def seen_by(self, recipe: Recipe) -> Competition:
        """The competition as a recipe's model sees it: with the image size, and the way to a square, of the recipe.

        Raises UserError where these do not go together.
        """
        own = {} if recipe.image is None else recipe.image.model_dump(exclude_none=True)
        if not own:
            return self
        try:
            image = Image.model_validate({**self.image.model_dump(), **own})
        except ValidationError as error:
            raise UserError(str(error.errors()[0]["ctx"]["error"])) from None
        seen = self.model_copy(update={"image": image})
        seen._declared = self.declared_image
        return seen

    @property
    def declared_image(self) -> Image:
        """The image section of its file, whatever a recipe has made of it."""
        return self._declared or self.image

    def _metric_suits_the_target(self) -> None:
        targets = metric_of(self.metric).targets
        if ("several" if self.target == "several" else "one") not in targets:
            fitting = [
                name
                for name, metric in METRICS.items()
                if ("several" if self.target == "several" else "one") in metric.targets
            ]
            raise ValueError(
                f"the metric {self.metric.name} is not for target: {self.target}; take one of {', '.join(fitting)}"
            )
        weights = self.metric.arguments.get("weights")
        if weights is not None and len(weights) != len(self.classes):
            raise ValueError(f"metric.weights: {len(weights)} weights for {len(self.classes)} classes")

    def same_task(self, other: Competition) -> bool:
        """Can scores of one be compared with those of the other? Its names, here and on Kaggle, make no difference, nor
        does what a recipe may choose: see `seen_by`.
        """
        return self.task() == other.task()

    def task(self) -> dict[str, Any]:
        """All that makes two scores comparable."""
        chosen: dict[str, Any] = {"image": {"size", "fit", "store", "crop", "interpolation"}}
        return self.model_dump(mode="json", exclude=dict.fromkeys(NAMES, True) | chosen)
