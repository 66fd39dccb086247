"""Measure candidates within a part of the time; estimate the costs of those that there is no time to measure."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from featherweight.config import Competition
from featherweight.console import PLAIN_SECONDS, say
from featherweight.planning import costs
from featherweight.planning.candidates import Candidate
from featherweight.planning.clock import Clock
from featherweight.planning.costs import Machine, MeasuredCandidate
from featherweight.planning.own_process import Failed
from featherweight.planning.plan import Plan, parameters_within_limit

OVER_THE_LIMIT, NOT_MEASURED = "over the limit", "not measured, for lack of time"
MEASURING_SHARE = 0.2  # maximum share of the time for measuring networks,
RESIZED_SHARE = 0.1  # for measuring them at further sizes, whose costs can be estimated too,
CHOSEN_SHARE = 0.05  # and for measuring the one that was chosen by an estimated cost


def measured_within(
    candidates: Sequence[Candidate], competition: Competition, clock: Clock, machine: Machine, refused: list[str]
) -> list[MeasuredCandidate]:
    """Return the candidates within the limit with their costs, as far as the time for measuring allows."""
    measured: list[MeasuredCandidate] = []
    alike: dict[str, list[Candidate]] = defaultdict(list)  # candidates that are left out, by reason
    took: dict[bool, float] = {}  # seconds of the latest candidate with pretrained weights (True) and without
    for candidate in telling(candidates):
        recipe, seen = candidate.one_epoch, candidate.seen(competition)
        parameters = parameters_within_limit(recipe, seen, candidate.name)
        if parameters is None:
            alike[OVER_THE_LIMIT].append(candidate)
            continue
        estimated = costs.estimated(candidate, parameters, measured)
        expected = costs.STEPS_IN_ALL * estimated.cost.step if estimated else 0.0
        began, share = time.monotonic(), RESIZED_SHARE if estimated else MEASURING_SHARE
        left = min(clock.left(share), costs.PATIENCE_SECONDS)
        if candidate.starts_published not in took:  # at least one of each kind is tried
            untried = {one.starts_published for one in candidates} - took.keys()
            left = max(left, (clock.planned - began) / len(untried))
        if left <= max(expected, took.get(candidate.starts_published, 0.0)):
            if estimated is not None:
                measured.append(estimated)
            else:
                alike[NOT_MEASURED].append(candidate)
            continue
        try:
            measured.append(MeasuredCandidate(candidate, parameters, costs.measure(recipe, seen, machine, left)))
        except Failed as failed:
            refused.append(f"{candidate.title}: {failed}")
        took[candidate.starts_published] = time.monotonic() - began
    refused += [f"{by_name(left_out)}: {reason}" for reason, left_out in alike.items()]
    return measured


def telling(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
    """Yield the candidates, and print every minute how many are done."""
    said = time.monotonic()
    for done, candidate in enumerate(candidates):
        if time.monotonic() - said >= PLAIN_SECONDS:
            say(f"  measured: {done} of {len(candidates)}")
            said = time.monotonic()
        yield candidate


def by_name(candidates: Sequence[Candidate]) -> str:
    """Return the names of candidates, each once with its sizes: "fast net at 32, 64 px; fast net, wide at 32 px"."""
    sizes: dict[str, list[str]] = defaultdict(list)
    for candidate in candidates:
        sizes[candidate.name].append(str(candidate.size))
    return "; ".join(f"{name} at {', '.join(each)} px" for name, each in sizes.items())


def estimated_choice(planned: Plan, measured: Sequence[MeasuredCandidate], clock: Clock) -> MeasuredCandidate | None:
    """Return the candidate that the plan trains, if its cost was estimated from another size and there is time to
    measure it; else None.
    """
    title = planned.best.candidate.title
    chosen = next(one for one in measured if one.candidate.title == title)
    takes = 2 * costs.STEPS_IN_ALL * chosen.cost.step  # of the predictions it takes, too
    fits = takes < min(CHOSEN_SHARE * clock.whole, clock.planned - time.monotonic())
    return chosen if chosen.by_size and fits else None


def at_its_own_size(
    chosen: MeasuredCandidate, competition: Competition, clock: Clock, machine: Machine, refused: list[str]
) -> MeasuredCandidate | None:
    """Return the candidate with its cost at its own size; None if it has none, with the reason in `refused`."""
    candidate = chosen.candidate
    say(f"  {candidate.title} seems best, so it is measured at this size, too")
    try:
        left = clock.planned - time.monotonic()
        cost = costs.measure(candidate.one_epoch, candidate.seen(competition), machine, left)
    except Failed as failed:
        refused.append(f"{candidate.title}: {failed}")
        return None
    return replace(chosen, cost=cost, by_size=None)
