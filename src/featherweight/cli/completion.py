"""Completion scripts: plain shell that asks no Python, since a press of the tab key should take no time."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Mapping, Sequence

Command = Callable[[Sequence[str]], int]
BASH = """\
# Completion for ./run.sh; made by: ./run.sh completion {shell}
_featherweight() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} root options
    root=${{FEATHERWEIGHT_HOME:-$(cd "$(dirname "${{COMP_WORDS[0]}}")" 2>/dev/null && pwd)}}
    _featherweight_names() {{ local f; for f in "$root"/$1; do [ -e "$f" ] && f=${{f##*/}} && echo "${{f%$2}}"; done; }}
    local recipes competitions runs
    recipes=$(_featherweight_names 'configs/recipes/[!_]*.yaml' .yaml)
    competitions=$(_featherweight_names 'configs/competitions/[!_]*.yaml' .yaml)
    runs=$(_featherweight_names 'runs/*' '')
    COMPREPLY=()
    if [ "$before" = --competition ]; then
        COMPREPLY=($(compgen -W "$competitions" -- "$word"))
    elif [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "{commands} $recipes" -- "$word"))
    elif [[ $word == -* ]]; then
        case ${{COMP_WORDS[1]}} in
{options}
        esac
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    else
        case ${{COMP_WORDS[1]}} in
            resume|report|submit|compare|soup|ensemble) COMPREPLY=($(compgen -W "$runs" -- "$word")) ;;
            check|draw|schedule|augment) COMPREPLY=($(compgen -W "$recipes" -- "$word")) ;;
            inspect|download|leaderboard) COMPREPLY=($(compgen -W "$competitions" -- "$word")) ;;
        esac
    fi
}}
complete -o default -F _featherweight ./run.sh run.sh featherweight
# next: source <(./run.sh completion {shell}), here or in the shell's own start-up file"""


def write(shell: str, commands: Mapping[str, Command], train: Command) -> str:
    """The script for `bash` or `zsh`, the options read from each command's own help."""
    lines = [f"            {name}) options='{_options(command)}' ;;" for name, command in commands.items()]
    lines.append(f"            *) options='{_options(train)}' ;;")
    script = BASH.format(shell=shell, commands=" ".join([*commands, "test", "bench"]), options="\n".join(lines))
    return f"autoload -U +X bashcompinit && bashcompinit\n{script}" if shell == "zsh" else script


def _options(command: Command) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        command(["tiny", "--help"])
    return " ".join(dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text.getvalue())))
