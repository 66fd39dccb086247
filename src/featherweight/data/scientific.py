"""Pictures in files that Pillow does not open: DICOM and NumPy arrays, one picture in each file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featherweight.errors import UserError


def pixels(content: bytes) -> tuple[NDArray[Any], int | None] | None:
    """Return the picture [H, W] or [H, W, 3] in a DICOM or `.npy` file, and its value of white if the file states it.

    Returns None for other files. Raises ValueError for such a file without exactly one picture, and UserError with the
    install command if the package that reads it is missing.
    """
    if content[:6] == b"\x93NUMPY":
        return _array(np.load(io.BytesIO(content), allow_pickle=False)), None
    if content[128:132] == b"DICM":
        return _dicom(content)
    return None


def package(name: str, what: str) -> Any:
    """Import an optional package. Raises UserError with the command that installs it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{what} needs the package {name}: ./run.sh install {name.partition('.')[0]}") from None


def _array(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 3 and values.shape[-1] not in (1, 3) and values.shape[0] in (1, 3):
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[-1] != 3) or values.dtype.kind not in "buif":
        raise ValueError(
            f"an array of {'x'.join(map(str, values.shape))} {values.dtype}; expected H x W, or 3 channels"
        )
    return values.astype(np.uint8) * 255 if values.dtype.kind == "b" else values


def _dicom(content: bytes) -> tuple[NDArray[Any], int | None]:
    pydicom = package("pydicom", "a DICOM file")
    try:
        file = pydicom.dcmread(io.BytesIO(content))
        values: NDArray[Any] = file.pixel_array
    except (AttributeError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"DICOM: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None
    if values.ndim > 2 and getattr(file, "SamplesPerPixel", 1) == 1:
        values = values[0]  # of several frames the first
    white = (1 << int(file.BitsStored)) - 1
    if getattr(file, "PixelRepresentation", 0):  # signed, as in computed tomography: the lowest value becomes black
        values = values.astype(np.int64) + (1 << (int(file.BitsStored) - 1))
    if file.PhotometricInterpretation == "MONOCHROME1":  # 0 is white
        values = white - values.astype(np.int64)
    return _array(values), white
