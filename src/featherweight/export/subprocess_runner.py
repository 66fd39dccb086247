"""Asks an exported file for probabilities in a process that has never heard of this package.

    python -I subprocess_runner.py FORMAT FILE IMAGES.npz ANSWERS.npz

IMAGES.npz holds batches of pictures, uint8 [B, H, W, C], as BATCH.MEMBER: once for each model of an ensemble that a
script holds, since they may differ in size;
ANSWERS.npz gets `probs` and, where the file decides, `decided`.
Run as a program; nothing of the package is imported, nor can it be.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

Exported = Callable[[list[Any]], list[Any]]  # probabilities and, where it decides, what is decided


def onnx(path: str) -> Exported:
    """Run a file with onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {session.get_inputs()[0].name: images[0]})


def torchscript(path: str) -> Exported:
    """Run a file with torch.jit."""
    module = torch.jit.load(path)  # type: ignore[no-untyped-call]
    return lambda images: _arrays(module(torch.from_numpy(images[0])))


def pt2(path: str) -> Exported:
    """Run a file with torch.export."""
    module = torch.export.load(path).module()
    return lambda images: _arrays(module(torch.from_numpy(images[0])))


def script(path: str) -> Exported:
    """Run an exported script."""
    spec = importlib.util.spec_from_file_location("exported", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    facts = module.FACTS

    def ask(images: list[Any]) -> list[Any]:
        probs = module.probabilities([torch.from_numpy(part) for part in images])
        return _arrays((probs, module.decided(probs, facts["decision"]["kind"], facts["decision"]["values"])))

    return ask


def _arrays(outputs: Any) -> list[Any]:
    return [part.numpy() for part in (outputs if isinstance(outputs, tuple) else (outputs,))]


FORMATS: dict[str, Callable[[str], Exported]] = {"onnx": onnx, "torchscript": torchscript, "pt2": pt2, "script": script}


def main(kind: str, path: str, images: str, answers: str) -> None:
    """Load a model, run it in batches and store its answers."""
    sys.modules["featherweight"] = None  # type: ignore[assignment]  # an import of it fails, installed or not
    ask = FORMATS[kind](path)
    with np.load(images) as stored:
        batches: dict[str, list[Any]] = {}
        for name in stored.files:
            batches.setdefault(name.split(".")[0], []).append(stored[name])
    with torch.no_grad():
        answered = [ask(parts) for parts in batches.values()]
    stored = [np.concatenate(parts) for parts in zip(*answered, strict=True)]
    np.savez(Path(answers), **dict(zip(("probs", "decided"), stored, strict=False)))


if __name__ == "__main__":
    main(*sys.argv[1:])
