"""Plan for a competition and a number of minutes: read the data, measure candidates, train two pilots, choose.

No image is decoded before it is known that decoding fits into the time. Planning has a deadline of its own.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from featherweight.config import Competition, Split, load_recipe
from featherweight.console import duration, say
from featherweight.errors import UserError
from featherweight.models.pretrained_weights import weights_path
from featherweight.planning import costs
from featherweight.planning.candidates import FAST, Candidate, filling, fine_tuned, from_scratch
from featherweight.planning.clock import Clock
from featherweight.planning.costs import Machine, MeasuredCandidate
from featherweight.planning.curves import Curves, MeasuredTraining, table
from featherweight.planning.dataset_facts import DatasetFacts, describe
from featherweight.planning.measuring import (
    NOT_MEASURED,
    OVER_THE_LIMIT,
    at_its_own_size,
    by_name,
    estimated_choice,
    measured_within,
)
from featherweight.planning.option import PLANNED_SHARE, Findings
from featherweight.planning.own_process import start_server, wait_for_server
from featherweight.planning.packing_time import ListedImages
from featherweight.planning.pilot_outcome import Pilot
from featherweight.planning.pilots import PilotContext, piloted
from featherweight.planning.plan import Plan, make
from featherweight.planning.timeline import REST_SECONDS
from featherweight.runtime.device import make_runtime

START_SECONDS = 2.0  # that Python needs to start
LEAST_MINUTES = 1.0  # less is not enough to measure and train anything
PLANNING_SHARE = 1 / 3  # maximum share of the time for planning,
LEAST_PLANNING_SECONDS = 30.0  # or these seconds if longer, from when images are listed and processes can be forked
PILOT_SHARE = 0.05  # of the time, for each pilot
LEFT_SHARE = 0.8  # of a pilot's time, that the first leaves to the second: a pilot can do with less
PROBED_SIDE = 128  # px at least: at 96 px photographs seem unlike those of the pretrained weights (docs/auto.md)
MOST_HELD_OUT = 3000  # images: a score of so many is known to 1 to 2 points, and more are better trained on


def plan(competition: Competition, minutes: float, began: float, machine: Machine) -> Plan:
    """Return the plan for what is left of `minutes` since `began` (a reading of `time.monotonic`).

    Raises UserError if the time is too short.
    """
    if minutes < LEAST_MINUTES:
        raise UserError(f"--minutes {minutes:g}: expected {LEAST_MINUTES:g} or more")
    whole = minutes * 60 - START_SECONDS
    start_server()
    listed = ListedImages(competition)
    held = _held_out(listed.labelled)
    train, holdout, _ = listed.divided(load_recipe(FAST, held).split)
    facts = describe(competition, train, holdout, listed.data.predict)
    say(f"{duration(whole)} for {competition.title}: {facts}")
    wait_for_server()
    make_runtime(machine.device, threads=machine.threads)  # refuses a device that this machine does not have
    clock = Clock(began, whole, max(began + PLANNING_SHARE * whole, time.monotonic() + LEAST_PLANNING_SECONDS))

    refused: list[str] = []
    tuned = _available(fine_tuned(facts), refused) if facts.pretrained else ()
    candidates = [
        replace(candidate, fixed=(*candidate.fixed, *held)) for candidate in _in_turn(tuned, facts, competition)
    ]
    candidates = _with_room(candidates, listed, facts, refused)
    _refuse_if_nothing_can_be_trained(candidates, listed, minutes, clock)
    say(f"measuring {len(candidates)} candidates on this machine")
    measured = measured_within(candidates, competition, clock, machine, refused)
    if not measured:
        raise UserError("\n  ".join([f"auto has no network that can be trained here{_hint(refused)}", *refused[:4]]))
    words: list[str] = []
    # Pilots are judged by training images: what is chosen by the holdout's would make its score too good.
    context = PilotContext(facts, listed, *listed.for_pilots(train), machine)
    pilots = _pilots(measured, context, clock, words)
    curves = Curves(table()).and_pilots([_row(pilot, facts) for pilot in pilots if pilot.has_learned])
    findings = _findings(pilots, measured, facts, words)
    measured = [_with_packing(one, listed, facts) for one in measured]
    planned = make(facts, competition, measured, clock.left(), curves, findings)
    while chosen := estimated_choice(planned, measured, clock):
        own = at_its_own_size(chosen, competition, clock, machine, refused)
        measured = [one for one in (*measured, own) if one is not None and one is not chosen]
        planned = make(facts, competition, measured, clock.left(), curves, findings)
    return replace(planned, refused=[*refused, *planned.refused], found=words)


def _held_out(labelled: int) -> list[str]:
    """Return the setting of the holdout's size if the usual part of so many labelled images would be too many."""
    return [f"split.holdout={MOST_HELD_OUT}"] if labelled * Split().holdout > MOST_HELD_OUT else []


def _in_turn(tuned: Iterable[Candidate], facts: DatasetFacts, competition: Competition) -> Iterator[Candidate]:
    """Yield candidates of both kinds alternately, small images first, so that of each kind the cheapest are measured
    even if there is no time for more.
    """
    scratch = sorted((*from_scratch(facts), *filling(facts, competition)), key=lambda candidate: candidate.size)
    for turn in itertools.zip_longest(tuned, scratch):
        yield from filter(None, turn)


def _hint(refused: Sequence[str]) -> str:
    """Return what to do if no candidate could be measured, given the reasons."""
    if any(NOT_MEASURED in reason for reason in refused):
        return "; give it more time"
    over = bool(refused) and all(OVER_THE_LIMIT in reason for reason in refused)
    return "; ./run.sh fill FAMILY finds networks within the limit" if over else ""


def _refuse_if_nothing_can_be_trained(
    candidates: Sequence[Candidate], listed: ListedImages, minutes: float, clock: Clock
) -> None:
    """Raise UserError if, whatever is trained, listing and decoding the images leave no time for it."""
    if not candidates:
        return
    takes = {one.size: listed.seconds_of_a_run(one.seen(listed.competition)) for one in candidates}
    size = min(takes, key=lambda size: takes[size])
    left = clock.left()
    if takes[size] < left * PLANNED_SHARE - REST_SECONDS:
        return
    passed = clock.whole - left
    enough = math.ceil((passed + 2 * (takes[size] + REST_SECONDS) / PLANNED_SHARE) / 60)
    why = (
        f"decoding the images takes about {duration(takes[size])} on this machine, even for a network that sees them "
        f"at {size} px. They are decoded only once: later runs reuse them"
    )
    if takes[size] < passed:
        why = f"{duration(passed)} of it passed while Python started and the images were listed; too little is left"
    raise UserError(f"--minutes {minutes:g}: {why}. Give it --minutes {max(enough, math.ceil(minutes) + 1)} or more")


def _with_room(
    candidates: Sequence[Candidate], listed: ListedImages, facts: DatasetFacts, refused: list[str]
) -> list[Candidate]:
    """Return the candidates whose decoded images fit on the disk; add to `refused` which others there are."""
    room = listed.room
    large = [one for one in candidates if listed.bytes_of_a_run(one.seen(listed.competition), facts.side) > room]
    if large:
        refused.append(f"{by_name(large)}: the decoded images take more than the {room / 1e9:,.1f} GB of free disk")
    return [one for one in candidates if one not in large]


def _with_packing(measured: MeasuredCandidate, listed: ListedImages, facts: DatasetFacts) -> MeasuredCandidate:
    """Return the candidate with the time and the disk that a run of it needs for decoded images."""
    seen = measured.candidate.seen(listed.competition)
    return replace(measured, packing=listed.seconds_of_a_run(seen), packed=listed.bytes_of_a_run(seen, facts.side))


def _findings(
    pilots: Sequence[Pilot], measured: Sequence[MeasuredCandidate], facts: DatasetFacts, words: list[str]
) -> Findings:
    """Return what the pilots showed about the measured candidates; add sentences about it to `words`."""
    mirror = not any(pilot.forbids_mirroring for pilot in pilots)
    if facts.mirror and not mirror:
        words.append("mirroring changes the class of these images, so nothing is mirrored")
    elif facts.mirror and facts.channels == 1 and not any(pilot.tells_of_mirroring for pilot in pilots):
        # Grey images may be characters, which mirroring spoils; if they are not, mirroring gains little.
        mirror = False
        words.append("no pilot could show that these grey images may be mirrored, so nothing is mirrored")
    upside_down = facts.mirror and mirror and any(pilot.allows_upside_down for pilot in pilots)
    if upside_down:
        words.append("a pilot recognises these images upside down as well, so they are seen in training like this, too")
    kinds = {pilot.candidate.starts_published for pilot in pilots}
    learned = {pilot.candidate.starts_published for pilot in pilots if pilot.has_learned}
    both = {one.candidate.starts_published for one in measured} == {True, False}
    scratch_unknown = both and False not in learned and (True in learned or True not in kinds)
    if scratch_unknown:
        words.append("no pilot shows what random weights reach here, so pretrained ones come first")
    return Findings(
        mirror=mirror,
        upside_down=upside_down,
        unlike=any(pilot.is_unlike for pilot in pilots) or True not in kinds,
        slowdown=max([1.0, *(pilot.slowdown for pilot in pilots)]),
        regression_seconds=max(
            [pilot.regression_seconds for pilot in pilots if pilot.regression_seconds is not None],
            default=costs.REGRESSION_SECONDS,
        ),
        at_chance=frozenset(pilot.candidate.starts_published for pilot in pilots if not pilot.has_learned),
        scratch_unknown=scratch_unknown,
    )


def _available(candidates: Iterator[Candidate], refused: list[str]) -> Iterator[Candidate]:
    """Yield the candidates whose pretrained weights are available; add to `refused`, once per network, why others are
    not.
    """
    absent: set[str] = set()
    for candidate in candidates:
        if candidate.name in absent:
            continue
        try:
            weights_path(load_recipe(candidate.recipe).model)
        except UserError as error:
            absent.add(candidate.name)
            refused.append(f"{candidate.name}: {str(error).split(', and ')[0]}")
            continue
        yield candidate


def _pilots(
    measured: Sequence[MeasuredCandidate], context: PilotContext, clock: Clock, words: list[str]
) -> list[Pilot]:
    """Train the cheapest network with pretrained weights and the cheapest without, each for some seconds.

    Add to `words` how each went, or why there is none.
    """
    pilots = []
    seconds = PILOT_SHARE * clock.whole
    for published in (True, False):
        alike = [one for one in measured if one.candidate.starts_published == published and one.by_size is None]
        if not alike or context.facts.several:  # the curves are not for sets of classes
            continue
        telling = [one for one in alike if not published or one.candidate.size >= PROBED_SIDE] or alike
        cheap = min(telling, key=lambda one: one.cost.view)  # of an image: a step may have 64 of them or 512
        say(f"  a pilot: {cheap.candidate.title}, at most {duration(seconds)}")
        follows = published and any(not one.candidate.starts_published for one in measured)
        pilot = piloted(cheap, context, seconds, clock.planned - (LEFT_SHARE * seconds if follows else 0))
        line = str(pilot) if isinstance(pilot, Pilot) else f"left out: {pilot}"
        say(f"    {line}")
        words.append(f"a pilot, {cheap.candidate.title}: {line}")
        if isinstance(pilot, Pilot):
            pilots.append(pilot)
    return pilots


def _row(pilot: Pilot, facts: DatasetFacts) -> MeasuredTraining:
    """Return a pilot as a row of the table, whose classes are even."""
    return MeasuredTraining(
        "this task",
        pilot.images,
        facts.classes,
        pilot.candidate.size,
        facts.channels,
        pilot.parameters,
        pilot.epochs,
        pilot.holdout,
        min(1.0, pilot.error / facts.unevenness),
        pilot.candidate.starts_published,
        facts.side,
    )
