"""What is done before training: a competition, its data, recipes weighed and looked at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from featherweight import paths
from featherweight.cli.arguments import add_configuration, overrides, parser_of
from featherweight.errors import UserError, nearest


def init(words: Sequence[str]) -> int:
    """A competition of one's own."""
    parser = parser_of("init", "Look at a folder or archive of images and write a competition file for it.")
    parser.add_argument("folder", type=Path, metavar="FOLDER_OR_ARCHIVE", help="a folder, or a .zip or .tar.gz")
    parser.add_argument("--name", help="the competition's name (default: the folder's)")
    parser.add_argument("--metric", help="what it is scored by (default: accuracy)")
    parser.add_argument("--limit", type=int, default=5_000_000, help="the most parameters (default: 5,000,000)")
    parser.add_argument("--size", type=int, help="height and width of the images in pixels (default: as they are)")
    parser.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction, help="may an image be mirrored and keep its class?"
    )
    parser.add_argument("--kaggle", metavar="NAME", help="its name on Kaggle, the end of its address")
    given = vars(parser.parse_args(words))

    from featherweight.quality import competition_file as make

    made = make.init(given.pop("folder"), **given)
    print("\n".join([*made.found, "", "assumed, and how to change it:", *made.assumed, "", f"wrote {made.path}"]))
    print(f"next: ./run.sh wrn16_4 --competition {made.path.stem}")
    return 0


def inspect(words: Sequence[str]) -> int:
    """The data, before training."""
    parser = parser_of("inspect", "Look for what spoils scores: imbalance, copies, leaks through the split, shift.")
    parser.add_argument("competition", help="a competition's name, or the path of its file")
    given = parser.parse_args(words)
    paths.find_config("competitions", given.competition)

    from featherweight.quality import inspection

    print(f"wrote {inspection.inspect(given.competition)}")
    print(f"next: ./run.sh wrn16_4 --competition {given.competition}")
    return 0


def check(words: Sequence[str]) -> int:
    """Weigh recipes."""
    parser = parser_of("check", "Weigh a recipe against a competition's limit. Exit code 3 when it is over.")
    parser.add_argument("recipe", help="a recipe's name, the path of a recipe file, or 'all'")
    add_configuration(parser)
    given = parser.parse_args(words)
    if given.recipe != "all":
        paths.find_config("recipes", given.recipe, also=["all"])

    from featherweight import budget, config
    from featherweight.report import tables

    competition = config.load_competition(given.competition)
    if given.recipe == "all":
        recipes = {name: config.load_recipe(name, overrides(given)) for name in paths.config_names("recipes")}
        tables.weigh_ins(budget.weigh_all(recipes, competition))
        print(f"next: ./run.sh RECIPE --competition {given.competition}, with one that makes weight")
        return 0
    recipe = config.load_recipe(given.recipe, overrides(given))
    weighed = budget.weigh(recipe, competition, Path(given.recipe).stem, cross_check=True)
    tables.weigh_in(weighed)
    weighed.refuse_if_over()
    print(f"next: ./run.sh {given.recipe} --competition {given.competition}")
    return 0


def fill(words: Sequence[str]) -> int:
    """Fill the budget."""
    parser = parser_of("fill", "The members of a family of models that fill a parameter limit, as lines for a recipe.")
    parser.add_argument("family", help="wrn, cifar_resnet, efficientnet, mobilenet_v2, densenet, fastnet")
    parser.add_argument("--competition", default="digits", help="whose classes, images and limit")
    parser.add_argument("--limit", type=int, help="parameters (default: the competition's limit)")
    parser.add_argument("--max-macs", type=float, metavar="M", help="at most so many million multiply-adds an image")
    parser.add_argument("--count", type=int, default=10, help="how many to show (default: 10)")
    parser.add_argument("--write", metavar="NAME", help="write the best one as the recipe NAME")
    given = parser.parse_args(words)
    paths.find_config("competitions", given.competition)

    import time

    from featherweight import config
    from featherweight.budget import solver
    from featherweight.report import tables

    if given.family not in solver.SEARCHES:
        known = ", ".join(solver.SEARCHES)
        raise UserError(f"fill: no family '{given.family}'{nearest(given.family, solver.SEARCHES)}; there are {known}")
    began = time.monotonic()
    max_macs = given.max_macs and given.max_macs * 1e6
    found, counted = solver.fill(given.family, config.load_competition(given.competition), given.limit, max_macs)
    if not found:
        raise UserError(f"fill: no {given.family} is that small; raise --limit or --max-macs, or take another family")
    tables.members(found[: given.count], counted, time.monotonic() - began)
    if given.write:
        path = paths.home() / "configs" / "recipes" / f"{given.write}.yaml"
        solver.write(found[0], given.write, path)
        print(f"wrote {path}\nnext: ./run.sh {given.write} --competition {given.competition}")
    else:
        print("next: paste a line into a recipe, or add --write NAME to this command for the first as a recipe")
    return 0


def models(words: Sequence[str]) -> int:
    """The families of models."""
    parser = parser_of("models", "The families of models with their recipes, weighed; or the keys of one family.")
    parser.add_argument("family", nargs="?", help="show this family's keys")
    parser.add_argument("--competition", default="digits", help="a competition's name, or the path of its file")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="PNG",
        nargs="?",
        const=Path("models.png"),
        help="draw parameters against multiply-adds, as models.png or another file",
    )
    given = parser.parse_args(words)
    paths.find_config("competitions", given.competition)

    from featherweight import budget, config
    from featherweight.models import MODELS
    from featherweight.report import model_summary, tables

    if given.family:
        if given.family not in MODELS:
            known = ", ".join(MODELS)
            hint = nearest(given.family, MODELS)
            raise UserError(f"models: there is no family '{given.family}'{hint}; there are {known}")
        tables.family(model_summary.summary(given.family), model_summary.arguments(given.family))
        print("next: ./run.sh check RECIPE --set model.KEY=VALUE")
        return 0
    competition = config.load_competition(given.competition)
    recipes = {name: config.load_recipe(name) for name in paths.config_names("recipes")}
    weighed = budget.weigh_all(recipes, competition)
    tables.families(
        model_summary.by_family(recipes, weighed), {family: model_summary.summary(family) for family in MODELS}
    )
    if given.plot:
        model_summary.plot(weighed, given.plot)
        print(f"wrote {given.plot}")
    print("next: ./run.sh models FAMILY for its keys, ./run.sh fill FAMILY to fill the limit")
    return 0


def draw(words: Sequence[str]) -> int:
    """Draw a model."""
    parser = parser_of("draw", "Draw a recipe's model: its stages as RECIPE.model.png, its graph as RECIPE.model.html.")
    parser.add_argument("recipe", help="a recipe's name, or the path of a recipe file")
    add_configuration(parser)
    parser.add_argument("--out", type=Path, default=Path(), metavar="FOLDER", help="where to (default: here)")
    given = parser.parse_args(words)
    paths.find_config("recipes", given.recipe)

    from featherweight import config
    from featherweight.report import model_summary

    recipe = config.load_recipe(given.recipe, overrides(given))
    competition = config.load_competition(given.competition)
    name = Path(given.recipe).stem
    path = given.out / f"{name}.model.png"
    model_summary.draw(recipe, competition, name, path)
    print(f"wrote {path}")
    model_summary.graph(recipe, competition, path.with_suffix(".html"))
    print(f"wrote {path.with_suffix('.html')}")
    print(f"next: ./run.sh check {given.recipe} --competition {given.competition}")
    return 0


def schedule(words: Sequence[str]) -> int:
    """Draw the learning rate."""
    return _look(words, "schedule", "Draw a recipe's learning rate against the epoch.")


def augment(words: Sequence[str]) -> int:
    """Draw augmented images."""
    return _look(words, "augment", "Write a sheet of training images as a recipe augments and mixes them.")


def doctor(words: Sequence[str]) -> int:
    """The environment."""
    parser_of("doctor", "Look at the environment and say what is wrong. Exit code 2 when something is.").parse_args(
        words
    )

    from featherweight.cli import doctor as surgery
    from featherweight.report import tables

    wrong = tables.findings(surgery.examine())
    print(
        f"{wrong} to mend\nnext: ./run.sh doctor, when it is" if wrong else "nothing is wrong\nnext: ./run.sh wrn16_4"
    )
    return 2 if wrong else 0


def _look(words: Sequence[str], what: str, description: str) -> int:
    parser = parser_of(what, description)
    parser.add_argument("recipe", help="a recipe's name, or the path of a recipe file")
    add_configuration(parser)
    parser.add_argument("--out", type=Path, help=f"the picture to write (default: RECIPE.{what}.png)")
    given = parser.parse_args(words)
    paths.find_config("recipes", given.recipe)

    from featherweight import config
    from featherweight.report import preview

    path = given.out or Path(f"{Path(given.recipe).stem}.{what}.png")
    recipe = config.load_recipe(given.recipe, overrides(given))
    competition = config.load_competition(given.competition)
    print(getattr(preview, what)(recipe, competition, path))
    print(f"wrote {path}")
    print(f"next: ./run.sh {given.recipe} --competition {given.competition}")
    return 0


def schema(words: Sequence[str]) -> int:
    """Schemas for editors."""
    parser = parser_of(
        "schema", "Write recipe.schema.json and competition.schema.json, which editors check YAML files against."
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=paths.home() / "configs", help="where to (default: configs)"
    )
    given = parser.parse_args(words)

    from featherweight import atomic, config

    for kind in (config.Recipe, config.Competition):
        path = given.folder / f"{kind.__name__.lower()}.schema.json"
        atomic.write_text(path, config.json_schema(kind))
        print(f"wrote {path}")
    print("next: put `# yaml-language-server: $schema=../recipe.schema.json` on top of a recipe")
    return 0


def reference(words: Sequence[str]) -> int:
    """The page of all keys."""
    parser = parser_of("reference", "Write docs/reference.md: every key of a recipe and of a competition.")
    parser.add_argument("path", type=Path, nargs="?", default=paths.home() / "docs" / "reference.md", help="where to")
    given = parser.parse_args(words)

    from featherweight import atomic
    from featherweight.config import reference as book

    atomic.write_text(given.path, book.page())
    print(f"wrote {given.path}")
    print("next: ./run.sh check RECIPE --set KEY=VALUE")
    return 0
