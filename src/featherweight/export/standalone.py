"""Classify pictures with a trained model. This file needs torch and Pillow, and the weights beside it.

python FILE PICTURE...            a line for each: path, class, probability
from FILE import predict          predict(["a.jpg", "b.png"])
"""

import csv
import json
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

# An exported script has its own facts and networks here.
FACTS: dict[str, Any] = {"classes": [], "members": [], "weights_file": "", "target": "one", "decision": {}}
NETWORKS: list[Callable[[], nn.Module]] = []
VIEWS: list[list[Callable[[Tensor], Any]]] = []  # of each network: functions from images to weighted images
# Every script ends with the text below this line.
LOADED: list[nn.Module] = []
Image.MAX_IMAGE_PIXELS = None  # as in training: phones take 200 megapixels, above Pillow's own bound
TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name."""
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            data = bytearray(content[8 + length + first : 8 + length + last])
            kind = TYPES[entry["dtype"]]
            tensors[name] = torch.frombuffer(data, dtype=kind).view(entry["shape"]) if data else torch.empty(0)
    return tensors


def build_on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """Return the model that `make` builds, with shapes but no memory, to ask it for the sizes of its feature maps."""
    with torch.device("meta"):
        return make().eval()


def networks() -> list[nn.Module]:
    """Return the models; they are loaded once, from the weights file beside this one."""
    if not LOADED:
        tensors = read_weights(Path(__file__).parent / FACTS["weights_file"])
        for member, make in zip(FACTS["members"], NETWORKS, strict=True):
            net, prefix = make(), member["prefix"]
            own = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            net.load_state_dict(own)
            LOADED.append(net.eval())
    return LOADED


def eight_bits(picture: Image.Image, mode: str, levels: int | None, black: float) -> Image.Image:
    """Return a picture in `mode` (L or RGB): transparent parts become white, more than 8 bits become 8."""
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert(mode)
    if picture.mode.startswith(("I", "F")):
        white = levels or (1 if picture.mode == "F" else 65535)
        plain = picture if picture.mode == "F" else picture.convert("I")
        kind = torch.float32 if plain.mode == "F" else torch.int32
        values = torch.frombuffer(bytearray(plain.tobytes()), dtype=kind).double()
        if levels is None and values.max() > white:
            raise ValueError(f"its pixels go up to {values.max():g}, and expected at most {white}, which is white")
        if black == 0 and values.min() * 255 < -white:
            raise ValueError(f"its pixels go down to {values.min():g}, expected at least 0, which is black")
        scaled = ((values - black) * (255 / (white - black))).round().clamp(0, 255).to(torch.uint8)
        return Image.frombytes("L", picture.size, bytes(scaled.tolist())).convert(mode)
    return picture if picture.mode == mode else picture.convert(mode)


def shrunk(picture: Image.Image, store: int) -> Image.Image:
    """Return a picture with its shorter side at most `store`, and the longer one at most twice the shorter."""
    width, height = picture.size
    short = min(width, height)
    wide, tall = min(width, 2 * short), min(height, 2 * short)
    scale = min(1.0, store / short)
    size = (max(1, round(wide * scale)), max(1, round(tall * scale)))
    if size == (width, height):
        return picture
    left, top = (width - wide) / 2, (height - tall) / 2
    return picture.resize(size, Image.Resampling.BICUBIC, (left, top, left + wide, top + tall), reducing_gap=3.0)


def centre(picture: Image.Image, side: int, part: float, interpolation: str) -> Image.Image:
    """Return the central square, which is `part` of the shorter side, resized to `side` pixels."""
    width, height = picture.size
    short = int(side / part + 1e-9)
    wide, tall = (int(short * length / min(width, height)) for length in (width, height))
    left, top = round((wide - side) / 2), round((tall - side) / 2)
    across, down = width / wide, height / tall
    box = (left * across, top * down, (left + side) * across, (top + side) * down)
    return picture.resize((side, side), Image.Resampling[interpolation.upper()], box)


def prepare(picture: Image.Image, member: dict[str, Any]) -> Tensor:
    """Return a picture prepared as in training, uint8 [size, size, channels]."""
    size, side = member["size"], (member["size"], member["size"])
    least = 2 * (member["store"] or size)
    if picture.format == "JPEG" and min(picture.size) >= 2 * least:
        picture.draft(picture.mode, (least, least))
    mode = "RGB" if member["channels"] == 3 else "L"
    picture = eight_bits(ImageOps.exif_transpose(picture), mode, member["levels"], member["black"])
    if member["store"]:
        picture = centre(shrunk(picture, member["store"]), size, member["crop"], member["interpolation"])
    elif picture.size != side:
        if member["fit"] == "crop":
            picture = ImageOps.fit(picture, side, Image.Resampling.BILINEAR)
        elif member["fit"] == "pad":
            picture = ImageOps.pad(picture, side, Image.Resampling.BILINEAR)
        else:
            picture = picture.resize(side, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(size, size, member["channels"])


def product(images: Tensor, views: Sequence[Callable[[Tensor], Any]]) -> Iterator[tuple[float, Tensor]]:
    """Yield every combination of the views with the product of their weights."""
    if not views:
        yield 1.0, images
        return
    for weight, view in views[0](images):
        for inner, final in product(view, views[1:]):
            yield weight * inner, final


def tempered(probs: Tensor, temperature: float, several: bool) -> Tensor:
    """Return probabilities to the power of 1 / temperature, rescaled to sum to 1; for sets, each class by itself."""
    if temperature == 1:
        return probs
    logs = probs.double().clamp_min(1e-12).log() / temperature
    if several:
        return (logs - (1 - probs.double()).clamp_min(1e-12).log() / temperature).sigmoid().float()
    return logs.softmax(1).float()


@torch.no_grad()
def probabilities(images: Sequence[Tensor]) -> Tensor:
    """Return the mean probabilities, float32 [N, K], of pictures given once for each model, uint8 [N, H, W, C]."""
    total, several = torch.zeros(()), FACTS["target"] == "several"
    views = VIEWS or [[] for _ in images]
    for net, member, seen, pixels in zip(networks(), FACTS["members"], views, images, strict=True):
        probs = torch.zeros(())
        for weight, view in product(pixels.permute(0, 3, 1, 2).float() / 255, seen):
            logits = net(view).float()
            probs = probs + weight * (logits.sigmoid() if several else logits.softmax(1))
        total = total + tempered(probs, member["temperature"], several) * member["weight"]
    return total


def decided(probs: Tensor, kind: str, values: Sequence[float]) -> Tensor:
    """Return the answers for probabilities [N, K]: sets bool [N, K] of the classes over their thresholds, classes int64
    [N] by the number of cut points below the expected class index, or the most probable classes.
    """
    if kind == "thresholds":
        return probs > torch.tensor(values, dtype=probs.dtype)
    if kind == "cuts":
        index = (probs.double() * torch.arange(probs.shape[1], dtype=torch.float64)).sum(1)
        return (index[:, None] >= torch.tensor(values, dtype=torch.float64)).sum(1)
    return probs.argmax(1)


def predict(
    paths: Sequence[str | Path], batch_size: int = 64, left_out: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return a dict for each picture: path, class, probability (of that class) and probabilities (of every class).

    If a picture may have several classes, `classes` replaces class and probability. Raises ValueError for a picture
    that cannot be read; with `left_out`, such pictures are left out and added to it with the reason.
    """
    answers = []
    for first in range(0, len(paths), batch_size):
        chosen: list[Path] = []
        shown: list[list[Tensor]] = [[] for _ in FACTS["members"]]
        for path in map(Path, paths[first : first + batch_size]):
            try:
                read = []
                for member in FACTS["members"]:
                    with Image.open(path) as picture:
                        read.append(prepare(picture, member))
            except Exception as error:  # a damaged picture can provoke any of them
                if left_out is None:
                    raise ValueError(f"{path}: cannot be read as an image ({error})") from error
                left_out[str(path)] = str(error)
                continue
            chosen.append(path)
            for pixels, seen in zip(shown, read, strict=True):
                pixels.append(seen)
        if not chosen:
            continue
        probs, names = probabilities([torch.stack(pixels) for pixels in shown]), FACTS["classes"]
        decisions = decided(probs, FACTS["decision"]["kind"], FACTS["decision"]["values"]).tolist()
        for path, row, answer in zip(chosen, probs.tolist(), decisions, strict=True):
            if FACTS["target"] == "several":
                result: dict[str, Any] = {"classes": [name for name, yes in zip(names, answer, strict=True) if yes]}
            else:
                result = {"class": names[answer], "probability": row[answer]}
            answers.append({"path": str(path), **result, "probabilities": dict(zip(names, row, strict=True))})
    return answers


def main(paths: Sequence[str]) -> int:
    """Print a line of CSV for each picture; return the exit code, which is 1 if a picture could not be read."""
    if not paths:
        print(f"usage: python {sys.argv[0]} PICTURE...", file=sys.stderr)
        return 2
    rows, left_out = csv.writer(sys.stdout, lineterminator="\n"), dict[str, str]()
    for first in range(0, len(paths), 64):
        for answer in predict(paths[first : first + 64], left_out=left_out):
            if "classes" in answer:
                rows.writerow([answer["path"], FACTS["separator"].join(answer["classes"])])
            else:
                rows.writerow([answer["path"], answer["class"], f"{answer['probability']:.4f}"])
    for path, why in left_out.items():
        print(f"left out: {path}: {why}", file=sys.stderr)
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
