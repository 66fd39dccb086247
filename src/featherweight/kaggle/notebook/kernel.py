"""The folder of a code competition: a notebook, and the data set that holds all it needs, for Kaggle's own client.

    NAME/code/    kernel-metadata.json and kernel.py     kaggle kernels push -p NAME/code
    NAME/data/    dataset-metadata.json, the run or the recipe, and wheels     kaggle datasets create -p NAME/data

The notebook needs no network, but for weights of a hub. It takes from its own environment what is there (torch, numpy,
pandas) and from the data set's wheels what is not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from featherweight import atomic, budget, paths
from featherweight.config import Competition, Recipe, load_competition, load_recipe, store
from featherweight.config.competition import Kernel
from featherweight.data.archive import zipped
from featherweight.errors import UserError
from featherweight.kaggle.download import data_folder, kaggle_name
from featherweight.kaggle.notebook import script, wheels
from featherweight.models.custom import CustomModel
from featherweight.models.pretrained_weights import PACKAGE, starts_pretrained
from featherweight.runs import bundle, ledger
from featherweight.runs.run import Run
from featherweight.runs.weigh_run import is_run

OWNER_PLACEHOLDER = "YOUR-NAME"  # where the user's name on Kaggle belongs
CARRIED = (
    "annotated-types", "filelock", "markdown-it-py", "mdurl", "pydantic", "pydantic_core", "pygments", "rich",
    "ruamel.yaml", "safetensors", "typing-inspection", "typing_extensions",
)  # fmt: skip
OF_FAMILIES = {"efficientnet_pytorch": "efficientnet-pytorch"}  # timm and torchvision are on Kaggle
SOURCES = "source.bundle"  # a network of the user's own, zipped
SHORTEST, LONGEST = 6, 50  # of the names that Kaggle takes


@dataclass(frozen=True)
class KernelRequest:
    """What a notebook shall do: predict with a run, or train a recipe and predict, for a competition."""

    name: str
    competition_name: str
    competition: Competition
    run: Run | None
    recipe: Recipe

    @property
    def slug(self) -> str:
        """The notebook's name on Kaggle; its data set has the same."""
        words = re.sub(r"[^a-z0-9]+", "-", f"fw-{self.name}-{self.competition_name}".lower()).strip("-")
        if len(words) <= LONGEST:
            return words
        return f"{words[: LONGEST - 9].rstrip('-')}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"

    @property
    def rules(self) -> Kernel:
        """The competition's rules for notebooks."""
        return self.competition.kernel or Kernel()


def request_of(what: str, competition_name: str | None) -> KernelRequest:
    """Return the request for a run or recipe of this name. Raises UserError if it cannot be sent."""
    if not is_run(what):
        if what not in paths.config_names("recipes") and not what.endswith((".yaml", ".yml")):
            Run.find(what)  # says that there is no such run, with the nearest
        if competition_name is None:
            raise UserError(f"pass --competition NAME: the competition that the recipe {what} is trained for")
        recipe, competition = load_recipe(what), load_competition(competition_name)
        _refuse_what_stays_here(what, recipe, competition)
        budget.weigh(recipe, competition.seen_by(recipe), what).refuse_if_over()
        return KernelRequest(Path(what).stem, Path(competition_name).stem, competition, None, recipe)
    run = Run.find(what)
    if not run.is_finished:
        raise UserError(f"{run.name} is not finished: ./run.sh resume {run.name}")
    name = competition_name or run.competition_name
    competition = load_competition(name)
    if (competition.classes, competition.target) != (run.competition.classes, run.competition.target):
        raise UserError(f"{run.name} was not trained for the classes of {name}; name another run or --competition")
    run.weigh()
    return KernelRequest(run.name, Path(name).stem, competition, run, run.recipe)


def _refuse_what_stays_here(what: str, recipe: Recipe, competition: Competition) -> None:
    """Raise UserError for a recipe that needs something which a notebook does not have."""
    here = "train it here, then ./run.sh kernel RUN takes the run along"
    weights = recipe.model.arguments.get("weights")
    for key, there in (("distill.teachers", recipe.distill and recipe.distill.teachers), ("pseudo", recipe.pseudo)):
        if there:
            raise UserError(f"{what} learns from runs that a notebook does not have ({key}): {here}")
    if isinstance(recipe.model, CustomModel) and not recipe.model.sources:
        raise UserError(f"{what}: the code of {recipe.model.name} is in an installed package, which stays here: {here}")
    if weights is not None and not weights.startswith(PACKAGE):
        raise UserError(f"{what} starts from a file, {weights}, which a notebook does not have: {here}")
    if _asks_a_hub(recipe) and not (competition.kernel or Kernel()).internet:
        raise UserError(
            f"{what} starts from weights of a hub, and the notebook has no network (kernel.internet): set "
            f"weights: {PACKAGE}NAME, which comes along, or {here}"
        )


def _asks_a_hub(recipe: Recipe) -> bool:
    return starts_pretrained(recipe.model) and recipe.model.arguments.get("weights") is None


def write(request: KernelRequest, *, gpu: bool = False, owner: str = OWNER_PLACEHOLDER) -> Path:
    """Write the notebook's code and data, each complete, and return the folder. Raises UserError if the competition
    forbids what is asked.
    """
    slug = kaggle_name(request.competition_name, request.competition)
    if gpu and request.competition.kernel and not request.rules.gpu:
        raise UserError(f"--gpu: {request.competition_name} allows notebooks none (kernel.gpu in its file)")
    plan: dict[str, Any] = {
        "dataset": request.slug,
        "competition": slug,
        "competition_name": request.competition_name,
        "folder": _data_folder(request),
        "run": "run.bundle" if request.run else "",
        "recipe": request.name,
        "sources": SOURCES if request.run is None and isinstance(request.recipe.model, CustomModel) else "",
        "minutes": request.rules.minutes,
    }
    target = paths.kernels() / request.slug  # where what was sent, and what came of it, stay
    with atomic.replaced_folder(target / "data") as data, atomic.replaced_folder(target / "code") as code:
        _write_data(data, request, owner)
        plan["files"] = {file.name: ledger.sha256(file) for file in sorted(data.iterdir()) if file.suffix != ".json"}
        text = Path(script.__file__).read_text().replace('r"""{}"""', f'r"""{json.dumps(plan)}"""')
        (code / "kernel.py").write_text(text)
        _write_json(code / "kernel-metadata.json", _notebook(request, slug, owner, gpu))
    return target


def _notebook(request: KernelRequest, slug: str, owner: str, gpu: bool) -> dict[str, Any]:
    return {
        "id": f"{owner}/{request.slug}",
        "title": request.slug,  # else Kaggle makes another name of it
        "code_file": "kernel.py",
        "language": "python",
        "kernel_type": "script",
        "is_private": True,
        "enable_gpu": gpu,
        "enable_tpu": False,
        "enable_internet": request.run is None and _asks_a_hub(request.recipe),
        "dataset_sources": [f"{owner}/{request.slug}"],
        "competition_sources": [slug],
        "kernel_sources": [],
        "model_sources": [],
    }


def _write_data(folder: Path, request: KernelRequest, owner: str) -> None:
    """Write the files the notebook needs, without subfolders, which Kaggle's client would leave out."""
    about = {"id": f"{owner}/{request.slug}", "title": request.slug, "licenses": [{"name": "other"}]}
    _write_json(folder / "dataset-metadata.json", about)
    model, needed = request.recipe.model, list(CARRIED)
    if request.run:  # each a zip by another name: Kaggle unpacks those that it knows
        bundle.write(request.run, folder / "run.bundle")
    elif isinstance(model, CustomModel):
        sources = {name: text.encode() for name, text in sorted(model.sources.items())}
        (folder / SOURCES).write_bytes(zipped(sources))
    store(request.recipe, folder / "recipe.yaml")
    store(request.competition, folder / "competition.yaml")
    if model.name in OF_FAMILIES:
        needed.append(OF_FAMILIES[model.name])
    weights = str(model.arguments.get("weights") or "")
    if not request.run and weights.startswith(PACKAGE):
        module = weights.removeprefix(PACKAGE).partition("/")[0]
        needed += metadata.packages_distributions().get(module, [module])[:1]
    for name, content in [wheels.of_this_package(), *map(wheels.of_installed, needed)]:
        (folder / name).write_bytes(content)


def _data_folder(request: KernelRequest) -> str:
    """Return the folder below the data folder for the competition's data; empty for built-in data.

    Raises UserError for data that lie elsewhere on this machine, which no link on another puts in their place.
    """
    folder = data_folder(request.competition)
    outside = next((name for name in [folder] if Path(name).is_absolute()), None)
    if outside is not None:
        raise UserError(
            f"{request.competition.title}: its data lie in {outside}, outside {paths.data()}, and the notebook finds "
            f"them by their place below that\nmove them there, delete the competition's file, and init them anew"
        )
    return folder


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
