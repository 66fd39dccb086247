"""Run a program as in a fresh environment without network: packages in its wheels are hidden, and sockets refuse.

python -I fresh_notebook.py PROGRAM
"""

import runpy
import socket
import sys
from importlib.machinery import PathFinder

HIDDEN = {
    "featherweight",
    "pydantic",
    "pydantic_core",
    "rich",
    "ruamel",
    "safetensors",
    "filelock",
    "annotated_types",
    "typing_inspection",
    "pygments",
    "markdown_it",
    "mdurl",
    "kaggle",
    "kagglesdk",
    "requests",
    "ptflops",
    "timm",
    "optuna",
    "torchvista",
    "onnx",
    "onnxruntime",
}


class Hide:
    """An import finder: hidden packages are found only in the unpacked wheels."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] not in HIDDEN or path is not None:
            return None
        spec = PathFinder.find_spec(name, [place for place in sys.path if "site-packages" not in place])
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return spec


CONNECT = socket.socket.connect


def refuse(*args, **options):
    if args and isinstance(args[0], socket.socket) and args[0].family == socket.AF_UNIX:  # between our own processes
        return CONNECT(*args)
    raise OSError("there is no network here")


if __name__ == "__main__":
    sys.meta_path.insert(0, Hide)
    socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
