"""Which images are held out: seeded, stratified, and a property of the ids, not of the order they are listed in.

Ids are ranked by a hash of the seed and the id. So the same ids are held out whatever the file order, the machine or
the library versions. Images of one group (frames of a track, photos of a plant) stay together: groups are ranked then.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.data.csv_file import examples
from featherweight.errors import UserError

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """Indices, int64 [.], ascending: images to train on, to hold out, and to keep as a labelled test."""

    train: Places
    holdout: Places
    test: Places


def stratified_mask(ids: Sequence[str], labels: Sequence[str], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return True [N] for a `fraction` of each class, rounded, but never a whole class. More images move few others."""
    held = np.zeros(len(ids), dtype=bool)
    for places in _ranked(ids, labels, seed).values():
        held[places[: min(round(fraction * len(places)), len(places) - 1)]] = True
    return held


def sample(ids: Sequence[str], labels: Sequence[str], count: int, seed: int) -> Places:
    """Return the indices, int64 [count], ascending, of a stratified sample: the first of each class by rank."""
    quotas = _quotas(Counter(labels), count, len(ids), seed)
    some = [places[: quotas[label]] for label, places in _ranked(ids, labels, seed).items()]
    return np.sort(np.concatenate(some).astype(np.int64))


def divide(
    ids: Sequence[str],
    labels: Sequence[str],
    *,
    holdout: float,
    test: float = 0,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    related: Places | None = None,
) -> Parts:
    """Divide in two, or in three (6:2:2 is `holdout=0.2, test=0.2`), stratified by class.

    Without `groups`, images with the same number in `related` [N] stay together, and the others are divided as if there
    were none.

    `holdout` and `test` are parts of the whole (below 1) or numbers of images (45k/5k of 50,000 is `holdout=5000`). A
    class is never held out whole; with groups the parts come as close to what was asked as whole groups can.

    Raises UserError where more is asked for than there is, or nothing would be held out.
    """
    sizes = Counter(labels)
    for wanted in (test, holdout):
        if wanted >= len(ids):
            raise UserError(f"split: {wanted:,.0f} of {len(ids):,} images leave none to train on")
    shares = [wanted if wanted < 1 else wanted / len(ids) for wanted in (test, holdout)]
    quotas = [_quotas(sizes, wanted, len(ids), seed + part) for part, wanted in enumerate((test, holdout))]
    if groups is not None:
        taken = _by_group(labels, groups, shares, seed)
    elif related is not None:
        taken = _by_related(ids, labels, related, shares, quotas, seed)
    else:
        taken = _by_class(_ranked(ids, labels, seed), quotas)
    if not len(taken[1]):
        raise UserError(f"split.holdout: {holdout:g} of {len(ids)} images holds out none; raise it")
    rest = np.setdiff1d(np.arange(len(ids)), np.concatenate(taken))
    if not len(rest):
        raise UserError(f"split: holdout {holdout:g} and test {test:g} leave none of {len(ids):,} images to train on")
    return Parts(rest, np.sort(taken[1]), np.sort(taken[0]))


def folds(
    ids: Sequence[str],
    labels: Sequence[str],
    k: int,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    related: Places | None = None,
) -> Places:
    """The fold int64 [N], from 0 to k - 1, in which each image is held out, every class spread evenly.

    Without `groups`, images with the same number in `related` [N] are in one fold; the others stay where they were.

    A class with fewer members (or groups) than folds is in some of the folds only: see `scarce`. Without groups the
    folds differ by one image at most; with them they are as even in every class as whole groups can make them.

    Raises UserError where there are fewer images, or groups, than folds.
    """
    pieces = len(set(groups)) if groups is not None else len(ids)
    if pieces < k:
        what = "images" if groups is None else "groups"
        raise UserError(f"split.folds: {k} folds need at least {k} {what}, got {pieces:,}")
    fold = np.full(len(ids), -1, dtype=np.int64)
    together = np.arange(len(ids))
    if groups is None:
        dealt = 0
        for _, places in sorted(_ranked(ids, labels, seed).items()):
            fold[places] = (dealt + np.arange(len(places))) % k
            dealt += len(places)
        if related is None:
            return fold
        together = np.flatnonzero(_has_related(related))
        fold[together] = -1
        groups = _names(ids, related)
    classes, column = np.unique(np.array(labels, dtype=object), return_inverse=True)
    totals = np.bincount(column, minlength=len(classes))
    shares = np.zeros((k, len(classes)))
    np.add.at(shares, (fold[fold >= 0], column[fold >= 0]), 1 / totals[column[fold >= 0]])
    members: dict[str, list[int]] = defaultdict(list)
    for place in together.tolist():
        members[groups[place]].append(place)
    order = sorted(members, key=lambda name: (-len(members[name]), _rank(seed, name)))
    for name in order:  # the largest first, each to where it leaves the classes evenest
        added = np.bincount(column[members[name]], minlength=len(classes)) / totals
        cost = ((shares + added) ** 2 - shares**2).sum(1)
        emptiest = shares.sum(1)
        best = min(range(k), key=lambda place: (round(float(cost[place]), 12), float(emptiest[place])))
        shares[best] += added
        fold[members[name]] = best
    return fold


def scarce(labels: Sequence[str], wanted: int) -> str:
    """Return in words the classes with fewer images than `wanted`; empty without any."""
    counts = Counter(labels)
    short = [f"{label} ({count})" for label, count in sorted(counts.items()) if count < wanted]
    return f"{len(short)} of {len(counts)} classes have fewer than {wanted} images: {examples(short)}" if short else ""


def rarest(sets: NDArray[Any]) -> Places:
    """Return for sets of classes [N, K] the class, int64 [N], by which each image is sampled or split: its rarest one
    (K for an empty set), so that rare classes are dealt out first (Sechidis et al. 2011).
    """
    order = np.argsort(sets.sum(0), kind="stable")
    first = sets[:, order].argmax(1)
    stands_for: Places = np.where(sets.any(1), order[first], sets.shape[1]).astype(np.int64)
    return stands_for


def groups_of(ids: Sequence[str], pattern: str) -> list[str]:
    """Return what `pattern` finds in each id: its parentheses, or the whole match if it has none.

    Raises UserError with examples if it finds nothing in some.
    """
    compiled = re.compile(pattern)
    matches = [compiled.search(id) for id in ids]
    missing = [id for id, match in zip(ids, matches, strict=True) if match is None]
    if missing:
        raise UserError(f"group: {pattern} is not found in {len(missing):,} of {len(ids):,} ids: {examples(missing)}")
    return ["/".join(filter(None, match.groups())) or match.group() for match in matches if match]


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _ranked(ids: Sequence[str], labels: Sequence[str], seed: int) -> dict[str, list[int]]:
    """Return the places of each class in order of rank."""
    members: dict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        members[label].append(place)
    for places in members.values():
        places.sort(key=lambda place: _rank(seed, ids[place]))
    return members


def _quotas(sizes: Counter[str], wanted: float, total: int, seed: int) -> dict[str, int]:
    """Return how many images of each class to take: rounded fractions, or a number dealt by largest remainder.

    A class whose share is half an image or less gives one image with that probability.
    """
    if wanted < 1:
        exact = {label: wanted * size for label, size in sizes.items()}
        return {
            label: round(share) if share > 0.5 else int(_drawn(seed, label) < share) for label, share in exact.items()
        }
    exact = {label: wanted * size / total for label, size in sizes.items()}
    quotas = {label: int(share) for label, share in exact.items()}
    by_remainder = sorted(exact, key=lambda label: (quotas[label] - exact[label], _rank(seed, label)))
    for label in by_remainder[: int(wanted) - sum(quotas.values())]:
        quotas[label] += 1
    return quotas


def _drawn(seed: int, label: str) -> float:
    """Return a pseudo-random number below 1 that depends on the class only, so adding images changes little."""
    return int.from_bytes(_rank(seed, label)[:8], "big") / 2**64


def _by_class(ranked: dict[str, list[int]], quotas: Sequence[dict[str, int]]) -> list[Places]:
    taken: list[list[int]] = [[] for _ in quotas]
    for label, places in ranked.items():
        first = 0
        for part, quota in zip(taken, quotas, strict=True):
            last = min(first + quota[label], len(places) - 1)  # one at least is left to train on
            part += places[first:last]
            first = last
    return [np.array(part, dtype=np.int64) for part in taken]


def _by_related(
    ids: Sequence[str],
    labels: Sequence[str],
    related: Places,
    shares: Sequence[float],
    quotas: Sequence[dict[str, int]],
    seed: int,
) -> list[Places]:
    """Fill the quotas with whole groups of related images first, then with images that have none.

    With few related images, nearly all others are placed as they would be without groups.
    """
    names, has_related = _names(ids, related), _has_related(related)
    together, alone = np.flatnonzero(has_related), np.flatnonzero(~has_related)
    inside = [[column[place] for place in together.tolist()] for column in (labels, names)]
    grouped = [together[places] for places in _by_group(inside[0], inside[1], shares, seed, not len(alone))]
    left: list[dict[str, int]] = []
    for places, quota in zip(grouped, quotas, strict=True):
        there = Counter(labels[place] for place in places.tolist())
        left.append({label: max(wanted - there[label], 0) for label, wanted in quota.items()})
    outside = [[column[place] for place in alone.tolist()] for column in (ids, labels)]
    others = _by_class(_ranked(outside[0], outside[1], seed), left)
    return [np.concatenate([places, alone[more]]) for places, more in zip(grouped, others, strict=True)]


def _has_related(related: Places) -> NDArray[np.bool_]:
    grouped: NDArray[np.bool_] = np.bincount(related)[related] > 1
    return grouped


def _names(ids: Sequence[str], related: Places) -> list[str]:
    """Return for each image the smallest id in its group, which does not depend on the order."""
    first: dict[int, str] = {}
    for id, group in zip(ids, related.tolist(), strict=True):
        first[group] = min(first.get(group, id), id)
    return [first[group] for group in related.tolist()]


def _by_group(
    labels: Sequence[str], groups: Sequence[str], shares: Sequence[float], seed: int, at_least_one: bool = True
) -> list[Places]:
    """Take whole groups by rank, each if it brings the classes nearer to these shares.

    If every group is larger than the share, take the smallest that can be spared, if there must be one.
    """
    members, counts = _groups(labels, groups)
    order = sorted(members, key=lambda name: _rank(seed, name))
    sizes = np.sum(list(counts.values()), axis=0)
    left = sizes
    taken: list[Places] = []

    def spared(name: str) -> bool:
        return bool(((left > counts[name]) | (counts[name] == 0)).all())  # some of each class are left to train on

    for share in shares:
        lacking = share * sizes
        chosen: list[str] = []
        for name in order:
            if spared(name) and np.abs(lacking - counts[name]).sum() < np.abs(lacking).sum():
                lacking, left = lacking - counts[name], left - counts[name]
                chosen.append(name)
        if not chosen and share and at_least_one:
            chosen = sorted(filter(spared, order), key=lambda name: (len(members[name]), _rank(seed, name)))[:1]
            left = left - sum(counts[name] for name in chosen)
        order = [name for name in order if name not in set(chosen)]
        taken.append(np.array([place for name in chosen for place in members[name]], dtype=np.int64))
    return taken


def _groups(labels: Sequence[str], groups: Sequence[str]) -> tuple[dict[str, list[int]], dict[str, Places]]:
    """Return each group's places and its count of each class, classes sorted."""
    column = {label: place for place, label in enumerate(sorted(set(labels)))}
    members: dict[str, list[int]] = defaultdict(list)
    counts: dict[str, Places] = defaultdict(lambda: np.zeros(len(column), dtype=np.int64))
    for place, (label, name) in enumerate(zip(labels, groups, strict=True)):
        members[name].append(place)
        counts[name][column[label]] += 1
    return members, dict(counts)
