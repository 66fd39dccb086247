"""Export a run: write the file, load it again in the format's own runtime, compare, and only then put it in place."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featherweight import __version__, atomic, paths
from featherweight.console import say
from featherweight.data.pack import LabelledPack, Pack
from featherweight.errors import UserError, count_of, nearest
from featherweight.evaluation.calibration import temper, temper_cross_fitted
from featherweight.evaluation.decisions import cross_fitted, expected_index
from featherweight.evaluation.metrics import Score
from featherweight.export import quantize
from featherweight.export.exportable import ExportSource, some
from featherweight.export.formats import FORMATS, as_text, missing, script_text
from featherweight.export.onnx_runner import answers, prepared_by_graph
from featherweight.models.custom import CustomModel
from featherweight.runs import fitted
from featherweight.runs.evaluate import scored
from featherweight.runs.run import Run

CHECKED = 512  # holdout images that an export is checked on, at most
CLOSE = 1e-4  # largest difference of its probabilities from the run's own
TIE = 1e-6  # of two classes with closer probabilities, either may be predicted


def refuse_if_impossible(kind: str, int8: bool = False, views: bool = False) -> None:
    """Raise UserError for an unknown format, for options it does not have, and for packages that are not installed."""
    if kind not in FORMATS:
        raise UserError(f"--to {kind}: there is no such format{nearest(kind, FORMATS)}; there are {', '.join(FORMATS)}")
    if int8 and kind != "onnx":
        raise UserError(f"--int8 works only with --to onnx, not with {kind}")
    if views and kind != "script":
        raise UserError(f"--views works only with --to script: {kind} runs the model once per image")
    absent = missing(FORMATS[kind].needs)
    if absent:
        raise UserError(f"--to {kind} needs {', '.join(absent)}: ./run.sh install {' '.join(FORMATS[kind].needs)}")


def export(run: Run, kind: str, out: Path | None = None, *, int8: bool = False, views: bool = False) -> list[Path]:
    """Write the run's model in a format and return the files. Raises UserError if the format's own runtime computes
    other probabilities.

    With `int8` a quantised copy is written beside the ONNX file, and the scores and sizes of both are printed. With
    `views` a script predicts with the run's test-time views.
    """
    refuse_if_impossible(kind, int8, views)
    format, subject = FORMATS[kind], ExportSource.of(run, with_views=views)
    _refuse_code_of_others(subject, kind)
    out = _file(run, kind, out)
    paths.refuse_unwritable_file(out)
    weighed = run.weigh()
    data = subject.load()
    held = subject.shown(data, run.split.holdout)
    facts = facts_of(subject, weighed.counted, weighed.limit, plain_score(subject, held))
    packs = subject.shown(data, some(run.split.holdout, CHECKED))
    own = expected = subject.probs(packs, "to compare with")
    images = [member.run.competition.image for member in subject.members]
    if format.reader != "script" and any(image.store for image in images):
        shown = [prepared_by_graph(pack, image) for pack, image in zip(packs, images, strict=True)]
        expected = subject.probs(shown, "as the graph resizes them")
    say(f"{run.name}: writing {out.name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as beside, atomic.naming(out):
        written = Path(beside) / out.name
        format.write(subject, facts, written)
        readable = written
        if kind == "safetensors":  # weights alone cannot be run: a script with the network loads them
            readable = Path(beside) / "loads_weights.py"
            readable.write_text(script_text(subject, facts, written.name))
        probs, decided = answers(format.reader, readable, packs)
        _compare(probs, expected, kind)
        _compare_decided(run, decided, expected, kind)
        same = f"the same classes and probabilities for {count_of(len(expected), 'holdout image')}"
        say(f"  loaded again by {_runtime(kind)}: {same}")
        _say_rounding(own, expected)
        say_facts(facts)
        finished = [written.with_suffix(".safetensors"), written] if kind == "script" else [written]
        if int8:
            trained = subject.shown(data, some(_trained_on(subject), quantize.CALIBRATION))
            finished.append(_quantized(subject, written, facts, trained, held))
        for file in finished:  # a script's weights before the script
            file.replace(out.parent / file.name)
    return [out.parent / file.name for file in finished]


def _refuse_code_of_others(subject: ExportSource, kind: str) -> None:
    """Raise UserError if a script would need a network whose code is not part of this package."""
    own = [member.run for member in subject.members if isinstance(member.run.recipe.model, CustomModel)]
    if own and FORMATS[kind].reader == "script":
        raise UserError(
            f"--to {kind}: {own[0].recipe.model.name} of {own[0].name} is your own code, which this format cannot hold;"
            f" take onnx, pt2 or torchscript; its weights alone are {own[0].weights}"
        )


def _file(run: Run, kind: str, out: Path | None) -> Path:
    """Return the path of the export. A script gets a name that Python can import."""
    ending = FORMATS[kind].ending
    name = (re.sub(r"\W", "_", run.name) if kind == "script" else run.name) + ending
    if out is None:
        return run.folder / "export" / name
    if out.is_dir():
        return out.absolute() / name
    if out.suffix != ending:
        raise UserError(f"--out {out}: expected a folder, or a file that ends in {ending}")
    return out.absolute()


def _trained_on(subject: ExportSource) -> list[str]:
    """Return the ids of the images that the first member was trained on; an ensemble has no training images."""
    return subject.members[0].run.split.train


def _quantized(
    subject: ExportSource, written: Path, facts: dict[str, Any], trained: Sequence[Pack], held: Sequence[LabelledPack]
) -> Path:
    """Write the int8 copy of an ONNX file beside it, print its score on the whole holdout, and return its path."""
    small = written.with_suffix(".int8.onnx")
    quantize.quantize(written, trained[0].images, small)
    kind = "int8, static, per channel"
    if not subject.all_hold_out(held[0].ids):
        quantize.label(small, as_text({**facts, "holdout": None, "quantised": kind}))
        say(
            f"  int8: {small.stat().st_size:>12,} bytes of {written.stat().st_size:,}; no score: each holdout image was"
        )
        say("  a training image of some of the folds, and the graph averages all of them")
        return small
    say(f"  predicting {count_of(len(held[0]), 'holdout image')} by onnxruntime in int8")
    score = _score(subject.run, held[0], _recalibrated(subject, answers("onnx", small, held)[0], held[0]))
    quantize.label(small, as_text({**facts, "holdout": asdict(score), "quantised": kind}))
    for file, its in ((written, Score(**facts["holdout"])), (small, score)):
        numbers = "int8" if file == small else "fp32"
        say(f"  {numbers}: {file.stat().st_size:>12,} bytes, holdout {facts['metric']} {its}")
    if len(subject.members) > 1 and any(member.run.temperature.exists() for member in subject.members):
        say(
            "  int8: the members' temperatures were fitted to these images, so its probabilities look a little too good"
        )
    return small


def _recalibrated(subject: ExportSource, probs: NDArray[np.float32], pack: LabelledPack) -> NDArray[np.float32]:
    """Return a graph's probabilities, float32 [N, K], at cross-fitted temperatures, as for the fp32 score.

    The graph of a single run contains a temperature that was fitted to these images: it is divided out first. The mean
    over an ensemble's members cannot be separated, and is returned unchanged.
    """
    run, several = subject.run, subject.run.competition.target == "several"
    if len(subject.members) > 1 or not run.temperature.exists():
        return probs
    raw = temper(probs, 1 / fitted.temperature(run), several=several)
    return temper_cross_fitted(raw, pack.labels, groups=run.groups(pack.ids))


def _compare(probs: NDArray[np.float32], expected: NDArray[np.float32], kind: str) -> None:
    """Raise UserError if the probabilities or the most probable classes differ."""
    apart = float(np.abs(probs - expected).max()) if probs.shape == expected.shape else float("inf")
    rows = np.arange(len(expected))
    lost = expected.max(1) - expected[rows, probs.argmax(1)] if probs.shape == expected.shape else np.ones(1)
    other = int((lost > TIE).sum())
    if not apart <= CLOSE or other:
        raise UserError(
            f"--to {kind}: loaded again, it gives {other} of {len(expected)} holdout images another class, and "
            f"probabilities differ by up to {apart:.2g} ({CLOSE:g} is allowed); the file is deleted"
        )


def _say_rounding(own: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Print how much the probabilities change because a graph resizes stored pictures itself."""
    apart, other = float(np.abs(own - expected).max()), int((own.argmax(1) != expected.argmax(1)).sum())
    if apart > CLOSE:
        changed = count_of(other, "class")
        say(f"  resized in the graph, rounding moves probabilities by up to {apart:.2g} and changes {changed}")


def _compare_decided(
    run: Run, decided: NDArray[np.bool_ | np.int64] | None, expected: NDArray[np.float32], kind: str
) -> None:
    """Raise UserError if the decisions differ, other than for probabilities exactly at a threshold or cut point."""
    decision = fitted.decision(run)
    if decided is None or decision.kind == "most_probable":
        return
    places = expected if decision.kind == "thresholds" else expected_index(expected)[:, None]
    at = np.abs(places - np.asarray(decision.values)).reshape(len(expected), -1) <= TIE * expected.shape[1]
    other = decided != decision(expected)
    wrong = int((other & ~(at if other.ndim == 2 else at.any(1))).sum())
    if wrong:
        differing = count_of(wrong, "decision")
        raise UserError(f"--to {kind}: loaded again, it differs in {differing}; the file is deleted")


def plain_score(subject: ExportSource, packs: Sequence[LabelledPack]) -> Score:
    """Return the holdout score of the exported model: in float32 on the CPU, whatever device the run was scored on, and
    without the test-time views, unless these are exported too.
    """
    return _score(subject.run, packs[0], subject.held_out(packs, "holdout as it is exported"))


def _score(run: Run, pack: LabelledPack, probs: NDArray[np.float32]) -> Score:
    """Return the score of the holdout's probabilities, decided, written and scored as the run's own are, with the same
    interval.
    """
    target, metric, groups = run.competition.target, run.competition.metric, run.groups(pack.ids)
    decided = cross_fitted(target, metric, probs, pack.labels, groups=groups)
    with tempfile.TemporaryDirectory() as folder:
        return scored(run, Path(folder) / "holdout.csv", pack.ids, pack.labels, probs, decided)


def facts_of(subject: ExportSource, counted: int, limit: int, plain: Score) -> dict[str, Any]:
    """Return the facts that are stored in an export, as plain data."""
    run = subject.run
    competition, image = run.competition, run.competition.image
    colours = "RGB" if image.channels == 3 else "grey"
    probabilities = f"probabilities: float32 [N, {len(competition.classes)}], in the order of classes"
    decided = {
        "one": "",
        "several": f"; decided: bool [N, {len(competition.classes)}]",
        "ordered": "; decided: int64 [N]",
    }
    views = f"the test-time views {'+'.join(subject.views)}" if subject.has_views else "no test-time views"
    return {
        "run": run.name,
        "recipe": run.recipe_name,
        "competition": run.competition_name,
        "title": competition.title,
        "classes": list(competition.classes),
        "input": f"images: uint8 [N, height, width, {image.channels}], {colours}, of any height and width",
        "output": probabilities + decided[competition.target],
        "inside": f"resizing, normalisation, probabilities, calibration, decision; {views}",
        "decision": asdict(fitted.decision(run)),
        "size": image.size,
        "channels": image.channels,
        **({"fit": image.fit} if image.store is None else {"store": image.store, "crop": image.crop}),
        "temperatures": [member.temperature for member in subject.members],
        "ensemble": {member.run.name: member.weight for member in subject.members} if run.is_ensemble else {},
        "weigh_in": {"parameters": counted, "limit": limit},
        "metric": competition.metric.name,
        "holdout": asdict(plain),
        "holdout_is": "" if subject.all_hold_out(run.split.holdout) else "; each image by the folds that held it out",
        "views": subject.views,
        "holdout_with_views": asdict(run.result.holdout) if subject.views and not subject.has_views else None,
        "commit": run.metadata.commit,
        "versions": {"featherweight": __version__, "torch": torch.__version__},
    }


def say_facts(facts: Mapping[str, Any]) -> None:
    """Print what an export contains and its score."""
    say(f"  inside: {facts['inside']}")
    own = ""
    if facts["holdout_with_views"]:
        own = f"; the run's own, with the views {'+'.join(facts['views'])}: {Score(**facts['holdout_with_views'])}"
    say(f"  holdout {facts['metric']} {Score(**facts['holdout'])}{own}{facts['holdout_is']}")


def _runtime(kind: str) -> str:
    return {"onnx": "onnxruntime", "safetensors": "torch, in the network's own source"}.get(kind, "torch alone")
