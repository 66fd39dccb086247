"""Questions to the ledger: filtering, sorting, grouping of seeds, differences of settings, and public scores."""

from __future__ import annotations

import contextlib
import json
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from featherweight import paths
from featherweight.errors import UserError, nearest
from featherweight.evaluation import intervals
from featherweight.evaluation.metrics import Metric, metric_by_name
from featherweight.runs import ledger
from featherweight.runs.metadata import PARTS

PUBLIC_SHARE = 0.3  # assumed share of the images to predict behind the public score; Kaggle's are 0.2 to 0.5
# Keys of recipes in rows of earlier versions. Here no signature tells whose key it is, as where `schema.OTHER_NAMES` is
# used: a densenet's model.growth is its own.
RENAMED = {"split.kin": "split.grouped"}
KEYS_SHOWN = 8  # of a run, of those that differ
STANDARD_ERRORS = 2.576  # that chance exceeds in 1 of 100 cases


def table(path: Path | None = None) -> pd.DataFrame:
    """Return every run with its recipe's keys in `keys` and the scores of its latest submission that has any.

    `path` is another file in the ledger's format, such as what this repository publishes.
    """
    runs = ledger.read(path)
    runs["keys"] = [_keys(text) for text in runs["settings"]]
    submissions = ledger.submissions(path)
    scored = ledger.records(submissions[submissions["public"].notna()])
    written = ledger.checksums(path)
    by_csv = {row["csv_sha256"]: row for row in scored if row["csv_sha256"] in written}
    # The CSV of a notebook is known to Kaggle alone: its version takes the CSV's place.
    by_run = {_of_run(row): row for row in scored if row["csv_sha256"] not in written and row["run"]}
    found = [by_csv.get(row["csv_sha256"]) or by_run.get(_of_run(row)) or {} for row in ledger.records(runs)]
    for column in ("public", "private"):
        runs[column] = [row.get(column, math.nan) for row in found]
    return runs


def _keys(settings: str) -> Any:
    """Return a recipe's keys as the ledger stores them, by their names of today."""
    stored = {RENAMED.get(key, key): value for key, value in json.loads(settings or "{}").items()}
    return dict(sorted(stored.items(), key=operator.itemgetter(0)))


def _of_run(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what identifies a submission's run in a row, since several runs may have had the same name."""
    return tuple(row.get(key) for key in ("run", "competition", "recipe", "seed", "parameters", "holdout"))


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}


def where(rows: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """Return the rows for which all conditions hold: a column or recipe key, a comparison, a value
    (`optimizer.lr>0.1`).
    """
    for condition in conditions:
        parts = re.fullmatch(r"([\w.#+]+)(>=|<=|!=|=|>|<)(.*)", condition)
        if parts is None:
            raise UserError(f"--where {condition}: expected KEY=VALUE, for example recipe=wrn16_4 or optimizer.lr>=0.1")
        key, comparison, wanted = parts.groups()
        values = _values(rows, key, f"--where {condition}")
        matching = [value is not None and _compare(value, comparison, wanted) for value in values]
        rows = rows[pd.Series(matching, index=rows.index, dtype=bool)]
    return rows


def chosen(competition: str | None, conditions: Sequence[str]) -> pd.DataFrame:
    """Return the runs of `table` of one competition, or of all, for which the conditions of `where` hold."""
    rows = table()
    with_runs = list(dict.fromkeys(rows["competition"]))
    known = [*with_runs, *paths.config_names("competitions")]
    if competition is not None and competition not in known:
        there = f"the ledger has runs of {', '.join(with_runs) or 'none'}"
        raise UserError(f"there is no competition called '{competition}'{nearest(competition, known) or ';'} {there}")
    rows = where(rows, conditions)
    return rows if competition is None else rows[rows["competition"] == competition]


def ordered(rows: pd.DataFrame, key: str | None, ascending: bool = False) -> pd.DataFrame:
    """Return the rows, the largest of `key` first; without a key by competition, the best holdout score first."""
    if key is None:
        return _best_first(rows)
    values = _values(rows, key, f"--sort {key}")
    with_one = [place for place, value in enumerate(values) if value is not None]
    with_one.sort(key=lambda place: _rank(values[place]), reverse=not ascending)
    return rows.iloc[[*with_one, *(place for place, value in enumerate(values) if value is None)]]


def _best_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows by competition, the best holdout score first, whichever way its metric counts."""
    worth = rows["holdout"] * rows["metric"].map(lambda name: metric_by_name(name).sign).astype(float)
    ordered = rows.assign(worth=worth).sort_values(["competition", "worth"], ascending=[True, False], kind="stable")
    return ordered.drop(columns="worth")


def by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for the runs of one recipe, by one metric, that differ in the seed alone: number, means and
    deviations.

    If a seed was run several times, the latest counts. A soup or an ensemble has its first member's settings, and
    differs from it in its recipe's name; ensembles of few and of many members differ in their parameters.
    """
    groups, key = [], ["competition", "metric", "recipe", "parameters", "same"]
    # A key of a later version is null in a recipe that does not use it, and absent from older rows.
    same = [json.dumps({key: value for key, value in keys.items() if value is not None}) for keys in rows["keys"]]
    for (competition, *_), group in rows.assign(same=same).groupby(key, sort=False, dropna=False):
        line = {
            "competition": competition,
            "metric": group["metric"].iloc[0],
            "recipe": group["recipe"].iloc[0],
            "parameters": group["parameters"].iloc[0],
            "limit": group["limit"].iloc[0],
            "seeds": group["seed"].nunique(),
            "keys": group["keys"].iloc[0],
            "command": group["command"].iloc[0],
        }
        by_date = group.sort_index().sort_values("date", kind="stable")  # `rows` may be in any order
        distinct = by_date.drop_duplicates("seed", keep="last")
        line["minutes"] = distinct["minutes"].mean()
        for score in (*PARTS, "public", "private"):
            line[score], line[f"{score}_sd"] = distinct[score].mean(), distinct[score].std(ddof=1)
        for end in (f"{part}_{end}" for part in PARTS for end in ("low", "high")):  # of the last run
            line[end] = distinct[end].iloc[-1]
        groups.append(line)
    table = pd.DataFrame(groups)
    return _best_first(table) if len(table) else table


def scored_parts(rows: pd.DataFrame) -> list[str]:
    """Return the parts of the data that any of these runs has a score on; the holdout always."""
    return [part for part in PARTS if part == "holdout" or rows[part].notna().any()]


def differences(rows: pd.DataFrame) -> list[str]:
    """Return for each row the first few recipe keys that differ from most rows of its competition."""
    usual: dict[str, dict[str, str]] = {}
    for competition, group in rows.groupby("competition", sort=False):
        keys = {key for settings in group["keys"] for key in settings}
        oldest_first = group.sort_values("date", kind="stable")["keys"]  # of two runs, the later one is said to differ
        counts = {key: Counter(json.dumps(settings.get(key)) for settings in oldest_first) for key in keys}
        usual[str(competition)] = {key: count.most_common(1)[0][0] for key, count in counts.items()}
    lines = []
    for row in rows.to_dict("records"):
        common = usual[row["competition"]]
        differing = [key for key in sorted(common) if json.dumps(row["keys"].get(key)) != common[key]]
        shown = [f"{key.removesuffix('.name')}={_shown(row['keys'].get(key))}" for key in differing[:KEYS_SHOWN]]
        lines.append(
            " ".join([*shown, *([f"and {len(differing) - len(shown)} more"] if len(differing) > len(shown) else [])])
        )
    return lines


@dataclass(frozen=True)
class Gap:
    """A run's public score against its holdout score.

    `chance` is the difference that sampling explains in 99 of 100 cases; `expected` the ends of the 95 % interval that
    the run gave for its public score, if it gave one.
    """

    run: str
    competition: str
    holdout: float
    low: float
    high: float
    public: float
    chance: float
    metric: str = "accuracy"
    expected: tuple[float, float] | None = None

    @property
    def of(self) -> Metric:
        """The metric."""
        return metric_by_name(self.metric)

    @property
    def surprising(self) -> bool:
        """True if they differ by more than sampling error, or if the public score is outside what the run expected."""
        if self.expected is not None:
            return not self.expected[0] <= self.public <= self.expected[1]
        return abs(self.public - self.holdout) > self.chance

    def __str__(self) -> str:
        apart = self.public - self.holdout
        public, holdout = (self.of.number(value) + self.of.percent for value in (self.public, self.holdout))
        between = f"public {public}, holdout {holdout}: {self.of.number(apart, '+')} {self.of.unit}"
        chance = f"sampling error ({self.of.number(self.chance)})"
        if self.expected is not None:
            chance = f"its forecast of {self.of.shown(self.expected[0])} to {self.of.shown(self.expected[1])}"
        if not self.surprising:
            return f"{self.run}: {between}, within {chance}"
        worse = self.of.better(self.holdout, self.public)
        reason = "the images to predict are easier, or labels of the holdout are wrong"
        if worse:
            reason = "the images to predict are shifted, or training images leak into the holdout"
        beyond = "outside" if self.expected else "more than"
        return f"{self.run}: {between}, {beyond} {chance}: {reason}"


def gaps(rows: pd.DataFrame) -> list[Gap]:
    """Return the holdout and the public score of every run that has both.

    The holdout's standard error is that of its 95 % interval. The public score's follows from it, with the same
    standard deviation per image over the public share of the images to predict.
    """
    listed = []
    for row in rows[rows["public"].notna() & rows["holdout"].notna()].to_dict("records"):
        error = (row["holdout_high"] - row["holdout_low"]) / (2 * intervals.NORMAL)
        behind = row["predict_images"] * _public_share(row["run"])
        ratio = row["holdout_images"] / behind if behind > 0 and row["holdout_images"] > 0 else 1.0
        chance = STANDARD_ERRORS * error * math.sqrt(1 + ratio)
        scores = {"holdout": row["holdout"], "low": row["holdout_low"], "high": row["holdout_high"]}
        listed.append(
            Gap(
                row["run"],
                row["competition"],
                **scores,
                public=row["public"],
                chance=chance,
                metric=row["metric"],
                expected=None if math.isnan(row["public_low"]) else (row["public_low"], row["public_high"]),
            )
        )
    return listed


def _public_share(name: str) -> float:
    """Return the share of the images to predict behind the public score: what the run's competition states, if the run
    is here, else PUBLIC_SHARE.
    """
    from featherweight.runs.run import Run  # it imports torch, which a table of runs does without

    share = None
    with contextlib.suppress(UserError):  # a damaged run: it says so when it is asked for
        share = Run.find(name).competition.submission.public if Run.exists(name) else None
    return PUBLIC_SHARE if share is None else share


def with_deviation(metric: Metric, value: float, deviation: float = math.nan) -> str:
    """Return `93.65`, or `93.65 ± 0.21` with a deviation; empty without a value."""
    if math.isnan(value):
        return ""
    return metric.number(value) + ("" if math.isnan(deviation) else f" ± {metric.number(deviation)}")


def _values(rows: pd.DataFrame, key: str, option: str) -> list[Any]:
    """Return a column or recipe key of every row, None where a row has none. Raises UserError if no row has it."""
    values = [_value(row, key) for row in rows.to_dict("records")]
    if values and all(value is None for value in values):
        known = [*ledger.COLUMNS, *{name for keys in rows["keys"] for name in keys}]
        raise UserError(f"{option}: no run has a '{key}'{nearest(key, known)}")
    return values


def _value(row: dict[Any, Any], key: str) -> Any:
    if key in row and key not in ("keys", "settings"):
        value = row[key]
        return None if isinstance(value, float) and math.isnan(value) else value
    keys, name = row["keys"], RENAMED.get(key, key)
    return keys.get(name, keys.get(f"{name}.name"))


def _compare(value: Any, comparison: str, wanted: str) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return bool(COMPARISONS[comparison](float(value), float(wanted)))
        except ValueError:
            pass
    return bool(COMPARISONS[comparison](_shown(value), wanted))


def _rank(value: Any) -> tuple[bool, float, str]:
    """Return a sort key: numbers by size, then texts by letters."""
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, "" if number else _shown(value))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
