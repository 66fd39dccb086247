"""The formats: each writes the subject of an export to a file, with its facts inside."""

from __future__ import annotations

import importlib.util
import io
import json
import pprint
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from featherweight.errors import UserError
from featherweight.evaluation.tta import is_random
from featherweight.export import standalone
from featherweight.export.deployed import Answering, Deployed
from featherweight.export.exportable import ExportSource
from featherweight.export.source import Source
from featherweight.models import Classifier
from featherweight.models.weights_file import to_safetensors
from featherweight.runs import fitted
from featherweight.runtime.torch_internals import build_on_meta
from featherweight.submission import separator

Facts = Mapping[str, Any]
KEY = "featherweight"  # under which the facts stand in every format
PREPARED = {
    "size",
    "channels",
    "fit",
    "store",
    "crop",
    "interpolation",
    "levels",
    "black",
}  # of `Image`: how a picture is shown


@dataclass(frozen=True)
class Format:
    """An export format: its ending, the packages it needs, its reader and its writer."""

    ending: str
    needs: tuple[str, ...]
    reader: str
    write: Callable[[ExportSource, Facts, Path], None]


def as_text(facts: Facts) -> dict[str, str]:
    """Return the facts as texts: each as JSON unless it is a text, and all together under KEY."""
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    return {**text, KEY: json.dumps(facts)}


def deployed(subject: ExportSource) -> Deployed:
    """Return the source as one module. Raises UserError if its members need pictures of different sizes."""
    images = [member.run.competition.image for member in subject.members]
    seen = [image.model_dump(include=PREPARED) for image in images]
    apart = [key for key in seen[0] if any(each[key] != seen[0][key] for each in seen)]
    if apart:
        listed = ", ".join(
            f"{member.run.name} {each[apart[0]]}" for member, each in zip(subject.members, seen, strict=True)
        )
        raise UserError(f"{subject.run.name}: its members differ in image.{apart[0]} ({listed}); take --to script")
    return Deployed(
        [member.model for member in subject.members],
        [member.temperature for member in subject.members],
        [member.weight for member in subject.members],
        Answering(images[0], subject.run.competition.target, fitted.decision(subject.run)),
    ).eval()


def _pictures(subject: ExportSource) -> torch.Tensor:
    """Return two non-square pictures to trace the model with; number and sides stay open."""
    image = subject.run.competition.image
    shape = (2, image.size + 5, image.size + 2, image.channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _program(subject: ExportSource) -> torch.export.ExportedProgram:
    open_ended = {"images": dict.fromkeys((0, 1, 2), torch.export.Dim.DYNAMIC)}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(deployed(subject), (_pictures(subject),), dynamic_shapes=open_ended)
    for node in program.graph.nodes:  # else the file holds the paths of this machine
        node.meta.pop("stack_trace", None)
    return program


def _onnx(subject: ExportSource, facts: Facts, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _program(subject),
            (_pictures(subject),),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["probabilities"] if subject.run.competition.target == "one" else ["probabilities", "decided"],
        )
    assert program is not None
    for node in program.model.graph:  # the lines of code that each came from are half of a small net's file
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    program.model.metadata_props.update(as_text(facts))
    program.save(path)


def _torchscript(subject: ExportSource, facts: Facts, path: Path) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(deployed(subject), (_pictures(subject),), check_trace=False)  # type: ignore[no-untyped-call]
        # In memory first: on a full disk torch's own writer ends the process.
        path.write_bytes(traced.save_to_buffer(_extra_files={f"{KEY}.json": json.dumps(facts)}))


def _pt2(subject: ExportSource, facts: Facts, path: Path) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of buffers that share storage, which it writes all the same
        torch.export.save(_program(subject), buffer, extra_files={f"{KEY}.json": json.dumps(facts)})
    path.write_bytes(buffer.getvalue())


def _safetensors(subject: ExportSource, facts: Facts, path: Path) -> None:
    tensors = {
        f"{member.prefix}{name}": tensor
        for member in subject.members
        for name, tensor in member.model.state_dict().items()
    }
    path.write_bytes(to_safetensors(tensors, {**as_text(facts), "format": "pt"}))


def _script(subject: ExportSource, facts: Facts, path: Path) -> None:
    beside = path.with_suffix(".safetensors")
    _safetensors(subject, facts, beside)
    path.write_text(script_text(subject, facts, beside.name))


def script_text(subject: ExportSource, facts: Facts, weights_file: str) -> str:
    """Return one Python file that classifies pictures with the weights in `weights_file`, without this package."""
    source, makers = Source(standalone.__name__, {build_on_meta: standalone.build_on_meta}), []
    classifier = source.add(Classifier)
    for member in subject.members:
        spec, shape = member.run.recipe.model, member.run.competition.shape
        net = source.add(type(spec).target)
        published = {"pretrained": False, "weights": None}  # its weights are its own by now
        arguments = {**spec.arguments, **{key: published[key] for key in published if key in spec.arguments}}
        written = ", ".join([*map(repr, shape), *(f"{key}={value!r}" for key, value in arguments.items())])
        makers.append(f"    lambda: {classifier}({net}({written}), {shape.channels}),")
    constants = {
        **facts,
        "target": subject.run.competition.target,
        "separator": separator(subject.run.competition),
        "weights_file": weights_file,
        "members": [
            {
                **member.run.competition.image.model_dump(include=PREPARED),
                "temperature": member.temperature,
                "weight": member.weight,
                "prefix": member.prefix,
            }
            for member in subject.members
        ],
    }
    views = [[_view(source, view) for view in member.views] for member in subject.members]
    return _assembled(constants, source, makers, views if any(views) else [])


def _view(source: Source, view: Any) -> str:
    """Return a test-time view as the source of a function of images."""
    if is_random(view):
        raise UserError(
            f"--views: the view '{view.name}' draws at random, which a script cannot; export without --views"
        )
    arguments = "".join(f", {key}={value!r}" for key, value in view.arguments.items())
    return f"lambda images: {source.add(type(view).target)}(images, None, (){arguments})"


def _assembled(facts: Facts, source: Source, makers: Sequence[str], views: Sequence[Sequence[str]]) -> str:
    """Return the source of the module `standalone` with a model's facts and networks inserted."""
    head, ending = Path(standalone.__file__).read_text().split("# Every script ends with the text below this line.\n")
    head = head.split("\nimport ", 1)[0].strip()
    wants = ", ".join(sorted({"torch", "Pillow", *source.libraries} - {"PIL"}, key=str.lower))
    name = Path(facts["weights_file"]).stem
    return "\n".join(
        [
            head.replace("torch and Pillow", wants).replace("python FILE", f"python {name}.py").replace("FILE", name),
            "",
            *sorted(source.imports, key=_by_place),
            "",
            f"FACTS = {pprint.pformat(facts, width=118, sort_dicts=False)}",
            "",
            *(f"\n{definition}\n" for definition in source.definitions),
            "NETWORKS = [",
            *makers,
            "]",
            "VIEWS = [",
            *(f"    [{', '.join(each)}]," for each in views),
            "]",
            ending,
        ]
    )


def _by_place(line: str) -> tuple[bool, str]:
    """Sort imports: the standard library before packages."""
    return line.split()[1].split(".")[0] not in sys.stdlib_module_names, line


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxruntime", "onnxscript"), "onnx", _onnx),
    "torchscript": Format(".torchscript", (), "torchscript", _torchscript),
    "pt2": Format(".pt2", (), "pt2", _pt2),
    "safetensors": Format(".safetensors", (), "script", _safetensors),
    "script": Format(".py", (), "script", _script),
}


def missing(names: Sequence[str]) -> list[str]:
    """Return the packages that are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]
