"""Which images a network takes besides those of the size that it is made for."""

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
                f"{where}: {spec.name}, made for images of {shape.size} px, takes none of {side} px "
                f"({str(error).splitlines()[0]}); leave {scale:g} out, or take a net that ends in a mean"
            ) from None


def scaled(side: int, scale: float) -> int:
    """The side, in pixels, of images of `side` pixels at a scale."""
    return max(1, round(side * scale))
