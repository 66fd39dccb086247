"""From a competition and some minutes to a plan: look at the data, measure the candidates, try two, choose."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from featherweight.config import Competition, Recipe, load_recipe
from featherweight.console import duration, say
from featherweight.data.parts import divide
from featherweight.errors import Unavailable, UserError
from featherweight.models.pretrained_weights import weights_path
from featherweight.planning import costs
from featherweight.planning.candidates import SMALL, Candidate, filling, fine_tuned, from_scratch
from featherweight.planning.costs import Cost, Machine, Measured
from featherweight.planning.curves import Curves, Row, table
from featherweight.planning.pilots import Pilot, piloted
from featherweight.planning.plan import Findings, Plan, make, weighed
from featherweight.planning.task import Task, describe

STARTED = 2.0  # seconds before the first line of this program runs
LEAST = 1.0  # minutes: less is not enough to measure and train anything
MEASURING = 0.2  # of the time at most goes into measuring candidates
UNLIKE = 0.1  # of the images: where a probe gets more of them wrong, its network has seen nothing like them
LEAST_PATIENCE = 30.0  # seconds with a candidate, of which starting a process takes some
PILOTING = 0.05  # of the time goes into each pilot


def plan(competition: Competition, minutes: float, began: float, machine: Machine) -> Plan:
    """The plan for what is left of `minutes` since `began` (a reading of `time.monotonic`).

    Raises UserError for too little time.
    """
    if minutes < LEAST:
        raise UserError(f"--minutes {minutes:g}: expected {LEAST:g} or more")
    whole = minutes * 60 - STARTED
    glance = load_recipe("fastnet94", [f"image.size={min(competition.image.size, SMALL)}"])
    small = competition.seen_by(glance)
    data = small.load()
    train, holdout, _ = divide(glance.split, small, data)
    task = describe(competition, train, holdout, data.predict)
    say(f"{duration(whole)} for {competition.title}: {task}")

    refused: list[str] = []
    tuned = _available(fine_tuned(task), refused) if task.pretrained else ()
    # In turns, the smallest of each kind first: where measuring takes long, there is something of both.
    turns = itertools.zip_longest(tuned, itertools.chain(filling(task, competition), from_scratch(task)))
    candidates = [candidate for turn in turns for candidate in turn if candidate]
    say(f"measuring {len(candidates)} candidates on this machine")
    measured = _measured(candidates, competition, MEASURING * whole, machine, refused)
    pilots = _pilots(measured, task, competition, PILOTING * whole, machine)
    curves = Curves(table()).and_pilots([_row(pilot, task) for pilot in pilots])
    findings = Findings(
        mirror=not any(pilot.forbids_mirroring(task.classes) for pilot in pilots),
        unlike=any(pilot.error > UNLIKE for pilot in pilots if pilot.candidate.starts_published),
        slow=max([1.0, *(pilot.slow for pilot in pilots)]),
        start=max([0.0, *(pilot.start for pilot in pilots)]),
    )
    if task.mirror and not findings.mirror:
        say("  mirrored images are not taken for what they are: nothing is mirrored")
    planned = make(task, competition, measured, whole - (time.monotonic() - began), curves, findings)
    return replace(planned, refused=[*refused, *planned.refused])


def _available(candidates: Iterator[Candidate], refused: list[str]) -> Iterator[Candidate]:
    """The candidates whose pretrained weights can be had; why the others' cannot goes to `refused`, once for each."""
    absent: set[str] = set()
    for candidate in candidates:
        if candidate.name in absent:
            continue
        try:
            weights_path(load_recipe(candidate.recipe).model)
        except (UserError, Unavailable) as error:
            absent.add(candidate.name)
            refused.append(f"{candidate.name}: {str(error).split(', and ')[0]}")
            continue
        yield candidate


def _measured(
    candidates: Sequence[Candidate], competition: Competition, seconds: float, machine: Machine, refused: list[str]
) -> list[Measured]:
    """What the candidates within the limit cost here, as far as the seconds allow."""
    began = time.monotonic()
    measured: list[Measured] = []
    tried: set[bool] = set()  # of those with pretrained weights, and of those without
    patience = max(LEAST_PATIENCE, seconds)
    for candidate in candidates:
        recipe: Recipe = load_recipe(candidate.recipe, candidate.settings(1))
        seen = competition.seen_by(recipe)
        parameters = weighed(recipe, seen, candidate.name)
        if parameters is None:
            refused.append(f"{candidate.title}: over the limit")
            continue
        # One of each kind is tried in any case.
        late = candidate.starts_published in tried and time.monotonic() - began > seconds
        tried.add(candidate.starts_published)
        cost: Cost | None = None if late else costs.measure(recipe, seen, machine, patience)
        if cost is None:
            refused.append(
                f"{candidate.title}: {'not measured, for lack of time' if late else 'too slow, or too large'}"
            )
            continue
        measured.append(Measured(candidate, parameters, cost))
    return measured


def _pilots(
    measured: Sequence[Measured], task: Task, competition: Competition, seconds: float, machine: Machine
) -> list[Pilot]:
    """The cheapest network with pretrained weights and the cheapest without, each trained for some seconds."""
    pilots = []
    for published in (True, False):
        alike = [one for one in measured if one.candidate.starts_published == published]
        if not alike or task.several:  # of sets of classes the curves know nothing
            continue
        cheap = min(alike, key=lambda one: one.cost.view if published else one.cost.step)
        say(f"  a pilot: {cheap.candidate.title}, {duration(seconds)}")
        pilot = piloted(cheap, task, competition, seconds, machine)
        if pilot is not None:
            say(f"    {1 - pilot.error:.1%} of {pilot.holdout:,} right after {pilot.images:,} images")
            pilots.append(pilot)
    return pilots


def _row(pilot: Pilot, task: Task) -> Row:
    return Row(
        "this task",
        pilot.images,
        task.classes,
        pilot.candidate.size,
        task.channels,
        pilot.parameters,
        pilot.epochs,
        pilot.holdout,
        pilot.error,
        pilot.candidate.starts_published,
    )
