"""Classify pictures with a trained model. This file needs torch and Pillow, and the weights beside it.

python FILE PICTURE...            a line for each: path, class, probability
from FILE import predict          predict(["a.jpg", "b.png"])
"""

import json
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

# A script has its own facts and networks in this place.
FACTS: dict[str, Any] = {"classes": [], "members": [], "weights_file": ""}
NETWORKS: list[Callable[[], nn.Module]] = []
# The text below this line ends every script.
LOADED: list[nn.Module] = []
TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name."""
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    tensors = {}
    for name, told in header.items():
        if name != "__metadata__":
            first, last = told["data_offsets"]
            data = bytearray(content[8 + length + first : 8 + length + last])
            kind = TYPES[told["dtype"]]
            tensors[name] = torch.frombuffer(data, dtype=kind).view(told["shape"]) if data else torch.empty(0)
    return tensors


def outlined(make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` makes, as shapes without memory: networks of the libraries are asked for their maps that way."""
    with torch.device("meta"):
        return make().eval()


def networks() -> list[nn.Module]:
    """The models, loaded once from the file beside this one."""
    if not LOADED:
        tensors = read_weights(Path(__file__).parent / FACTS["weights_file"])
        for member, make in zip(FACTS["members"], NETWORKS, strict=True):
            net, prefix = make(), member["prefix"]
            own = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            net.load_state_dict(own)
            LOADED.append(net.eval())
    return LOADED


def eight_bits(picture: Image.Image, mode: str, levels: int | None) -> Image.Image:
    """A picture in `mode` (L or RGB): transparent parts become white, more than 8 bits become 8."""
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert(mode)
    if picture.mode.startswith(("I", "F")):
        white = levels or (1 if picture.mode == "F" else 65535)
        plain = picture if picture.mode == "F" else picture.convert("I")
        kind = torch.float32 if plain.mode == "F" else torch.int32
        values = torch.frombuffer(bytearray(plain.tobytes()), dtype=kind).double()
        if levels is None and values.max() > white:
            raise ValueError(f"its pixels go up to {values.max():g}, and {white} was to be white")
        scaled = (values * (255 / white)).round().clamp(0, 255).to(torch.uint8)
        return Image.frombytes("L", picture.size, bytes(scaled.tolist())).convert(mode)
    return picture if picture.mode == mode else picture.convert(mode)


def prepare(picture: Image.Image, member: dict[str, Any]) -> Tensor:
    """A picture as the model was shown those of its training: uint8 [size, size, channels]."""
    size, side = member["size"], (member["size"], member["size"])
    if picture.format == "JPEG" and min(picture.size) >= 4 * size:
        picture.draft(picture.mode, (2 * size, 2 * size))
    picture = eight_bits(ImageOps.exif_transpose(picture), "RGB" if member["channels"] == 3 else "L", member["levels"])
    if picture.size != side:
        if member["fit"] == "crop":
            picture = ImageOps.fit(picture, side, Image.Resampling.BILINEAR)
        elif member["fit"] == "pad":
            picture = ImageOps.pad(picture, side, Image.Resampling.BILINEAR)
        else:
            picture = picture.resize(side, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(size, size, member["channels"])


@torch.no_grad()
def probabilities(images: Sequence[Tensor]) -> Tensor:
    """Float32 [N, K] of pictures uint8 [N, H, W, C], once for each of the models at its own size."""
    total: Any = 0.0
    for net, member, pixels in zip(networks(), FACTS["members"], images, strict=True):
        logits = net(pixels.permute(0, 3, 1, 2).float() / 255)
        total = total + (logits.float() / member["temperature"]).softmax(1) * member["weight"]
    return total  # type: ignore[no-any-return]


def predict(paths: Sequence[str | Path], batch_size: int = 64) -> list[dict[str, Any]]:
    """For each picture a dict of path, class, probability (of that class) and probabilities (of every class)."""
    answers = []
    for first in range(0, len(paths), batch_size):
        chosen = [Path(path) for path in paths[first : first + batch_size]]
        shown: list[list[Tensor]] = [[] for _ in FACTS["members"]]
        for path in chosen:
            for member, pixels in zip(FACTS["members"], shown, strict=True):
                with Image.open(path) as picture:
                    pixels.append(prepare(picture, member))
        probs = probabilities([torch.stack(pixels) for pixels in shown]).tolist()
        for path, row in zip(chosen, probs, strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            answers.append(
                {
                    "path": str(path),
                    "class": FACTS["classes"][best],
                    "probability": row[best],
                    "probabilities": dict(zip(FACTS["classes"], row, strict=True)),
                }
            )
    return answers


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: python {sys.argv[0]} PICTURE...")
    for answer in predict(sys.argv[1:]):
        print(f"{answer['path']},{answer['class']},{answer['probability']:.4f}")
