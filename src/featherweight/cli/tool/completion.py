"""Print a completion script. To use it: source <(./run.sh completion bash), here or in the shell's start-up file."""

from __future__ import annotations

import argparse

from featherweight.cli.commands import COMMANDS, SHELL, TRAIN
from featherweight.cli.parser import build

# The script is plain shell and starts no Python, so that the tab key is fast. shtab generates it from the parsers. The
# code around it lists names when the key is pressed, and allows a recipe without a command before it.
NAMES = """\
_featherweight_commands=' COMMANDS '
_featherweight_root() {
    echo "${FEATHERWEIGHT_HOME:-$(cd "$(dirname "$_featherweight_program")" 2>/dev/null && pwd)}"
}
_featherweight_configs() {
    find "$(_featherweight_root)/configs/$1" -name '[!_]*.yaml' 2>/dev/null | sed 's|.*/||; s|[.]yaml$||'
}
_featherweight_folders() { ls "$(_featherweight_root)/$1" 2>/dev/null; }
"""
OFFERS = {
    "bash": """\
_featherweight_matching() { local word; while read -r word; do case $word in "$1"*) echo "$word" ;; esac; done; }
_featherweight_recipes() { _featherweight_configs recipes | _featherweight_matching "$1"; }
_featherweight_competitions() { _featherweight_configs competitions | _featherweight_matching "$1"; }
_featherweight_spaces() { _featherweight_configs spaces | _featherweight_matching "$1"; }
_featherweight_runs() { _featherweight_folders runs | _featherweight_matching "$1"; }
""",
    "zsh": """\
_featherweight_recipes() { compadd -- ${(f)"$(_featherweight_configs recipes)"}; }
_featherweight_competitions() { compadd -- ${(f)"$(_featherweight_configs competitions)"}; }
_featherweight_spaces() { compadd -- ${(f)"$(_featherweight_configs spaces)"}; }
_featherweight_runs() { compadd -- ${(f)"$(_featherweight_folders runs)"}; }
""",
}
BINDS = {
    "bash": "complete -o bashdefault",
    "zsh": "if [[ $zsh_eval_context",
}  # where shtab binds its function, which AROUND replaces
AROUND = {
    "bash": """\
_featherweight() {
    _featherweight_program=${COMP_WORDS[0]}
    local word=${COMP_WORDS[COMP_CWORD]}
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "$_featherweight_commands" -- "$word") $(_featherweight_recipes "$word"))
        return
    fi
    case $_featherweight_commands in
        *" ${COMP_WORDS[1]} "*) ;;
        *) COMP_WORDS=("${COMP_WORDS[0]}" TRAIN "${COMP_WORDS[@]:1}"); COMP_CWORD=$((COMP_CWORD + 1)) ;;
    esac
    _shtab_featherweight
}
complete -o bashdefault -o default -F _featherweight ./run.sh run.sh featherweight
""",
    "zsh": """\
_featherweight() {
    _featherweight_program=$words[1]
    if (( CURRENT == 2 )); then
        compadd -- ${=_featherweight_commands}
        _featherweight_recipes
        return
    fi
    case $_featherweight_commands in
        *" $words[2] "*) ;;
        *) words=("$words[1]" TRAIN "${(@)words[2,-1]}"); (( CURRENT += 1 )) ;;
    esac
    _shtab_featherweight
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _featherweight ./run.sh run.sh featherweight
""",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `completion`."""
    parser.add_argument("shell", choices=list(AROUND))


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(script(arguments.shell))
    print(f"# next: source <(./run.sh completion {arguments.shell}), here or in the shell's start-up file")
    return 0


def script(shell: str) -> str:
    """Return the script for `bash` or `zsh`."""
    import shtab

    generated = shtab.complete(build(), shell, root_prefix="featherweight")
    generated = generated[: generated.rindex(BINDS[shell])]
    names = " ".join([*COMMANDS, *SHELL])
    around = AROUND[shell].replace(" TRAIN ", f" {TRAIN} ")
    return "\n".join([NAMES.replace("COMMANDS", names), OFFERS[shell], generated, around])
