"""The ONNX export in 8-bit whole numbers: a quarter of the bytes, at a price that is measured."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.console import Progress
from featherweight.errors import UserError
from featherweight.export.onnx_runner import whole_pictures
from featherweight.untrusted_files import reason

CALIBRATION = 256  # training pictures that the ranges of the activations are taken from
QUANTIZED = ["Conv", "Gemm", "MatMul"]  # those that hold weights; the rest stays in float32


def quantize(model: Path, images: Any, out: Path) -> None:
    """Write `out`, an ONNX file like `model` whose convolutions and products are of int8, scaled per channel.

    The ranges of the activations are those on `images` of training pictures, uint8 [N, H, W, C] or `Photos`. The
    weights use 7 bits of the 8: processors without VNNI add two products in 16 bits, which 8 bits would overflow.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, bar: Progress) -> None:
            self.batches, self.bar = whole_pictures(images), bar

        def get_next(self) -> dict[str, Any] | None:
            for places, pictures in self.batches:
                self.bar.advance(len(places))
                return {"images": np.ascontiguousarray(pictures)}
            return None

    logging.getLogger().setLevel(logging.ERROR)  # it warns of what is done here already
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = Path(folder) / "prepared.onnx"
        with _refused_failures(folder):
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        with Progress("calibrate int8", len(images), "images") as bar:
            quantization.quantize_static(
                str(prepared),
                str(out),
                Reader(bar),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=QUANTIZED,
                nodes_to_exclude=_without_weights(prepared),
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )


class _Kept(logging.Handler):
    """A log handler that keeps the messages."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.said.append(record.getMessage())


@contextmanager
def _refused_failures(folder: str) -> Iterator[None]:
    """Raise if onnxruntime logs that it failed to optimise the graph; it would go on with another graph."""
    log, kept = logging.getLogger("onnxruntime.quantization"), _Kept()
    log.addHandler(kept)
    propagated, log.propagate = log.propagate, False
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:  # what its parts in C++ cannot write, the next one cannot read
        kept.said.append(reason(error))
    finally:
        log.removeHandler(kept)
        log.propagate = propagated
    if kept.said:
        last = kept.said[-1].strip().splitlines()[-1][:200]
        raise UserError(
            f"--int8: onnxruntime could not prepare the graph ({last}); is there room in {Path(folder).parent}?"
        )


def _without_weights(path: Path) -> list[str]:
    """Return the products of two activations, such as a picture and resizing weights, or queries and keys."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and stored.isdisjoint(node.input)]


def label(path: Path, facts: Mapping[str, str]) -> None:
    """Put facts into an ONNX file's metadata, replacing what is there."""
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, dict(facts))
    onnx.save(model, str(path))
