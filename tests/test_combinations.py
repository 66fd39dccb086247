"""Every option of a recipe works with every other one or is refused with a reason: recipes drawn at random."""

import math
import re
import tempfile
import typing
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from featherweight import budget, yaml
from featherweight.config import Recipe, load_competition, load_recipe
from featherweight.config.key_names import section_of, table_of
from featherweight.data import parts
from featherweight.data.pack import Data, Pack
from featherweight.errors import UserError
from featherweight.evaluation.calibration import fit_temperature
from featherweight.evaluation.inference import predict_probs
from featherweight.models import build
from featherweight.models.shape import Shape
from featherweight.runs import predictions
from featherweight.runs.request import refuse_what_does_not_fit
from featherweight.runtime.device import make_runtime
from featherweight.training.distillation import Teachers
from featherweight.training.examples import Examples
from featherweight.training.trainer import Trainer

RGB = load_competition("cifar10", ["image.size=8", "limit.allow_pseudo_labels=true"])
GREY = load_competition("cifar10", ["image.size=8", "image.channels=1", "image.mirror=false"])
SMALL = [  # networks of every kind of layer that options touch; the rest have tests of their own
    {"name": "wrn", "depth": 10, "width": 0.25, "dropout": 0.2, "drop_connect": 0.2},
    {"name": "cifar_resnet", "depth": 8, "width": 0.25},
    {"name": "efficientnet", "width": 0.1, "depth": 0.1},
    {"name": "fastnet", "widths": [8, 8, 8]},
    {"name": "mlp", "hidden": [8]},
    {"name": "compact_transformer", "layers": 1, "width": 16, "heads": 2},
    {"name": "vgg", "depth": 11, "width": 0.1, "head": "linear"},
]


def plain(schema: dict, default: object) -> st.SearchStrategy:
    """Draw values that a schema of plain values allows: the default, the ends of the range, and some between."""
    if "anyOf" in schema:
        return st.one_of([plain(one, default) for one in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    kind = schema["type"]
    if kind == "integer":
        low = schema.get("minimum", 0)
        return st.integers(low, min(low + 4, schema.get("maximum", low + 4)))
    if kind == "number":
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0.0))
        low = low if low > -1e4 else -1.0
        high = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
        if high > 1e6:  # a limit that only says what a float holds
            high = max(low + 1.0, 2 * (default or 0.5))
        out = {"exclude_min": "exclusiveMinimum" in schema, "exclude_max": "exclusiveMaximum" in schema}
        return st.floats(low, high, width=16, **out) | st.just(default if default is not None else (low + high) / 2)
    if kind == "array" and "prefixItems" in schema:
        return st.tuples(*[plain(one, None) for one in schema["prefixItems"]]).map(list)
    if kind == "array":
        return st.lists(plain(schema["items"], None), min_size=schema.get("minItems", 0), max_size=3)
    return {"boolean": st.booleans(), "null": st.none(), "string": st.just(default or "raw")}[kind]


def section(kind: type, fixed: dict | None = None) -> st.SearchStrategy:
    """Draw a section: all required keys, and some of the optional ones."""
    schema = kind.model_json_schema()["properties"]
    needed, free = {}, {}
    for key, field in kind.model_fields.items():
        if key == "name":
            continue
        drawn = (fixed or {}).get(key, value(field, schema[key]))
        (needed if field.is_required() else free)[key] = drawn
    return st.fixed_dictionaries(needed, optional=free)


def value(field, schema: dict) -> st.SearchStrategy:
    """Draw a value that a key accepts."""
    table, inner = table_of(field), section_of(field)
    if table is not None:
        one = st.sampled_from(sorted(table.sections)).flatmap(
            lambda name: section(table.sections[name]).map(lambda keys: {"name": name, **keys})
        )
        return st.lists(one, max_size=3) if typing.get_origin(field.annotation) is list else one
    if inner is not None:
        return section(inner)
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return plain(schema, default)


RECIPES = section(
    Recipe, {"model": st.sampled_from(SMALL), "ship": st.sampled_from(["raw", "ema", "swa", "lookahead"])}
)


def images(count: int, channels: int) -> Pack:
    rng = np.random.default_rng(count)
    pixels = rng.integers(0, 256, (count, 8, 8, channels), dtype=np.uint8)
    return Pack([str(n) for n in range(count)], pixels, np.arange(count) % 10)


def one_step(data: dict, grey: bool) -> str:
    """Load a recipe from a file and train two epochs as the main job does; return the reason if it is refused."""
    competition = GREY if grey else RGB
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.yaml"
        path.write_text(yaml.dump(data))
        try:
            recipe = load_recipe(str(path), ["train.steps=5", "train.epochs=2", "train.batch_size=18"])
            budget.weigh(recipe, competition, "drawn").refuse_if_over()
            whole = images(60, competition.image.channels)
            train, holdout, _ = parts.divide(recipe.split, competition, Data(whole, None))
            refuse_what_does_not_fit(recipe, competition)
            device = make_runtime("cpu", recipe.train.precision, 1)
            torch.manual_seed(recipe.seed)
            model = build(recipe.model, Shape(10, competition.image.channels, 8))
            teachers = Teachers(saved=torch.full((len(train), 10), 0.1), savers=1)
            augment = predictions.augmentations(recipe, competition)
            examples = Examples(train, holdout, 10, augment, teachers if recipe.distill else Teachers())
            Trainer(recipe, model, examples, device, Path(folder), competition.metric).fit()
            views = predictions.views(recipe, competition)
            probs = predict_probs([model], holdout.images, runtime=device, views=views, augment=augment, batch_size=16)
            if recipe.predict.calibrate:
                fit_temperature(probs, holdout.labels)
        except UserError as error:
            return str(error)
        assert np.isfinite(probs).all()
        np.testing.assert_allclose(probs.sum(1), 1, atol=1e-4)
        return ""


# Why a drawn recipe may be refused: what it asks for is impossible, or diverges. Anything else is a fault.
REASONS = (
    r"split(\.\w+)?: ",
    r"warmup\.epochs: expected less than train\.epochs",
    r"ship: ",
    r"train\.precision: fp16 needs a GPU",
    r"image\.store: expected at least image\.size",
    r"averages: each can be used once",
    r"progressive(\.until|\.scales)?: ",
    r"predict\.views: scales: .* cannot take images of \d+ px",
    r"pseudo: .* does not allow training on its images to predict",
    r"augment: .* must be the first",
    r"(train\.normalize|predict\.views|progressive): .*cannot be combined with",
    r"head\.epochs: expected at most train\.epochs",
    r"Try a smaller optimizer\.lr",
)
DRAWS = {True: (60, 20), False: (12, 4)}  # with and without --all: recipes, and the least that train; it was 26 of 60


def test_any_options_train_together_or_are_refused_for_a_reason_that_is_known(pytestconfig):
    count, least = DRAWS[pytestconfig.option.all]
    outcomes: list[str] = []

    @seed(0)
    @settings(max_examples=count, database=None, suppress_health_check=list(HealthCheck))
    @given(RECIPES, st.booleans())
    def draw(data, grey):
        outcomes.append(one_step(data, grey))

    draw()
    unknown = [why for why in outcomes if why and not any(re.search(reason, why) for reason in REASONS)]
    assert not unknown, "\n".join(unknown)
    assert outcomes.count("") >= least
