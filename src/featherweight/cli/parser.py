"""The parser of a command. Mistakes in the command line raise UserError like all others."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import NoReturn

from featherweight.cli.commands import COMMANDS, TRAIN, typed
from featherweight.cli.unknown_option import refuse
from featherweight.errors import UserError

NUMBERS = {"int": "a whole number, such as 20", "float": "a number, such as 20 or 0.5"}


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises UserError."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError with argparse's message, without the names of Python's types."""
        name = self.prog.removeprefix("./run.sh").strip() or TRAIN
        message = message.removeprefix("argument ")
        for kind, expected in NUMBERS.items():
            message = message.replace(f"invalid {kind} value: ", f"expected {expected}, got ")
        raise UserError(f"{message}; {typed(name)} --help shows what it takes")


def build(names: Iterable[str] = COMMANDS) -> Parser:
    """Return the parser of the command line with the commands `names`; only their modules are imported."""
    root = Parser(prog="./run.sh", allow_abbrev=False)
    subparsers = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        command = COMMANDS[name]
        module = command.load()
        parser = subparsers.add_parser(
            name,
            prog="./run.sh" if name == TRAIN else f"./run.sh {name}",
            help=command.summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(parser)
    return root


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse `words`, the first of which is a command.

    `arguments.command_line` is what the user typed. Raises UserError; for an unknown option with a suggestion.
    """
    parser = build([words[0]])
    arguments, rest = parser.parse_known_args(words)
    if rest:
        refuse(words[0], rest, words, options(parser, words[0]), options(build([TRAIN]), TRAIN))
    if getattr(arguments, "threads", None) is not None:
        from featherweight.runtime.device import refuse_threads  # imports torch, which only this option needs

        refuse_threads(arguments.threads)
    arguments.command_line = ["./run.sh", *(words[1:] if words[0] == TRAIN else words)]
    return arguments


def options(root: Parser, command: str) -> list[str]:
    """Return the long options of a command."""
    subparsers = next(action for action in root._actions if isinstance(action, argparse._SubParsersAction))
    return [option for option in subparsers.choices[command]._option_string_actions if option.startswith("--")]
