"""From a competition and some minutes to a plan: look at the data, measure the candidates, choose."""

from __future__ import annotations

import time

from featherweight.config import Competition, Recipe, load_recipe
from featherweight.console import duration, say
from featherweight.data.parts import divide
from featherweight.errors import UserError
from featherweight.planning import costs, curves
from featherweight.planning.candidates import SMALL, from_scratch
from featherweight.planning.costs import Cost
from featherweight.planning.plan import Plan, make
from featherweight.planning.task import describe

STARTED = 2.0  # seconds before the first line of this program runs
LEAST = 1.0  # minutes: less is not enough to measure and train anything
MEASURING = 0.25  # of the time at most goes into measuring candidates


def plan(competition: Competition, minutes: float, began: float, threads: int | None) -> Plan:
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

    candidates = list(from_scratch(task))
    say(f"measuring {len(candidates)} candidates on this machine")
    measured = time.monotonic()

    def measure(recipe: Recipe, seen: Competition) -> Cost | None:
        if time.monotonic() - measured > MEASURING * whole:
            return None
        return costs.measure(recipe, seen, threads)

    spent = time.monotonic() - began
    return make(task, competition, candidates, whole - spent, measure, curves.Curves(curves.table()))
