"""Wheels made of what is installed: the versions that ran here, without asking a network for them."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib import metadata
from pathlib import Path

from featherweight import __version__, paths
from featherweight.data.archive import zipped
from featherweight.errors import UserError


@functools.cache
def of_installed(name: str) -> tuple[str, bytes]:
    """Return the wheel of an installed distribution: file name and bytes. Raises UserError if it cannot be made."""
    try:
        package = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise UserError(f"the package {name} is not installed: ./run.sh install {name}") from None
    tags = re.findall(r"^Tag: (\S+)$", package.read_text("WHEEL") or "", re.MULTILINE)
    files = {str(file): Path(str(file.locate())) for file in package.files or [] if not str(file).startswith("..")}
    if not tags or not files:
        raise UserError(f"the package {name} was not installed from a wheel: ./run.sh install --force-reinstall {name}")
    contents = {
        inside: file.read_bytes() for inside, file in files.items() if file.is_file() and "__pycache__" not in inside
    }
    called = re.sub(r"[-.]+", "_", package.metadata["Name"])
    return f"{called}-{package.version}-{tags[0]}.whl", zipped(dict(sorted(contents.items())))


@functools.cache
def of_this_package() -> tuple[str, bytes]:
    """Return the wheel of this package as it is, with its configurations."""
    source = Path(__file__).resolve().parents[2]
    contents = {
        f"featherweight/{file.relative_to(source).as_posix()}": file.read_bytes()
        for file in sorted(source.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
    for file in sorted(paths.SHIPPED.rglob("*.yaml")):
        contents.setdefault(f"featherweight/configs/{file.relative_to(paths.SHIPPED).as_posix()}", file.read_bytes())
    about = f"featherweight-{__version__}.dist-info"
    contents[f"{about}/METADATA"] = f"Metadata-Version: 2.1\nName: featherweight\nVersion: {__version__}\n".encode()
    contents[f"{about}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: featherweight\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    rows = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in contents.items()]
    contents[f"{about}/RECORD"] = ("\n".join([*rows, f"{about}/RECORD,,"]) + "\n").encode()
    return f"featherweight-{__version__}-py3-none-any.whl", zipped(dict(sorted(contents.items())))


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
