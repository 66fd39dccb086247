"""The request that starts a run: its model is counted and refused first, then its folder is made, whole."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import torch

from featherweight import __version__, atomic, budget, paths
from featherweight.budget.memory import within_memory
from featherweight.config import Competition, Recipe, store
from featherweight.config.recipe import ImageOfRecipe
from featherweight.console import say
from featherweight.data.photos import RESAMPLING
from featherweight.errors import UserError
from featherweight.models import outline
from featherweight.models.custom import store_sources
from featherweight.models.input_sizes import refuse_other_sizes
from featherweight.models.pretrained_weights import expected_input
from featherweight.runs import ledger
from featherweight.runs.metadata import Metadata
from featherweight.runs.run import Run
from featherweight.runtime import device as devices
from featherweight.runtime import launcher, processes
from featherweight.runtime.device import NATIVE, Runtime
from featherweight.runtime.processes import ALONE, Processes
from featherweight.training.head import heads_of
from featherweight.training.losses import loss_for


@dataclass(frozen=True)
class RunRequest:
    """What a run shall do: a recipe for a competition, with their names, and where to work.

    `command` is what the user typed, word by word. `device`, `threads` and `procs` are as on the command line.
    """

    recipe_name: str
    recipe: Recipe
    competition_name: str
    competition: Competition
    command: list[str]
    device: str = "auto"
    threads: int | None = None
    procs: int | None = None

    def start(self, name: str | None = None) -> Run:
        """Count the model's parameters, then make the run's folder, whole, with everything needed to continue after a
        kill.

        The run will have `procs` processes; if torchrun has started these, all of them call this.
        """
        everyone = processes.join()
        if self.procs is not None and launcher.inside():
            started = f"torchrun has started {everyone.count} processes already"
            raise UserError(f"--procs {self.procs}: {started}; leave --procs out")
        several = everyone if self.procs is None else processes.planned(self.procs)

        def make() -> str:
            with self.new_folder(name, several) as run:
                return run.name

        return replace(Run.find(everyone.once(make)), is_new=True)

    @contextmanager
    def new_folder(
        self,
        name: str | None,
        several: Processes = ALONE,
        members: tuple[str, ...] = (),
        weights: tuple[float, ...] = (),
    ) -> Iterator[Run]:
        """Yield a run whose folder is hidden while the caller puts files into it; at the end it appears, whole.

        `several` are its processes; `members` and their `weights` make it an ensemble. An error or a kill before the
        end leaves no run.
        """
        recipe = self.recipe if members else cropped_as_published(self.recipe, self.competition)
        competition = self.competition.seen_by(recipe)
        default = paths.plain(f"{self.recipe_name}-{self.competition_name}-s{recipe.seed}")
        paths.refuse_name(default if name is None else name, "--name")
        budget.weigh(recipe, competition, self.recipe_name).refuse_if_over()
        refuse_what_does_not_fit(recipe, competition)
        runtime = self._runtime(several)
        recipe = _settled(recipe, runtime)
        if not members:
            recipe = within_memory(recipe, competition, runtime, several.count)
        metadata = replace(self._metadata(several), members=members, weights=weights)
        for place in (paths.runs(), paths.submissions()):  # what the run writes into at its end
            paths.refuse_unwritable(place)
        ledger.refuse_damaged()
        names = _names(name, default)
        with atomic.folder(paths.runs(), names) as folder:
            store(recipe, folder / "recipe.yaml")
            store_sources(recipe.model, folder)
            store(self.competition, folder / "competition.yaml")
            metadata.write(folder)
            yield Run(folder, recipe, competition, metadata)

    def _metadata(self, several: Processes) -> Metadata:
        return Metadata(
            recipe=self.recipe_name,
            competition=self.competition_name,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            command=shlex.join(self.command),
            commit=commit(),
            device=self.device,
            threads=self.threads or max(torch.get_num_threads() * launcher.count(), several.count),
            processes=several.count,
            versions={
                "featherweight": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        )

    def _runtime(self, several: Processes) -> Runtime:
        """Return the runtime. Raises UserError for what this machine lacks."""
        if self.recipe.train.compile and several.count > 1:
            raise UserError("train.compile does not support several processes: leave it out, or run one process")
        if self.threads is not None and 1 <= self.threads < several.count:
            raise UserError(f"--threads {self.threads}: expected one or more for each of the {several.count} processes")
        return devices.make_runtime(self.device, self.recipe.train.precision, self.threads, several)


def refuse_what_does_not_fit(recipe: Recipe, competition: Competition) -> None:
    """Raise UserError if a recipe shows its model images of a size that it does not take, or if a key is for one class
    per image and the competition has several.
    """
    loss_for(recipe.loss, several=competition.target == "several")
    _refuse_head(recipe, competition)
    if competition.target == "several":
        for key, there in (("distill", recipe.distill), ("pseudo", recipe.pseudo)):
            if there is not None:
                raise UserError(f"{key} supports one class per image, but images here have several; leave it out")
    growing = recipe.progressive.scales if recipe.progressive else []
    viewed = [factor for view in recipe.predict.views if view.name == "scales" for factor in view.arguments["factors"]]
    for where, scales in (("progressive.scales", growing), ("predict.views: scales", viewed)):
        refuse_other_sizes(where, scales, recipe.model, competition.seen_by(recipe).shape)


def _settled(recipe: Recipe, runtime: Runtime) -> Recipe:
    """Return the recipe with what its precision `native` is in this runtime.

    That is found by timing, which may turn out otherwise next time. So it is stored with the run, for whatever
    continues or uses the run, in every process.
    """
    if recipe.train.precision != "native":
        return recipe
    precision = NATIVE[runtime.dtype is not None]
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"precision": precision})})


def cropped_as_published(recipe: Recipe, competition: Competition) -> Recipe:
    """Return the recipe with the crop and interpolation with which its pretrained weights were published, unless the
    recipe or the competition's file sets them; print what was changed.
    """
    image = competition.seen_by(recipe).image
    expected = expected_input(recipe.model) if image.store is not None else None
    if expected is None:
        return recipe
    own, declared = recipe.image or ImageOfRecipe(), competition.declared_image.model_fields_set
    published = {"crop": expected.crop_pct, "interpolation": expected.interpolation}
    changes = {
        key: value
        for key, value in published.items()
        if getattr(own, key) is None and key not in declared and value != getattr(image, key)
    }
    if changes.get("interpolation") not in (None, *RESAMPLING):
        del changes["interpolation"]
    if changes:
        words = ", ".join(f"image.{key}={value}" for key, value in changes.items())
        say(f"  {words}: as published with the pretrained weights")
    return recipe.model_copy(update={"image": own.model_copy(update=changes)}) if changes else recipe


def _refuse_head(recipe: Recipe, competition: Competition) -> None:
    """Raise UserError for settings of the network's head that its network or competition does not allow."""
    if recipe.head.start == "probe" and competition.target == "several":
        raise UserError("head.start: a linear probe supports single-label targets only: --set head.start=random")
    if recipe.head.start == "probe" or recipe.head.epochs:
        shape = competition.seen_by(recipe).shape
        heads_of(outline(recipe.model, shape), recipe.model, shape)


def _names(name: str | None, default: str) -> Iterator[str]:
    """Yield the names a run may take: the one given, or the default and then the default with a number."""
    yield name or default
    if name is None:
        yield from (f"{default}-{number}" for number in range(2, sys.maxsize))
    else:
        raise _taken(name)


def refuse_name(name: str) -> None:
    """Raise UserError for a name that a new run cannot have: not a plain name, or that of something that exists."""
    paths.refuse_name(name, "--name")
    if (paths.runs() / name).exists():
        raise _taken(name)


def _taken(name: str) -> UserError:
    folder = paths.runs() / name
    if folder.is_dir() and not Run.exists(name):
        return UserError(f"{folder} exists and is not a run: move it away, or use another --name")
    made_at_once = Run.exists(name) and Run.find(name).is_ensemble
    remedy = "" if made_at_once else f"./run.sh resume {name}, or "
    return UserError(f"there is a run called '{name}' already: {remedy}use another --name")


def commit() -> str:
    """Return the commit of this code, with a + if it was changed since; empty outside a checkout."""
    if paths.INSTALLED:  # git would report the repository around it
        return ""
    git = ["git", "-C", str(paths.CHECKOUT)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--", "src", "configs"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if dirty.stdout.strip() else "")
