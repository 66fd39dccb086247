"""Weigh anybody's models: files of weights, folders of them, timm/NAME, torchvision/NAME, FILE.py:NAME.

No code of a file is run. Exit code 3 when one is over --limit, 2 when one cannot be weighed; the others are shown.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `weigh` takes."""
    parser.add_argument("what", metavar="WHAT", nargs="+", help="a file, a folder, or a name, as above")
    parser.add_argument("--limit", type=int, help="the most parameters a model may have")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    import dataclasses
    import json
    import sys

    from pydantic import ValidationError

    from featherweight.budget.weigh_file import Weight, weigh_anything
    from featherweight.errors import UserError
    from featherweight.models.pretrained_weights import ENDINGS
    from featherweight.report import tables

    names: list[str] = []
    for what in arguments.what:
        inside = sorted(Path(what).iterdir()) if Path(what).is_dir() else []
        names += [str(file) for file in inside if file.suffix in (*ENDINGS, ".onnx")] if inside else [what]
    weights: list[Weight] = []
    faults: list[str] = []
    for name in names:
        try:
            weights.append(weigh_anything(name))
        except ValidationError as error:
            faults.append(f"{name}: {error.errors()[0]['msg']}")
        except UserError as error:
            faults.append(str(error))
    if arguments.json:
        print(json.dumps([dataclasses.asdict(weight) for weight in weights], indent=2))
    elif weights:
        tables.weights(weights, arguments.limit)
        if not faults:
            print("next: with a limit, ./run.sh weigh WHAT --limit N")
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    over = [weight for weight in weights if arguments.limit is not None and weight.parameters > arguments.limit]
    return 2 if faults else 3 if over else 0
