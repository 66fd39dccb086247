"""A competition: what to win. It contains nothing about models."""

from __future__ import annotations

import math
import re
from collections import Counter
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


NAMES = ("title", "kaggle", "folder", "kernel")  # keys that do not change what a score means


class Limit(Section):
    """The limit of the final model. `limit: 5000000` or `limit: 5M` limits the parameters alone. docs/weighing.md says
    what counts.
    """

    NUMBERS: ClassVar = ("bytes", "macs", "score", "folded")  # besides parameters

    parameters: LargeInt = Field(
        description="maximum number of parameters; if not given, what `bytes` or `score` allow at 32 bits each"
    )
    bytes: LargeInt | None = Field(None, description="maximum size of the stored weights in bytes")
    macs: LargeInt | None = Field(None, description="maximum multiply-adds for one image, at the size the model sees")
    score: Positive | None = Field(
        None, description="maximum MicroNet score, a size: a 32-bit parameter is 1, 8 bits are 1/4, a zero is one bit"
    )
    folded: LargeInt | None = Field(
        None, description="maximum number of parameters after folding batch norms and merging branches"
    )
    buffers: Flag = Field(False, description="count buffers (running statistics) too")
    allow_pretrained: Flag = Field(False, description="allow weights that were trained on other images")
    allow_pseudo_labels: Flag = Field(False, description="allow training on the images to predict, labelled by a model")

    @model_validator(mode="before")
    @classmethod
    def _as_people_write_it(cls, data: Any) -> Any:
        if isinstance(data, int | float | str) and not isinstance(data, bool):
            data = {"parameters": data}
        if not isinstance(data, Mapping):
            return data
        data = {key: _number(value) if key in (*cls.NUMBERS, "parameters") else value for key, value in data.items()}
        if "parameters" not in data:
            bounds = ((data.get("bytes"), 4), (data.get("score"), 1))  # with the cost of a 32-bit parameter
            rooms = [most // size for most, size in bounds if isinstance(most, int | float) and size <= most < math.inf]
            data |= {"parameters": int(min(rooms))} if rooms else {}
        return data

    @property
    def others(self) -> dict[str, float]:
        """The limits other than that of the parameters, by key."""
        limits = {key: getattr(self, key) for key in self.NUMBERS}
        return {key: most for key, most in limits.items() if most is not None}


def _number(written: Any) -> Any:
    """Convert a number written as 5e6, '5M' or '5,000,000'; return anything else unchanged."""
    found = written
    if isinstance(written, str):
        with suppress(ValueError):
            found = amount(written)
    return int(found) if isinstance(found, float) and found.is_integer() else found


class Submission(Section):
    """The format of the CSV. If there is a sample file, its header, ids and order are used."""

    id: Text = "id"
    label: Text = "label"
    sample: Text | None = Field(None, description="path of the sample submission, relative to the data folder")
    takes: Literal["labels", "probabilities", "probability", "set", "ranked", "one_hot"] = Field(
        "labels",
        description="labels: the class; probabilities: a column per class; probability: that of the positive class of "
        "two; set: the classes; ranked: the `k` best classes; one_hot: a column of 0 and 1 per class",
    )
    separator: Literal[" ", ",", ", ", "|", ";"] = Field(
        " ", description="text between the classes of a set or of a ranked submission"
    )
    empty: Text | None = Field(None, description="what is written for a set without classes; null: nothing")
    k: PositiveInt | None = Field(None, description="number of classes in a ranked submission")
    positive: Text | None = Field(None, description="class whose probability is submitted; null: the second")
    codes: Flag = Field(False, description="write classes as their index in `classes` (0, 1, ...), not as their name")
    spelling: dict[Text, Text] = Field({}, description="how to write classes that are not written as in the data")
    solution: Text | None = Field(
        None, description="path of the answers of a finished competition: a CSV with a Usage column"
    )
    public: Fraction | None = Field(
        None, description="fraction of the rows that the public score is computed from, if known"
    )


class Kernel(Section):
    """What a code competition allows its notebooks."""

    minutes: PositiveInt = Field(540, description="maximum running time")
    gpu: Flag = Field(False, description="allow a GPU")
    internet: Flag = Field(False, description="allow network access")


class Competition(Section):
    """What to win."""

    title: Text
    source: Annotated[Choice, OneOf(SOURCES)]
    image: Image
    classes: list[Text] = Field(min_length=2, description="the labels as in the data; their order gives the indices")
    target: Literal["one", "several", "ordered"] = Field(
        "one",
        description="one: each image has one class; several: a set of classes; ordered: one of classes with an order",
    )
    folder: Text | None = Field(
        None,
        description="folder of its data, relative to the data folder; `inspect --list` writes paths relative to it",
    )
    limit: Limit
    metric: Annotated[Choice, OneOf(METRICS)] = Field(
        "accuracy",
        validate_default=True,
        description="computed for the holdout at each evaluation, and for the training images if it needs only classes",
    )
    submission: Submission = Submission()
    group: Text | None = Field(
        None, description="a regular expression; images with the same match in their ids are related"
    )
    groups: Text | None = Field(
        None, description="or the path of a CSV with columns id and group, relative to the data folder"
    )
    kaggle: Text | None = Field(None, description="name on Kaggle: the last part of the competition's address")
    kernel: Kernel | None = Field(None, description="for a competition that takes a notebook instead of a CSV")
    _declared: Image | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _classes_are_distinct(self) -> Self:
        twice = sorted(name for name, times in Counter(self.classes).items() if times > 1)
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
            raise ValueError(
                f"the metric {self.metric.name} is computed from probabilities: set submission.takes: probabilities"
            )
        if judges == "ranking" and takes not in ("probabilities", "probability", "ranked"):
            raise ValueError(
                f"the metric {self.metric.name} is computed from a ranking of classes: set submission.takes: ranked"
            )
        if self.target == "several" and judges == "answers" and takes not in ("set", "one_hot"):
            raise ValueError(
                f"the metric {self.metric.name} is computed from sets of classes: set submission.takes: set or one_hot"
            )
        if (self.target == "several") != (takes == "set") and takes in ("set", "labels", "probability"):
            raise ValueError(f"submission.takes: {takes} does not suit target: {self.target}")
        if wanted.empty is not None and takes != "set":
            raise ValueError("submission.empty: only where submission.takes is set")
        if (wanted.k is not None) != (takes == "ranked"):
            raise ValueError("submission.k: set it if submission.takes is ranked, and only then")
        wants = self.metric.arguments.get("k")
        if takes == "ranked" and wants is not None and wanted.k is not None and wanted.k < wants:
            raise ValueError(f"submission.k: the metric needs {wants} classes, but {wanted.k} are listed")
        self._refuse_parted_words()
        if wanted.takes == "probability" and len(self.classes) != 2:
            raise ValueError(
                f"submission.takes: one probability is enough only for two classes, but there are {len(self.classes)}; "
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
            raise ValueError("groups: the pattern `group` defines the groups already; set only one of the two")
        return self

    def _refuse_parted_words(self) -> None:
        """Raise ValueError if a class holds what separates the classes of a set, and so would be read as several."""
        wanted, mark = self.submission, self.submission.separator.strip()
        if wanted.takes not in ("set", "ranked") or wanted.codes:
            return
        parted = [name for name in self.classes if re.search(re.escape(mark) or r"\s", wanted.spelling.get(name, name))]
        if parted:
            by = f"'{mark}'" if mark else "spaces"
            raise ValueError(
                f"submission.takes: {wanted.takes} separates classes by {by}, but '{parted[0]}' contains one; set "
                f"submission.spelling, or submission.codes: true"
            )

    def _refuse_equal_words(self) -> None:
        """Raise ValueError for two columns of one name, or two classes that would be written alike."""
        if self.submission.label == self.submission.id and self.submission.sample is None:
            raise ValueError(f"submission.label: '{self.submission.label}' is already the name of the column of ids")
        written: dict[str, str] = {}
        for name in self.classes:
            word = self.submission.spelling.get(name, name)
            if word in written:
                raise ValueError(f"submission.spelling: '{written[word]}' and '{name}' would both be written '{word}'")
            written[word] = name

    @property
    def shape(self) -> Shape:
        """Number of classes, number of channels and image size, for which a model is built."""
        return Shape(len(self.classes), self.image.channels, self.image.size)

    def load(self) -> pack.Data:
        """Return its images, decoded once and memory-mapped. Raises UserError if the data differ
        from this description.
        """
        return pack.load(self.source, self.image, self.classes)

    def seen_by(self, recipe: Recipe) -> Competition:
        """Return the competition with the recipe's changes to its image section.

        Raises UserError if the two cannot be combined.
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
        """The image section of the competition's own file, before any recipe's changes."""
        return self._declared or self.image

    def _metric_suits_the_target(self) -> None:
        target = "several" if self.target == "several" else "one"  # an ordered class is one class too
        if target not in metric_of(self.metric).targets:
            fitting = [name for name, metric in METRICS.items() if target in metric.targets]
            raise ValueError(
                f"the metric {self.metric.name} cannot be used with target: {self.target}; "
                f"choose one of {', '.join(fitting)}"
            )
        weights = self.metric.arguments.get("weights")
        if weights is not None and len(weights) != len(self.classes):
            raise ValueError(f"metric.weights: {len(weights)} weights for {len(self.classes)} classes")

    def same_task(self, other: Competition) -> bool:
        """True if scores of the two can be compared: names and keys that a recipe may change (see `seen_by`) may
        differ.
        """
        return self.task() == other.task()

    def task(self) -> dict[str, Any]:
        """Return the keys that must be equal for two scores to be comparable."""
        chosen: dict[str, Any] = {"image": {"size", "fit", "store", "crop", "interpolation", "mirror"}}
        return self.model_dump(mode="json", exclude=dict.fromkeys(NAMES, True) | chosen)
