"""What commands print: parameter counts, a run's summary, the ledger."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from featherweight import atomic, paths
from featherweight.console import duration, say, show_table
from featherweight.evaluation.metrics import Metric, metric_by_name

if TYPE_CHECKING:  # torch and pandas: each table imports what it needs
    import pandas as pd

    from featherweight.budget import BudgetCheck
    from featherweight.budget.solver import Member
    from featherweight.cli.tool.doctor import Check
    from featherweight.kaggle.responses import LeaderboardRow
    from featherweight.models.pretrained_nets import PretrainedNet
    from featherweight.runs.query import Gap
    from featherweight.runs.result import Result
    from featherweight.runs.run import Run

TRIALS = 20  # of a search that its table shows


def weigh_in(weighed: BudgetCheck) -> None:
    """Print a model's parameters by module against the limit, and multiply-adds by two counters."""
    table = blank_table(["module", "parameters", "share", "statistics", "M multiply-adds"], weighed.name)
    for group in weighed.groups:
        share = f"{group.parameters / weighed.limit:.1%}"
        table.add_row(group.name, f"{group.parameters:,}", share, f"{group.statistics:,}", f"{group.macs / 1e6:,.2f}")
    table.add_section()
    share = f"{weighed.counted / weighed.limit:.1%}"
    table.add_row("total", f"{weighed.counted:,}", share, f"{weighed.statistics:,}", f"{weighed.macs / 1e6:,.2f}")
    show_table(table)
    verdict = f"{weighed.room:,} left" if weighed.room >= 0 else f"OVER by {-weighed.room:,}"
    say(f"limit {weighed.limit:,} parameters{' and statistics' if weighed.counts_statistics else ''}: {verdict}")
    for measure in weighed.measures:
        say(f"limit {measure}: {'OVER' if measure.is_over else 'within the limit'}")
    if len(weighed.sides) > 1:
        say(f"maps of {' > '.join(map(str, weighed.sides))} px{f'; stem: {weighed.stem}' if weighed.stem else ''}")
    if weighed.macs_check is not None:
        apart = abs(weighed.macs - weighed.macs_check) / max(weighed.macs, 1)
        word = f"ptflops counts {weighed.macs_check / 1e6:,.2f} M without biases"
        say(f"{word}, {'in agreement' if apart <= 0.01 else f'{apart:.0%} apart: one of them misses an operation'}")


def families(weighed: Sequence[BudgetCheck], families: Mapping[str, str], lines: Mapping[str, Sequence[str]]) -> None:
    """Print recipes by the group of `lines`, each with its family, its parameters and its purpose."""
    from featherweight.config.purpose import purpose

    known = {one.name: one for one in weighed}
    table = blank_table(["recipe", "family", "parameters", "of the limit", "", "what it is for"])
    table.columns[1].justify = table.columns[5].justify = "left"
    for recipes in lines.values():
        for name in recipes:
            one = known.get(name)
            if one is None:  # it starts from pretrained weights, which the competition forbids
                table.add_row(name, families[name], "", "", "not allowed", escape(purpose(name)))
                continue
            verdict = "within the limit" if one.within_limit else "OVER"
            share = f"{one.counted / one.limit:.0%}"
            table.add_row(name, families[name], f"{one.counted:,}", share, verdict, escape(purpose(name)))
        table.add_section()
    show_table(table)


def family(summary: str, arguments: Sequence[tuple[str, str, str]]) -> None:
    """Print a family's keys."""
    say(summary)
    table = blank_table(["key", "default", "meaning"])
    table.columns[1].justify = table.columns[2].justify = "left"
    table.columns[2].no_wrap = False
    for row in arguments:
        table.add_row(*map(escape, row))
    show_table(table)


def pretrained_nets(nets: Sequence[PretrainedNet], classes: int, limit: int) -> None:
    """Print networks with pretrained weights, one per line, with a classifier for this many classes."""
    table = blank_table(["timm/", "ImageNet top-1", "px", "parameters", "of the limit", "M multiply-adds"])
    for net in nets:
        counted = net.counted(classes)
        row = [f"{net.top1:.1f}%", f"{net.size}", f"{counted:,}", f"{counted / limit:.1%}", f"{net.macs / 1e6:,.0f}"]
        table.add_row(net.model, *row)
    show_table(table)


def weigh_ins(all_weighed: Sequence[BudgetCheck]) -> None:
    """Print one line per recipe."""
    table = blank_table(["recipe", "parameters", "of the limit", "room", "M multiply-adds", ""])
    for weighed in all_weighed:
        share = f"{weighed.counted / weighed.limit:.1%}"
        verdict = "within the limit" if weighed.within_limit else "OVER"
        table.add_row(
            weighed.name, f"{weighed.counted:,}", share, f"{weighed.room:,}", f"{weighed.macs / 1e6:,.1f}", verdict
        )
    show_table(table)


def members(shown: Sequence[Member], counted: int, seconds: float) -> None:
    """Print what the solver found: a member's model as in a recipe, one per line."""
    table = blank_table(["in a recipe", "parameters", "of the limit", "M multiply-adds"])
    for member in shown:
        weighed = member.weighed
        share = f"{weighed.counted / weighed.limit:.2%}"
        table.add_row(escape(member.line), f"{weighed.counted:,}", share, f"{weighed.macs / 1e6:,.1f}")
    show_table(table)
    say(f"{counted:,} candidates counted in {seconds:.1f} seconds, {len(shown)} shown; best known structures first")


def summary(run: Run, result: Result, warning: str = "") -> None:
    """Print the end of the main job."""
    from featherweight.runs.division import RegroupedImages
    from featherweight.runs.expected_score import Expected
    from featherweight.runs.wrong_labels import WrongLabels

    share = result.parameters / result.limit
    say("")
    say(f"{run.recipe_name} on {run.competition.title}")
    say(f"  parameters  {result.parameters:,} of {result.limit:,} ({share:.1%})")
    say(f"  holdout     {result.holdout.with_metric}")
    for part, score in (("test", result.test), ("predict", result.predict)):
        if score:
            say(f"  {part:<10}  {score.with_metric}")
    expected = Expected.read(run)
    if expected is not None:
        say(f"  expected    {expected}")
    wrong = WrongLabels.read(run)
    if wrong is not None:
        say(f"  labels      {wrong}: ./run.sh inspect {run.competition_name} names them")
    effect = RegroupedImages.read(run)
    if effect is not None:
        say(f"  related     {effect.summary(result.holdout)}")
    if run.recipe.train.epochs:  # a linear probe has no training time
        say(f"  trained in  {_minutes(result.minutes)}")
    if run.csv().exists():
        say(f"  submission  {paths.shown(run.csv())}")
    if (run.folder / "report" / "report.html").exists():
        say(f"  report      {paths.shown(run.folder / 'report' / 'report.html')}")
    else:
        say(f"  run folder  {paths.shown(run.folder)}")
    say("")
    say(warning or "next: ./run.sh runs")


def ledger(rows: pd.DataFrame, differences: Sequence[str]) -> None:
    """Print all runs in their order, scores in percent with intervals, and how each recipe differs."""
    from featherweight.runs import query

    judged, unit = _judged(rows)
    public = [f"public{unit}"] if rows["public"].notna().any() else []
    differ = ["differs in"] if any(differences) else []
    gone = sum(not (paths.runs() / run / "run.json").is_file() for run in rows["run"])
    parts = query.scored_parts(rows)
    scores = [f"{part}{unit}" for part in parts]
    table = blank_table(["run", "competition", *judged, "parameters", *scores, *public, "minutes", "date", *differ])
    for row, difference in zip(rows.to_dict("records"), differences, strict=True):
        table.add_row(
            *map(escape, (row["run"], row["competition"])),
            *([metric_by_name(row["metric"]).heading] if judged else []),
            f"{row['parameters']:,}",
            *(_percent(row, part) for part in parts),
            *([query.with_deviation(metric_by_name(row["metric"]), row["public"])] if public else []),
            f"{row['minutes']:.1f}",
            str(row["date"])[:16].replace("T", " "),
            *([escape(difference)] if differ else []),
        )
    show_table(table)
    if gone:
        say(f"{gone} of {len(rows)} are not in {paths.shown(paths.runs())}: run elsewhere, or deleted")


def by_seed(rows: pd.DataFrame) -> None:
    """Print one line per recipe: means over its seeds, and standard deviations if there are several."""
    from featherweight.runs import query

    if not len(rows):
        return
    shown = [*query.scored_parts(rows), "public"]
    judged, unit = _judged(rows)
    heads = [f"{part}{unit}" for part in shown]
    table = blank_table(["recipe", "competition", *judged, "parameters", "seeds", *heads, "minutes"])
    for row in rows.to_dict("records"):
        metric = metric_by_name(row["metric"])
        scores = [query.with_deviation(metric, row[key], row[f"{key}_sd"]) for key in shown]
        named = [*map(escape, (row["recipe"], row["competition"])), *([metric.heading] if judged else [])]
        fields = [*named, f"{row['parameters']:,}", str(row["seeds"]), *scores]
        table.add_row(*fields, f"{row['minutes']:.1f}")
    show_table(table)


def gaps(shown: Sequence[Gap], picture: Path) -> None:
    """Print holdout against public scores, and draw them if there are any."""
    for gap in shown:
        say(str(gap))
    if not shown:
        say("no run has a public score yet: ./run.sh submit RUN, then ./run.sh scores")
        return
    from featherweight.report import figures

    atomic.write_bytes(picture, figures.png(figures.holdout_against_public(shown)))
    say(f"wrote {paths.shown(picture)}")


def submissions(rows: pd.DataFrame) -> None:
    """Print every submission in its last state, the newest first."""
    table = blank_table(
        ["run", "kaggle", "reference", "status", f"holdout{_judged(rows)[1]}", "public", "private", "date"]
    )
    for row in rows.iloc[::-1].to_dict("records"):
        scores = ["" if math.isnan(row[key]) else f"{row[key]:.5f}" for key in ("public", "private")]
        date = str(row["date"])[:16].replace("T", " ")
        name = escape(row["run"] or row["message"])
        table.add_row(name, row["kaggle"], row["reference"], row["status"], _percent(row, "holdout"), *scores, date)
    show_table(table)


def leaderboard(places: Sequence[LeaderboardRow]) -> None:
    """Print the first teams."""
    table = blank_table(["team", "rank", "score", "date"])
    for place in places:
        table.add_row(escape(place.team), str(place.rank), place.score, place.date.replace("T", " "))
    show_table(table)


def comparison(rows: pd.DataFrame) -> None:
    """Print runs by their scores on the same held-out images, the best first, with 95 % intervals."""
    metrics = [column.removesuffix("_low") for column in map(str, rows.columns) if column.endswith("_low")]
    table = blank_table(["run", *(metric_by_name(metric).heading for metric in metrics)])
    for row in rows.to_dict("records"):
        scores = [_percent({**row, "metric": metric}, metric) for metric in metrics]
        table.add_row(escape(row["run"]), *scores)
    show_table(table)


def trials(rows: pd.DataFrame, metric: Metric, keys: Sequence[str], everything: Path) -> None:
    """Print a search's candidates in their order; refused ones are counted only."""
    refused = rows["outcome"].str.startswith("refused")
    trained = rows[~refused]
    short = [key.rpartition(".")[2] for key in keys]
    named = [end if short.count(end) == 1 else key for key, end in zip(keys, short, strict=True)]
    table = blank_table(["candidate", metric.name, "95 % interval", "epochs", "parameters", "seconds", *named])
    for row in trained.head(TRIALS).to_dict("records"):
        score, low, high = (metric.shown(row[key]) for key in ("score", "low", "high"))
        known = not math.isnan(row["score"])
        numbers = ["" if math.isnan(row[key]) else f"{row[key]:,.0f}" for key in ("epochs", "parameters", "seconds")]
        cells = [score, f"{low} to {high}"] if known else [escape(row["outcome"]), ""]
        table.add_row(str(row["candidate"]), *cells, *numbers, *(escape(row[key]) for key in keys))
    show_table(table)
    more = f"{len(trained) - TRIALS} more trials" if len(trained) > TRIALS else ""
    over = f"{refused.sum()} candidates refused" if refused.any() else ""
    if more or over:
        say(f"{' and '.join(filter(None, (more, over)))}: {paths.shown(everything)}")


def findings(listed: Iterable[Check]) -> int:
    """Print the doctor's findings as they come; return how many are problems."""
    wrong = 0
    for finding in listed:
        say(f"{'!!' if finding.wrong else '  '} {finding.what:<14} {finding.found}")
        if finding.wrong:
            wrong += 1
            say(f"{'':17} -> {finding.wrong}")
    return wrong


def _judged(rows: pd.DataFrame) -> tuple[list[str], str]:
    """Return the heading of a column of metrics with their units, and the unit of accuracies, which need none."""
    return (["metric"], "") if {metric_by_name(name).name for name in rows["metric"]} - {"accuracy"} else ([], " %")


def _percent(row: dict[Any, Any], key: str) -> str:
    if math.isnan(row[key]):
        return ""
    value, low, high = (metric_by_name(row["metric"]).number(row[end]) for end in (key, f"{key}_low", f"{key}_high"))
    return f"{value} [{low}, {high}]"


def _minutes(minutes: float) -> str:
    return duration(60 * minutes) if minutes < 1.5 else f"{minutes:.1f} minutes"


def blank_table(columns: Sequence[str], title: str = "") -> Table:
    """Return a table of these columns, the first of them text."""
    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    for place, column in enumerate(columns):
        words = place == 0 or column == "differs in"  # may be wrapped in a narrow terminal
        table.add_column(column, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    return table
