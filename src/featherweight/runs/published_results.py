"""What this repository publishes of its runs: selected rows of a ledger in `docs/results.csv`, and tables of them.

A row is taken only from code that anybody can check out: a commit in the history, without later changes.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from featherweight import atomic, budget, paths
from featherweight.config import load_competition, load_recipe
from featherweight.config.purpose import group, purpose
from featherweight.errors import UserError
from featherweight.evaluation.metrics import metric_by_name
from featherweight.runs import ledger, query

WHOLE = 1000  # characters of a purpose, which pages do not cut short
MARKERS = re.compile(r"(<!-- results(?:: (?P<recipes>[^>]*?))? -->\n)(?P<table>.*?)(<!-- /results -->)", re.DOTALL)
MODELS = re.compile(r"(<!-- models -->\n).*?(<!-- /models -->)", re.DOTALL)


def path() -> Path:
    """Return the file of published rows; it is in the checkout, wherever the workspace is."""
    return paths.CHECKOUT / "docs" / "results.csv"


def pages() -> list[Path]:
    """Return the pages with a table between markers."""
    return [paths.CHECKOUT / "README.md", *(paths.CHECKOUT / "docs" / page for page in ("results.md", "models.md"))]


def publish(runs: Sequence[str]) -> list[Path]:
    """Add the latest run of each name in the ledger, and write the tables again; return the files that were written.

    Raises UserError, before anything is written, for a run that the ledger lacks or whose code cannot be checked out.
    """
    rows = [ledger.rows_of(run) for run in runs]
    for run, own_rows in zip(runs, rows, strict=True):
        if not own_rows:
            raise UserError(f"publish: the ledger has no run '{run}'; see ./run.sh runs")
        if why := unpublishable(own_rows[0]["commit"]):
            raise UserError(f"publish: {run} {why}; run it again at a commit of this history, with nothing changed")
    for own_rows in rows:
        ledger.copy(own_rows, path())
    return [path() for _ in runs[:1]] + refresh()


def unpublishable(commit: str) -> str:
    """Return why the code of a run cannot be checked out; empty if it can."""
    if not commit:
        return "was not run from a git checkout"
    if commit.endswith("+"):
        return f"was run from changed code (commit {commit})"
    git = ["git", "-C", str(paths.CHECKOUT), "merge-base", "--is-ancestor", commit, "HEAD"]
    try:
        in_history = subprocess.run(git, capture_output=True, check=False).returncode == 0
    except OSError as error:
        raise UserError(f"publish: git is needed and cannot be run: {error}") from None
    return "" if in_history else f"was run at commit {commit}, which is not in this checkout's history"


def refresh() -> list[Path]:
    """Write the tables between the markers of the pages; return the pages that this changed.

    A table holds all rows, or those that its marker names: `<!-- results: best5m_cpu@cifar10 wrn16_4@digits -->`.
    """
    rows = query.ordered(query.table(path()), None)
    changed = []
    for page in pages():
        text = page.read_text() if page.is_file() else ""
        fresh = MARKERS.sub(lambda match: match[1] + markdown(_chosen(rows, match["recipes"])) + match[4], text)
        fresh = MODELS.sub(lambda match: match[1] + models() + match[2], fresh)
        if fresh != text:
            atomic.write_text(page, fresh)
            changed.append(page)
    return changed


def _chosen(rows: pd.DataFrame, names: str | None) -> pd.DataFrame:
    if names is None:
        return rows
    named = rows["recipe"] + "@" + rows["competition"]
    return rows[named.isin(names.split())]


def markdown(rows: pd.DataFrame) -> str:
    """Return a table with a line for each recipe, with the command that made it.

    Scores are in percent: with the 95 % interval for one seed, with mean and standard deviation for several.
    """
    parts = query.scored_parts(rows)
    heads = [f"{part} %" for part in (*parts, "public")]
    lines = [
        f"| competition | recipe | parameters | seeds | {' | '.join(heads)} | minutes | command |",
        f"|---|---|---:|---:|{'---:|' * len(heads)}---:|---|",
    ]
    for row in query.by_seed(rows).to_dict("records"):
        metric = metric_by_name(row["metric"])
        scores = [query.with_deviation(metric, row[key], row[f"{key}_sd"]) for key in (*parts, "public")]
        for index, key in enumerate(parts):
            if row["seeds"] == 1 and scores[index]:
                scores[index] += f" [{metric.number(row[f'{key}_low'])}, {metric.number(row[f'{key}_high'])}]"
        fields = [row["competition"], row["recipe"], f"{row['parameters']:,}", str(row["seeds"]), *scores]
        fields += [f"{row['minutes']:.1f}", f"`{row['command']}`"]
        lines.append(f"| {' | '.join(fields)} |")
    return "\n".join(lines) + "\n"


def models() -> str:
    """Return a table with a line for each recipe of `best` and `networks`: its size with 10 classes of 3x32x32, and its
    purpose.
    """
    names = [name for name in paths.config_names("recipes") if group(name) in ("best", "networks")]
    weighed = budget.weigh_all({name: load_recipe(name) for name in names}, load_competition("cifar10"))
    lines = ["| recipe | parameters | of the limit | M multiply-adds | | |", "|---|---:|---:|---:|---|---|"]
    for one in weighed:
        share, macs = f"{one.counted / one.limit:.1%}", f"{one.macs / 1e6:,.1f}"
        fields = [
            one.name,
            f"{one.counted:,}",
            share,
            macs,
            "" if one.within_limit else "refused",
            purpose(one.name, WHOLE),
        ]
        lines.append(f"| {' | '.join(fields)} |")
    return "\n".join(lines) + "\n"
