#!/usr/bin/env bash
# Create the environment on the first call, then run the command line. `./run.sh` without arguments prints help.
#   FEATHERWEIGHT_PYTHON=python ./run.sh ...   use your own Python environment and install nothing
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() { echo "error: $*" >&2; exit 2; }

# True if the environment is complete: its stamp is the checksum of requirements.txt. An interrupted install leaves no stamp.
ready() { [ -x "$root/.venv/bin/python" ] && [ "$(cat "$root/.venv/requirements.sum" 2>/dev/null)" = "$(cksum <"$root/requirements.txt")" ]; }

# Print a line every 30 seconds while this process lives. What sleeps holds no file of the caller open.
report() { while sleep 30 3>&- && kill -0 $$; do echo "still installing after $SECONDS seconds" >&3; done; }

# Install packages into the environment, with the installer's own progress in a terminal. An environment made by uv has no pip.
packages() {
    local quiet='' reporter='' failed=''
    [ -t 2 ] || { quiet=--quiet; report 3>&2 >/dev/null 2>&1 9<&- & reporter=$!; }
    if command -v uv >/dev/null; then
        uv pip install ${quiet:+$quiet} --compile-bytecode --python "$python" "$@"
    else
        "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null || fail "there is no pip in .venv; delete .venv and try again"
        "$python" -m pip install ${quiet:+$quiet} --disable-pip-version-check "$@"
    fi >&2 || failed=yes
    [ -z "$reporter" ] || { disown "$reporter"; kill "$reporter" || true; }
    [ -z "$failed" ] || fail "not everything could be installed: the reason is above; the same command continues from there"
}

make() {
    if command -v flock >/dev/null; then # two first calls at the same time would install into the same folder
        exec 9<"$root/requirements.txt"
        flock -n 9 || { echo "another ./run.sh is making the environment; waiting for it" >&2; flock 9; }
        ! ready || return 0
    fi
    echo "making the environment in .venv (once; several gigabytes, most of them torch; it takes some minutes)" >&2
    rm -f "$root/.venv/requirements.sum"
    if [ ! -x "$python" ] && command -v uv >/dev/null; then
        uv venv --quiet --python '>=3.11' "$root/.venv" || fail "uv could not make .venv with Python 3.11 or newer"
    elif [ ! -x "$python" ]; then
        for found in python3.13 python3.12 python3.11 python3 python; do
            "$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break || found=
        done
        [ -n "$found" ] || fail "Python 3.11 or newer is needed, and was not found"
        "$found" -m venv "$root/.venv" || fail "python -m venv failed; on Debian and Ubuntu: apt install python3-venv"
    fi
    packages -r "$root/requirements.txt"
    cksum <"$root/requirements.txt" >"$root/.venv/requirements.sum"
}

if [ -n "${FEATHERWEIGHT_PYTHON:-}" ]; then
    python=$FEATHERWEIGHT_PYTHON
else
    python=$root/.venv/bin/python
    ready || { make; exec 9<&-; }
fi

export PYTHONUTF8=1 # file names are UTF-8, whatever the terminal's locale is
export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}"
case "${1:-}" in
    test)
        shift
        cd "$root"
        exec "$python" -m pytest "$@"
        ;;
    install)
        [ $# -gt 1 ] || fail "name a package: ./run.sh install tensorboard"
        packages "${@:2}"
        exit
        ;;
    bench)
        [ -f "$root/benchmarks/${2:-}.py" ] || fail "there is no benchmark '${2:-}'; there are: $(cd "$root/benchmarks" && ls ./[!_]*.py | sed 's|./||; s|.py||' | tr '\n' ' ')"
        arguments=()
        for word in "${@:3}"; do
            if [ "$word" = --record ]; then export FEATHERWEIGHT_BENCH_RECORD=1; else arguments+=("$word"); fi
        done
        exec "$python" "$root/benchmarks/$2.py" ${arguments[@]+"${arguments[@]}"}
        ;;
esac
exec "$python" -m featherweight "$@"
