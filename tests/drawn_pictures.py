"""Pictures of noise, for folders that a test lays out as a competition does."""

from pathlib import Path

import numpy as np
from PIL import Image

RANDOM = np.random.default_rng(0)


def picture(path: Path, kind: str | None = None) -> None:
    """Write 8x8 pixels of noise, in Pillow's format `kind` or that of the name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path, kind)
