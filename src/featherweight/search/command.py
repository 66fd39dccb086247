"""The search command: check the space, estimate the cost, search, and report."""

from __future__ import annotations

from pathlib import Path

from featherweight import atomic, paths
from featherweight.config import load_competition
from featherweight.console import say
from featherweight.errors import UserError, count_of
from featherweight.evaluation.metrics import metric_of
from featherweight.report import tables
from featherweight.runtime import device as devices
from featherweight.schema import MAX_INT
from featherweight.search import outcome
from featherweight.search.costs import costs
from featherweight.search.space import load
from featherweight.search.study import counted, open_study
from featherweight.search.trials import Search, work

LONGEST = 100_000  # hours


def search(
    space: str,
    *,
    trials: int | None,
    hours: float | None,
    competition: str | None,
    name: str | None,
    storage: str | None,
    device: str,
    threads: int | None,
) -> str:
    """Search a space until `trials` are trained in all, or for `hours`; return the command that trains the best recipe.

    A study of that name is continued. Raises UserError before anything starts, and KeyboardInterrupt after Ctrl-C, with
    the study in a consistent state.
    """
    if trials is None and hours is None:
        raise UserError("give --trials 50, --hours 2 or both, to say how long to search")
    if trials is not None and not 1 <= trials <= MAX_INT:
        raise UserError(f"--trials {trials}: expected 1 to {MAX_INT:,}")
    if hours is not None and not 0 < hours < LONGEST:
        raise UserError(f"--hours {hours:g}: expected more than 0 and less than {LONGEST:,}")
    search_space = load(space)
    rival = competition or search_space.file.competition
    stems = dict.fromkeys([Path(space).stem, *([Path(competition).stem] if competition else [])])
    name = name or paths.plain("-".join(stems))
    paths.refuse_name(name, "--name")
    recipe = paths.own_recipe(name, "--name")
    outcome.refuse_if_not_ours(recipe, name)
    to_win = load_competition(rival).seen_by(search_space.recipe({}))
    search_space.refuse_bad_values(to_win)
    runs_on = devices.make_runtime(device, search_space.recipe({}).train.precision, threads)
    data = to_win.load()

    folder = paths.studies() / name
    study = open_study(name, storage, folder, search_space, to_win)
    search = Search(search_space, Path(rival).stem, to_win, data, runs_on, study, storage, folder)
    done = len(counted(study))
    say(f"{name}: {len(search_space.file.search)} keys of {search_space.file.base} on {to_win.title}")
    if done:
        say(f"  continuing after {count_of(done, 'trial')}")
    if trials is None or done < trials:
        for line in costs(search).in_words(None if trials is None else trials - done, hours):
            say(f"  {line}")
    ended = work(search, trials, hours)

    rows = outcome.table(study, search_space)
    atomic.write_text(folder / "trials.csv", rows.to_csv(index=False))
    tables.trials(rows, metric_of(to_win.metric), list(search_space.file.search), folder / "trials.csv")
    if ended:
        say(ended)
    if not rows["score"].notna().any():
        raise UserError("no trial was finished, so there is no best one; give more --trials or --hours")
    if outcome.draw_importances(study, folder / "importances.png"):
        say(f"wrote {folder / 'importances.png'}: which keys matter most")
    best = outcome.write_best(study, search_space, Path(rival).stem, recipe, to_win.metric, folder)
    say(f"wrote {recipe}, the best trial, with a score of {best}")
    return f"./run.sh {name} --competition {rival}"
