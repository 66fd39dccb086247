"""The main job, in the order of the flow: weigh, load, split, fit, predict, write, check, score, record.

Everything a run is lies in its folder, `runs/<name>/`, and every stage that is done is found done: that is all there is
to resuming. A run of several processes is the same in each of them up to its predictions, which they make together;
what is written, the first one writes.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from featherweight import __version__, atomic, budget, ledger, submission, workers, workspace
from featherweight.config import Competition, Pseudo, Recipe, Split, load_competition, load_recipe, store
from featherweight.data import csv_file, pack
from featherweight.data.csv_file import examples
from featherweight.data.pack import Data, Pack
from featherweight.data.split import divide as split_ids
from featherweight.data.split import folds, groups_of, holdout_ranks, scarce
from featherweight.errors import Lost, UserError, nearest
from featherweight.inference import fit_temperature, predict_probs, temper
from featherweight.models import Classifier, build
from featherweight.progress import Progress, say
from featherweight.randomness import derive
from featherweight.scoring import Score
from featherweight.training import checkpoint, processes, runtime
from featherweight.training.augment import MIRRORING
from featherweight.training.distillation import NOBODY, Teachers, read_saved
from featherweight.training.growth import refuse_what_cannot_grow
from featherweight.training.loop import fit
from featherweight.training.processes import ALONE, Processes
from featherweight.training.runtime import Runtime


@dataclass(frozen=True)
class Run:
    """A run's folder and what was said when it was started."""

    folder: Path
    recipe_name: str
    competition_name: str
    recipe: Recipe
    competition: Competition
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the run, its folder and its CSV."""
        return self.folder.name

    @property
    def weights(self) -> Path:
        """What ships."""
        return self.folder / "weights.safetensors"

    @property
    def temperature(self) -> Path:
        """What the probabilities are tempered by, in a run that calibrates."""
        return self.folder / "temperature.txt"

    @property
    def csv(self) -> Path:
        """What is uploaded."""
        return workspace.submissions() / f"{self.name}.csv"


@dataclass(frozen=True)
class Result:
    """What a finished run has to show."""

    parameters: int
    limit: int
    holdout: Score
    test: Score | None
    minutes: float


def start(
    recipe_name: str,
    recipe: Recipe,
    competition_name: str,
    competition: Competition,
    *,
    name: str | None,
    device: str,
    threads: int | None,
    procs: int | None = None,
    command: list[str],
) -> Run:
    """Weigh the model, then make the run's folder, whole, with everything needed to go on after a kill.

    It will be of `procs` processes; if these have been started by torchrun, all of them call this.
    """
    everyone = processes.join()
    if procs is not None and workers.inside():
        raise UserError(f"--procs {procs}: torchrun has started {everyone.count} processes already; leave --procs out")
    several = everyone if procs is None else processes.planned(procs)

    def make() -> str:
        with making(
            recipe_name,
            recipe,
            competition_name,
            competition,
            name=name,
            device=device,
            threads=threads,
            several=several,
            command=command,
        ) as made:
            return made.name

    return find(everyone.once(make))


@contextmanager
def making(
    recipe_name: str,
    recipe: Recipe,
    competition_name: str,
    competition: Competition,
    *,
    name: str | None,
    device: str,
    threads: int | None,
    several: Processes = ALONE,
    command: list[str],
    more: Mapping[str, Any] = {},
) -> Iterator[Run]:
    """A run whose folder is out of sight while one puts into it what it is to hold; at the end it appears, whole.

    `several` are the processes it will be of; `more` are further facts of it. A fault or a kill before the end leaves
    no run.
    """
    budget.weigh(recipe, competition, recipe_name).refuse_if_over()
    if recipe.growth is not None:
        refuse_what_cannot_grow(recipe.growth, recipe.model, len(competition.classes), competition.image)
    if recipe.train.compile and several.count > 1:
        raise UserError("train.compile: a batch that several processes share goes through the model as it is written")
    if threads is not None and 1 <= threads < several.count:
        raise UserError(f"--threads {threads}: expected one or more for each of the {several.count} processes")
    runtime.start(device, recipe.train.precision, threads, several)  # which refuses what this machine does not have
    facts = {
        "recipe": recipe_name,
        "competition": competition_name,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command),
        "commit": commit(),
        "device": device,
        "threads": threads or max(torch.get_num_threads() * workers.count(), several.count),
        "processes": several.count,
        "versions": {"featherweight": __version__, "torch": torch.__version__, "python": platform.python_version()},
        **more,
    }
    names = _names(name, f"{recipe_name}-{competition_name}-s{recipe.seed}")
    with atomic.folder(workspace.runs(), names) as folder:
        store(recipe, folder / "recipe.yaml")
        store(competition, folder / "competition.yaml")
        atomic.write_text(folder / "run.json", json.dumps(facts, indent=2) + "\n")
        yield Run(folder, recipe_name, competition_name, recipe, competition, facts)


def find(name: str) -> Run:
    """The run of that name (or in that folder). Raises UserError with the nearest name."""
    folder = next((f for f in (workspace.runs() / name, Path(name)) if (f / "run.json").is_file()), None)
    if folder is None:
        known = sorted(path.parent.name for path in workspace.runs().glob("*/run.json"))
        raise UserError(f"there is no run called '{name}'{nearest(name, known)} See them all: ./run.sh runs")
    facts = json.loads((folder / "run.json").read_text())
    recipe = load_recipe(str(folder / "recipe.yaml"))
    competition = load_competition(str(folder / "competition.yaml"))
    return Run(folder.resolve(), facts["recipe"], facts["competition"], recipe, competition, facts)


def run(run: Run) -> Result:
    """Do what of a run is not yet done, from the weigh-in to the ledger; a run already finished is told again.

    The processes of a run of several are started here, unless torchrun has done so. Raises `Lost` when one is killed.
    """
    if "members" in run.facts:
        raise UserError(f"{run.name} is an ensemble, made at once; there is nothing to go on with")
    several = run.facts.get("processes", 1)
    try:
        if several > 1 and not workers.inside():
            workers.launch(several, ["resume", str(run.folder), "--worker"])
            return _told(run)
        if several != workers.count():
            raise UserError(f"{run.name} is a run of {several} processes; torchrun has started {workers.count()}")
        everyone = processes.join()
        with ExitStack() as until_done:
            everyone.once(lambda: _claim(run, until_done))
            result = _run(run, everyone)
        processes.leave()
        return result
    except Lost as error:
        raise Lost(f"{error}; go on with: ./run.sh resume {run.name}") from error


def _claim(run: Run, until_done: ExitStack) -> None:
    """Keep others off the run, and clear away what a killed process was writing."""
    try:
        until_done.enter_context(FileLock(run.folder / "run.lock", timeout=0))
    except Timeout:
        raise UserError(f"the run {run.name} is being worked on by another process") from None
    for cut_off in run.folder.glob(".*.part"):
        cut_off.unlink()


def _run(run: Run, everyone: Processes) -> Result:
    recipe, competition = run.recipe, run.competition
    facts = run.facts
    device = everyone.each(lambda: runtime.start(facts["device"], recipe.train.precision, facts["threads"], everyone))
    weighed = budget.weigh(recipe, competition, run.recipe_name)
    weighed.refuse_if_over()
    say(f"{run.name}: {weighed.counted:,} of {weighed.limit:,} parameters, {weighed.macs / 1e6:,.1f} M multiply-adds")

    try:
        data = everyone.each(lambda: pack.load(competition.source, competition.image, competition.classes))
    except UserError:
        if everyone.first and not (run.folder / "split.json").exists():
            shutil.rmtree(run.folder)  # a run that has not seen an image is no run to go on with
        raise
    train, holdout, kept = everyone.each(lambda: split(run, data))
    to_predict = len(data.test) if data.test else 0
    aside = f"{len(kept):,} kept for the end, " if kept else ""
    say(f"  {len(train):,} images to train on, {len(holdout):,} held out, {aside}{to_predict:,} to predict")
    for thin in _thin(run, data.train, holdout):
        say(f"  {thin}")

    shown = everyone.each(lambda: with_pseudo_labels(run, train, holdout, data.test))
    model = train_model(run, shown, holdout, device)
    budget.weigh_model(model, competition, run.recipe_name).refuse_if_over()
    for part, images in (("holdout", holdout), ("kept", kept), ("test", data.test)):
        if images is not None:
            _probs(run, part, model, images, device)
    return everyone.once(lambda: _conclude(run, weighed, model, data, holdout, kept, device))


def _conclude(
    run: Run,
    weighed: budget.WeighIn,
    model: Classifier,
    data: Data,
    holdout: Pack,
    kept: Pack | None,
    device: Runtime,
) -> Result:
    """From the probabilities, which are all there, to the ledger."""
    if run.recipe.predict.calibrate and not run.temperature.exists():
        assert holdout.labels is not None
        fitted = fit_temperature(_probs(run, "holdout", model, holdout, device), holdout.labels)
        atomic.write_text(run.temperature, f"{fitted}\n")
    held = _scored(run, "holdout", model, holdout, device)
    ended = _scored(run, "kept", model, kept, device) if kept else None

    tested = _submit(run, model, data, device) or ended
    result = Result(weighed.counted, weighed.limit, held, tested, minutes(run))
    record(run, result, weighed.macs)
    return result


def _scored(run: Run, part: str, model: Classifier, images: Pack, device: Runtime) -> Score:
    """A labelled part goes the way of the test set: predicted, written, checked and scored as a CSV of its own."""
    competition, path = run.competition, run.folder / f"{part}.csv"
    form = submission.holdout_form(competition, images.ids)
    submission.write(path, form, images.ids, _calibrated(run, _probs(run, part, model, images, device)))
    assert images.labels is not None
    truth = dict(zip(images.ids, (competition.classes[label] for label in images.labels), strict=True))
    return submission.score(path, form, truth, competition)


def _thin(run: Run, train: Pack, holdout: Pack) -> list[str]:
    """In words, what there is too little of to be scored well."""
    assert holdout.labels is not None
    there, names = set(holdout.labels.tolist()), run.competition.classes
    gone = [name for place, name in enumerate(names) if place not in there]
    told = [f"not in the holdout, so not scored: {examples(gone)}"] if gone else []
    if run.recipe.split.folds is not None:
        assert train.labels is not None
        short = scarce([names[label] for label in train.labels], run.recipe.split.folds)
        told += [f"{short}: some folds lack them"] if short else []
    return told


def divide(wanted: Split, competition: Competition, data: Data) -> tuple[Pack, Pack, Pack | None]:
    """The images to train on, those held out, and those kept for the end, if the recipe wants any.

    A validation part that came with the data is held out as it is, unless the recipe asks for folds.
    """
    train = data.train
    assert train.labels is not None
    if wanted.subset is not None and wanted.subset < len(train):
        used = holdout_ranks(train.ids, _labels(train), wanted.subset / len(train), wanted.seed)
        train = train.take(np.flatnonzero(used & (np.cumsum(used) <= wanted.subset)))
    if data.valid is not None and wanted.folds is None:
        return train, data.valid, None
    labels, groups, seed = _labels(train), _groups(competition, train), wanted.seed + 1
    kept = None
    if wanted.folds is not None:
        if wanted.test is not None:
            first = split_ids(train.ids, labels, holdout=wanted.test, seed=seed, groups=groups)
            kept, train = train.take(first.holdout), train.take(first.train)
            labels, groups = _labels(train), None if groups is None else [groups[place] for place in first.train]
        fold = folds(train.ids, labels, wanted.folds, seed, groups)
        return train.take(np.flatnonzero(fold != wanted.fold)), train.take(np.flatnonzero(fold == wanted.fold)), kept
    parts = split_ids(train.ids, labels, holdout=wanted.holdout, test=wanted.test or 0, seed=seed, groups=groups)
    kept = train.take(parts.test) if len(parts.test) else None
    return train.take(parts.train), train.take(parts.holdout), kept


def _groups(competition: Competition, train: Pack) -> list[str] | None:
    """Which images must stay together: by the competition's pattern, its CSV, or what the source knows."""
    if competition.group is not None:
        return groups_of(train.ids, competition.group)
    if competition.groups is not None:
        table = csv_file.read(workspace.data() / competition.groups)
        group_of = dict(zip(table.column("id"), table.column("group"), strict=True))
        return [group_of.get(id, id) for id in train.ids]
    return train.groups


def _labels(pack: Pack) -> list[str]:
    assert pack.labels is not None
    return [str(label) for label in pack.labels]


def split(run: Run, data: Data) -> tuple[Pack, Pack, Pack | None]:
    """The parts of `divide`, stored as ids. Raises UserError if they are not those of the run's start."""
    train, holdout, kept = divide(run.recipe.split, run.competition, data)
    told = {"train": train.ids, "holdout": holdout.ids, **({"test": kept.ids} if kept else {})}
    text = json.dumps(told) + "\n"
    stored = run.folder / "split.json"
    if not stored.exists():
        atomic.write_text(stored, text)
    elif stored.read_text() != text:
        raise UserError(f"the images are not those that {run.name} was started with ({stored}); start a new run")
    return train, holdout, kept


def train_model(
    run: Run,
    train: Pack,
    holdout: Pack,
    device: Runtime,
    watching: Callable[[Mapping[str, Any]], None] = lambda row: None,
) -> Classifier:
    """The run's model, trained; one that is trained is found so. See `fit` for who is `watching`."""
    competition, recipe = run.competition, run.recipe
    teachers = NOBODY if run.weights.exists() else _teachers(run, train, holdout, device)
    torch.manual_seed(derive(recipe.seed, "init"))
    model = build(recipe.model, len(competition.classes), competition.image.channels, competition.image.size)
    if not run.weights.exists():
        augment = augmentations(recipe, competition)
        fit(
            recipe,
            model,
            train,
            holdout,
            len(competition.classes),
            augment,
            device,
            run.folder,
            teachers,
            competition.metric,
            watching,
        )
        device.processes.once(lambda: checkpoint.save_weights(run.weights, model))
        if device.processes.first:
            (run.folder / "checkpoint.pt").unlink(missing_ok=True)
    checkpoint.load_weights(run.weights, model)
    return model


def _teachers(run: Run, train: Pack, holdout: Pack, device: Runtime) -> Teachers:
    """The models a recipe learns from, and what is saved of others."""
    models: list[Classifier] = []
    saved: list[NDArray[np.float32]] = []
    distill = run.recipe.distill
    for name in distill.teachers if distill else []:
        assert distill is not None
        if name.endswith(".npz"):
            saved.append(read_saved(workspace.home() / name, train.ids, run.competition.classes))
            say(f"  taught by {name}, which must not know the images held out; that cannot be seen from here")
            continue
        where = f"distill.teachers: {name}"
        teacher = _elder(run, name, where, holdout)
        if members := teacher.facts.get("members"):
            raise UserError(f"{where} is an ensemble; name its members: {', '.join(members)}")
        model = shipped(teacher)
        count = sum(parameter.numel() for parameter in model.parameters())
        say(f"  taught by {name}: {count:,} parameters, which do not ship and do not count")
        if distill.once:
            saved.append(_probs(run, f"taught-{name}", model, train, device))
        else:
            models.append(model)
    if not (distill and saved):
        return Teachers(models)
    mean = np.mean([temper(probs, distill.temperature) for probs in saved], axis=0, dtype=np.float64)
    return Teachers(models, torch.from_numpy(mean.astype(np.float32)), len(saved))


def _elder(run: Run, name: str, where: str, holdout: Pack) -> Run:
    """A run that this one learns from. Raises UserError for one that is not trained, knows other classes, or knows the
    holdout.
    """
    elder = find(name)
    if not elder.weights.exists():
        raise UserError(f"{where} is not trained yet: ./run.sh resume {name}")
    ours, theirs = run.competition, elder.competition
    if (ours.classes, ours.image) != (theirs.classes, theirs.image):
        raise UserError(f"{where} knows other classes, or images of another size, than {run.competition_name} has")
    trained = [elder, *(find(member) for member in elder.facts.get("members", []))]
    known = _trained_on(trained).intersection(holdout.ids)
    if known:
        raise UserError(
            f"{where} was trained on {len(known)} of the {len(holdout)} images held out here, whose score would "
            f"mean nothing; give both the same split section"
        )
    return elder


def _trained_on(runs: Iterable[Run]) -> set[str]:
    """The ids of all training images of these runs."""
    splits = (run.folder / "split.json" for run in runs)
    return {id for split in splits if split.exists() for id in json.loads(split.read_text())["train"]}


def with_pseudo_labels(run: Run, train: Pack, holdout: Pack, test: Pack | None) -> Pack:
    """The training images and, where the recipe asks for them, test images by the classes another run is sure of.

    Which these are is kept in the run's folder when it starts. What the test images truly are is not looked at.
    """
    wanted = run.recipe.pseudo
    if wanted is None or run.weights.exists():
        return train
    if test is None:
        raise UserError(f"pseudo: {run.competition.title} has no test images")
    stored = run.folder / "pseudo.json"
    if not stored.exists():
        given = _sure_of(run, wanted, holdout, test)
        atomic.write_text(stored, json.dumps(given) + "\n")
    given = json.loads(stored.read_text())
    places = np.array([place for place, id in enumerate(test.ids) if id in given], dtype=np.int64)
    index = {name: place for place, name in enumerate(run.competition.classes)}
    labels = np.array([index[given[test.ids[place]]] for place in places], dtype=np.int64)
    say(
        f"  {len(places):,} of {len(test):,} test images join, by the class that {wanted.run} gives them with a "
        f"confidence of {wanted.confidence:g} or more; none of them is held out"
    )
    assert train.labels is not None
    return Pack(
        [*train.ids, *(test.ids[place] for place in places)],
        np.concatenate([np.asarray(train.images), np.asarray(test.images[places])]),
        np.concatenate([train.labels, labels]),
    )


def _sure_of(run: Run, wanted: Pseudo, holdout: Pack, test: Pack) -> dict[str, str]:
    """The class of each test image that the labelling run is confident of, by id."""
    where = f"pseudo.run: {wanted.run}"
    elder = _elder(run, wanted.run, where, holdout)
    stored = elder.folder / "test_probs.npy"
    if not stored.exists():
        raise UserError(f"{where} has not predicted the test set yet: ./run.sh resume {wanted.run}")
    probs = _calibrated(elder, np.load(stored))
    if elder.competition.source != run.competition.source or len(probs) != len(test):
        raise UserError(f"{where} has predicted other test images than those of {run.competition_name}")
    sure = np.flatnonzero(probs.max(1) >= wanted.confidence)
    if not len(sure):
        most = f"its surest is {probs.max():.3g}; lower pseudo.confidence"
        raise UserError(f"{where} is sure of no test image at {wanted.confidence:g}: {most}")
    return {test.ids[place]: run.competition.classes[probs[place].argmax()] for place in sure}


def augmentations(recipe: Recipe, competition: Competition) -> list[Any]:
    """The recipe's augmentations, without mirroring where the competition forbids it."""
    return [choice for choice in recipe.augment if competition.image.mirror or choice.name not in MIRRORING]


def views(recipe: Recipe, competition: Competition) -> list[Any]:
    """The recipe's test-time views, without mirroring where the competition forbids it."""
    return [choice for choice in recipe.predict.views if competition.image.mirror or choice.name not in MIRRORING]


def _probs(run: Run, part: str, model: Classifier, images: Pack, device: Runtime) -> NDArray[np.float32]:
    """The model's probabilities for a part of the data, computed once and kept in the run's folder."""
    stored = run.folder / f"{part}_probs.npy"
    if not stored.exists():
        with Progress(f"predict {part}", len(images), "images") as bar:
            probs = predict_probs(
                [model],
                images.images,
                runtime=device,
                views=views(run.recipe, run.competition),
                augment=augmentations(run.recipe, run.competition),
                batch_size=run.recipe.predict.batch_size,
                seed=run.recipe.seed,
                advance=bar.advance,
            )
        buffer = io.BytesIO()
        np.save(buffer, probs)
        device.processes.once(lambda: atomic.write_bytes(stored, buffer.getvalue()))
    kept: NDArray[np.float32] = np.load(stored)
    return kept


def _calibrated(run: Run, probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probabilities at the temperature fitted to the holdout, where the recipe asks for one."""
    return temper(probs, float(run.temperature.read_text())) if run.temperature.exists() else probs


def _submit(run: Run, model: Classifier, data: Data, device: Runtime) -> Score | None:
    """Write and check the submission; score it where the answers are known."""
    if data.test is None:
        return None
    form = submission.form(run.competition, data.test.ids)
    submission.write(run.csv, form, data.test.ids, _calibrated(run, _probs(run, "test", model, data.test, device)))
    submission.check(run.csv, form)
    known, _ = answers(run.competition, form)
    return submission.score(run.csv, form, known, run.competition) if known else None


def score_csv(path: Path, competition: Competition) -> str:
    """Check any submission and, where the answers are known, score it; returns what came out in words."""
    form = _form(competition)
    known, parts = answers(competition, form)
    if not known:
        submission.check(path, form)
        return f"{path} is a valid submission of {len(form.ids):,} rows; the answers are not known here"
    scores = submission.score_parts(path, form, known, parts, competition)
    return "\n".join(f"{f'{part} ' if part else ''}{competition.metric.name} {told}" for part, told in scores.items())


def answers(competition: Competition, form: submission.Form) -> tuple[dict[str, str], dict[str, str]]:
    """The test images' true classes, and the parts (Public, Private) they are scored in, where these are known."""
    if competition.submission.solution is not None:
        return submission.solution(workspace.data() / competition.submission.solution, competition, form)
    return pack.answers(competition.source) or {}, {}


def check_csv(path: Path, competition: Competition) -> int:
    """How many rows a submission has. Raises UserError with the row of the first thing that would be refused."""
    return len(submission.check(path, _form(competition)))


def weigh_weights(run: Run) -> budget.WeighIn:
    """The count made again from the weights that ship, an ensemble's members summed.

    Raises OverBudget, and UserError if they are not the recipe's.
    """
    if members := run.facts.get("members"):
        weighed = budget.weigh_ensemble({name: shipped(find(name)) for name in members}, run.competition, run.name)
    else:
        weighed = budget.weigh_model(shipped(run), run.competition, run.recipe_name)
    weighed.refuse_if_over()
    return weighed


def shipped(run: Run) -> Classifier:
    """The model that a finished run ships. Raises UserError if its weights are not the recipe's."""
    competition = run.competition
    model = build(run.recipe.model, len(competition.classes), competition.image.channels, competition.image.size)
    checkpoint.load_weights(run.weights, model)
    return model


def _form(competition: Competition) -> submission.Form:
    data = pack.load(competition.source, competition.image, competition.classes)
    if data.test is None:
        raise UserError(f"{competition.title} has no test images to submit for")
    return submission.form(competition, data.test.ids)


def _told(run: Run) -> Result:
    """What a run's other processes have recorded."""
    kept = json.loads((run.folder / "result.json").read_text())
    holdout, test = (Score(**kept[part]) if kept[part] else None for part in ("holdout", "test"))
    return Result(**{**kept, "holdout": holdout, "test": test})


def record(run: Run, result: Result, macs: int) -> None:
    """Keep what came out, in the run's folder and in the ledger."""
    atomic.write_text(run.folder / "result.json", json.dumps(asdict(result), indent=2) + "\n")
    test = result.test
    ledger.record(
        {
            "date": run.facts["started"],
            "run": run.name,
            "recipe": run.recipe_name,
            "competition": run.competition_name,
            "seed": run.recipe.seed,
            "parameters": result.parameters,
            "limit": result.limit,
            "macs": macs,
            "epochs": run.recipe.train.epochs,
            "metric": run.competition.metric.name,
            "holdout": round(result.holdout.value, 6),
            "holdout_low": round(result.holdout.low, 6),
            "holdout_high": round(result.holdout.high, 6),
            "holdout_images": result.holdout.count,
            "test": round(test.value, 6) if test else "",
            "test_low": round(test.low, 6) if test else "",
            "test_high": round(test.high, 6) if test else "",
            "test_images": run.csv.read_bytes().count(b"\n") - 1 if run.csv.exists() else "",
            "minutes": round(result.minutes, 2),
            "device": run.facts["device"],
            "commit": run.facts["commit"],
            "csv_sha256": _sha256(run.csv) if run.csv.exists() else "",
            "weights_sha256": _sha256(run.weights),
            "command": run.facts["command"],
            "settings": ledger.settings(run.recipe.model_dump(mode="json")),
        }
    )


def minutes(run: Run) -> float:
    """How long a run trained."""
    lines = (run.folder / "history.csv").read_text().splitlines()
    return float(dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))["seconds"]) / 60


def _names(name: str | None, default: str) -> Iterator[str]:
    """The names a run may take: the one given, or the default and then that with a number."""
    if name is not None and (Path(name).name != name or name in ("", ".", "..")):
        raise UserError(f"--name {name}: expected a plain name, with no folder in it")
    yield name or default
    if name is None:
        yield from (f"{default}-{number}" for number in range(2, sys.maxsize))
    raise UserError(f"there is a run called '{name}' already: ./run.sh resume {name}, or take another --name")


def commit() -> str:
    """The commit of the code that runs, with a + when it has been changed since; empty outside a checkout."""
    git = ["git", "-C", str(workspace.CHECKOUT)]
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


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
