"""Image sizes that a network takes besides the one that it is built for."""

from __future__ import annotations

from collections.abc import Iterable

from featherweight.errors import UserError
from featherweight.models import outline, outline_run
from featherweight.models.shape import Shape
from featherweight.schema import Choice


def refuse_other_sizes(where: str, scales: Iterable[float], spec: Choice, shape: Shape) -> None:
    """Raise UserError, which begins with the key `where`, unless the model takes images at each of these scales."""
    for scale in scales:
        side = scaled(shape.size, scale)
        model = outline(spec, shape)
        try:
            with outline_run(model, shape._replace(size=side)) as images:
                model(images)
        except RuntimeError as error:
            raise UserError(
                f"{where}: {spec.name}, built for images of {shape.size} px, cannot take images of {side} px "
                f"({str(error).splitlines()[0]}): remove {scale:g}, or choose a network with global average pooling"
            ) from None


def scaled(side: int, scale: float) -> int:
    """Return the side, in pixels, of images of `side` pixels at a scale."""
    return max(1, round(side * scale))
