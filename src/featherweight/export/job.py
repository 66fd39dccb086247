"""The export of a run: written, read again by the format's own runtime, compared, and only then put in place."""

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

from featherweight import __version__, atomic, submission
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
from featherweight.runs.evaluate import names_of
from featherweight.runs.run import Run

CHECKED = 512  # pictures of the holdout that an export is checked on, at most
CLOSE = 1e-4  # how far its probabilities may be from the run's own
TIE = 1e-6  # classes whose probabilities are closer than this are not told apart


def refuse_if_impossible(kind: str, int8: bool = False, views: bool = False) -> None:
    """Raise UserError for a format that there is not, that cannot hold it, or whose packages are not installed."""
    if kind not in FORMATS:
        raise UserError(f"--to {kind}: there is no such format{nearest(kind, FORMATS)}; there are {', '.join(FORMATS)}")
    if int8 and kind != "onnx":
        raise UserError(f"--int8 is for --to onnx alone, not for {kind}")
    if views and kind != "script":
        raise UserError(f"--views is for --to script alone: {kind} asks the model once for each image")
    absent = missing(FORMATS[kind].needs)
    if absent:
        raise UserError(f"--to {kind} needs {', '.join(absent)}: ./run.sh install {' '.join(FORMATS[kind].needs)}")


def export(run: Run, kind: str, out: Path | None = None, *, int8: bool = False, views: bool = False) -> list[Path]:
    """Write the run's model in a format; returns the files. Raises UserError where its own runtime does not agree.

    With `int8` a quantised copy stands beside the ONNX file, its score and its bytes are shown beside those of float32.
    With `views` a script asks the model by the run's test-time views.
    """
    refuse_if_impossible(kind, int8, views)
    format, subject = FORMATS[kind], ExportSource.of(run, with_views=views)
    _refuse_code_of_others(subject, kind)
    out = _file(run, kind, out)
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
        if kind == "safetensors":  # weights alone say nothing: they are asked by the network that a script holds
            readable = Path(beside) / "asked.py"
            readable.write_text(script_text(subject, facts, written.name))
        probs, decided = answers(format.reader, readable, packs)
        _compare(probs, expected, kind)
        _compare_decided(run, decided, expected, kind)
        say(f"  read again by {_runtime(kind)}: {len(expected):,} holdout images, the same classes and probabilities")
        _say_rounding(own, expected)
        say_facts(facts)
        finished = [written.with_suffix(".safetensors"), written] if kind == "script" else [written]
        if int8:
            trained = subject.shown(data, some(_trained_on(subject), quantize.CALIBRATION))
            finished.append(_quantized(subject, written, facts, trained, held))
        for file in finished:  # the weights of a script before the script
            file.replace(out.parent / file.name)
    return [out.parent / file.name for file in finished]


def _refuse_code_of_others(subject: ExportSource, kind: str) -> None:
    """Raise UserError where a script would need a network that is not made of this package's code."""
    own = [member.run for member in subject.members if isinstance(member.run.recipe.model, CustomModel)]
    if own and FORMATS[kind].reader == "script":
        raise UserError(
            f"--to {kind}: {own[0].recipe.model.name} of {own[0].name} is your own code, which this format cannot hold;"
            f" take onnx, pt2 or torchscript; its weights alone are {own[0].weights}"
        )


def _file(run: Run, kind: str, out: Path | None) -> Path:
    """Where an export goes. A script has a name that Python can import."""
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
    """The pictures that the first member was trained on; an ensemble has no split of its own for them."""
    return subject.members[0].run.split.train


def _quantized(
    subject: ExportSource, written: Path, facts: dict[str, Any], trained: Sequence[Pack], held: Sequence[LabelledPack]
) -> Path:
    """The int8 copy of an ONNX file, beside it, its score measured on the whole holdout."""
    small = written.with_suffix(".int8.onnx")
    quantize.quantize(written, trained[0].images, small)
    kind = "int8, static, per channel"
    if not subject.all_hold_out(held[0].ids):
        quantize.label(small, as_text({**facts, "holdout": None, "quantised": kind}))
        say(f"  int8: {small.stat().st_size:>12,} bytes of {written.stat().st_size:,}; no score, since each holdout")
        say("  image was trained on by some of the folds that it averages, and cannot be asked of the others alone")
        return small
    say(f"  asking onnxruntime in int8 about {len(held[0]):,} holdout images")
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
    """Return what a graph answered, float32 [N, K], at cross-fitted temperatures, as the fp32 score is calibrated.

    The graph of a single run holds a temperature that was fitted to these very images: it is divided out first. The
    mean over an ensemble's members cannot be taken apart, and is returned as it is.
    """
    run, several = subject.run, subject.run.competition.target == "several"
    if len(subject.members) > 1 or not run.temperature.exists():
        return probs
    raw = temper(probs, 1 / fitted.temperature(run), several=several)
    return temper_cross_fitted(raw, pack.labels, groups=run.groups(pack.ids))


def _compare(probs: NDArray[np.float32], expected: NDArray[np.float32], kind: str) -> None:
    """Raise UserError where the probabilities differ, or the most probable class."""
    apart = float(np.abs(probs - expected).max()) if probs.shape == expected.shape else float("inf")
    rows = np.arange(len(expected))
    lost = expected.max(1) - expected[rows, probs.argmax(1)] if probs.shape == expected.shape else np.ones(1)
    other = int((lost > TIE).sum())
    if not apart <= CLOSE or other:
        raise UserError(
            f"--to {kind}: read again, it gives {other} of {len(expected)} holdout images another class, and "
            f"probabilities up to {apart:.2g} apart ({CLOSE:g} is allowed); it is not kept"
        )


def _say_rounding(own: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Say what it costs that a graph resizes stored pictures by itself."""
    apart, other = float(np.abs(own - expected).max()), int((own.argmax(1) != expected.argmax(1)).sum())
    if apart > CLOSE:
        changed = count_of(other, "class")
        say(f"  resized in the graph, rounding moves probabilities by up to {apart:.2g} and changes {changed}")


def _compare_decided(
    run: Run, decided: NDArray[np.bool_ | np.int64] | None, expected: NDArray[np.float32], kind: str
) -> None:
    """Raise UserError where what is decided differs, but for probabilities at a threshold or cut point itself."""
    decision = fitted.decision(run)
    if decided is None or decision.kind == "most_probable":
        return
    places = expected if decision.kind == "thresholds" else expected_index(expected)[:, None]
    at = np.abs(places - np.asarray(decision.values)).reshape(len(expected), -1) <= TIE * expected.shape[1]
    other = decided != decision(expected)
    wrong = int((other & ~(at if other.ndim == 2 else at.any(1))).sum())
    if wrong:
        raise UserError(f"--to {kind}: read again, it decides otherwise {count_of(wrong, 'time')}; it is not kept")


def plain_score(subject: ExportSource, packs: Sequence[LabelledPack]) -> Score:
    """The holdout's score of what is exported: in float32 on the CPU, whatever the run was scored by, and without the
    test-time views, unless they go along.
    """
    return _score(subject.run, packs[0], subject.held_out(packs, "holdout as it is exported"))


def _score(run: Run, pack: LabelledPack, probs: NDArray[np.float32]) -> Score:
    """The score of probabilities of the labelled holdout, decided, written and scored as the run's own are."""
    competition = run.competition
    form = submission.holdout_form(competition, pack.ids)
    known: dict[str, str | tuple[str, ...]] = dict(
        zip(pack.ids, names_of(pack.labels, competition.classes), strict=True)
    )
    groups = run.groups(pack.ids)
    decided = cross_fitted(competition.target, competition.metric, probs, pack.labels, groups=groups)
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "holdout.csv"
        submission.write(csv, form, pack.ids, probs, decided)
        return submission.score(csv, form, known, competition, groups=groups)


def facts_of(subject: ExportSource, counted: int, limit: int, plain: Score) -> dict[str, Any]:
    """What an export says of itself, as plain data."""
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
        "holdout_is": "" if subject.all_hold_out(run.split.holdout) else "; each picture by the folds that held it out",
        "views": subject.views,
        "holdout_with_views": asdict(run.result.holdout) if subject.views and not subject.has_views else None,
        "commit": run.metadata.commit,
        "versions": {"featherweight": __version__, "torch": torch.__version__},
    }


def say_facts(facts: Mapping[str, Any]) -> None:
    """Tell what is inside an export and what it scores."""
    say(f"  inside: {facts['inside']}")
    own = ""
    if facts["holdout_with_views"]:
        own = f"; the run's own, with the views {'+'.join(facts['views'])}: {Score(**facts['holdout_with_views'])}"
    say(f"  holdout {facts['metric']} {Score(**facts['holdout'])}{own}{facts['holdout_is']}")


def _runtime(kind: str) -> str:
    return {"onnx": "onnxruntime", "safetensors": "torch, in the network's own source"}.get(kind, "torch alone")
