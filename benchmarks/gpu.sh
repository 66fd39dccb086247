#!/usr/bin/env bash
# What is measured on a GPU machine, in one call from a bare checkout that nothing can be installed into from outside.
#
#   benchmarks/gpu.sh [--only tests,peers,race,best] [--data FOLDER] [--wheels FOLDER] [--out FOLDER] [--smoke]
#
#   tests   the device paths of the test suite, CUDA's among them                        (2 minutes at most)
#   peers   WRN-16-4 images/s against timm's loop, both in bf16: bench peers             (5)
#   race    seconds and accuracy of RACE beside the published fast recipe: bench race    (5)
#   best    BEST trained for MINUTES, to its test accuracy: bench timed                  (MINUTES + 2)
#
# Where a command may run for 10 minutes, that is two calls: --only tests,peers,race (or less) and --only best.
# RACE, RACE_SET, BEST, BEST_SET, MINUTES and RUNS are environment variables with the defaults below. The folder of --data
# holds cifar10_jpeg_train.tar.gz and cifar10_jpeg_test.tar.gz (or cifar10/train/<class>/* and cifar10/test/<class>/*);
# that of --wheels what the machine's Python lacks, fetched elsewhere with
#
#   python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
#       --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform any -d FOLDER \
#       $(grep -E '^(pydantic|pydantic-core|annotated-types|typing-inspection|ruamel-yaml)==' requirements.txt)
#
# FEATHERWEIGHT_PYTHON is the Python to use.
# --smoke does everything on the CPU at a tiny size, to see that it would run.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
only=tests,peers,race,best data=${DATA:-} wheels=${WHEELS:-} out=${OUT:-$root/benchmarks/results} smoke=
while [ $# -gt 0 ]; do
    case "$1" in
        --only | --data | --wheels | --out) declare "${1#--}=${2:?$1 wants a value}"; shift 2 ;;
        --smoke) smoke=1; shift ;;
        *) echo "error: unknown argument $1" >&2; exit 2 ;;
    esac
done
for part in ${only//,/ }; do
    case "$part" in tests | peers | race | best) ;; *) echo "error: there is no part '$part'; there are tests, peers, race, best" >&2; exit 2 ;; esac
done
mkdir -p "$out"; out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export FEATHERWEIGHT_PYTHON=${FEATHERWEIGHT_PYTHON:-python3} PYTHONUNBUFFERED=1
if [ -n "$wheels" ]; then
    "$FEATHERWEIGHT_PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --find-links "$wheels" \
        --target "$work/site" "$wheels"/*.whl || { echo "error: the wheels in $wheels could not be installed" >&2; exit 2; }
    export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}"
fi
export FEATHERWEIGHT_HOME=$work
if [ -n "$data" ]; then
    mkdir -p "$work/data/cifar10"
    if [ -d "$data/cifar10/train" ]; then
        rmdir "$work/data/cifar10" && ln -s "$(cd "$data/cifar10" && pwd)" "$work/data/cifar10"
    else
        for split in train test; do
            tar xzf "$data/cifar10_jpeg_$split.tar.gz" -C "$work/data/cifar10" || exit 2
        done
    fi
else
    export FEATHERWEIGHT_DATA=${FEATHERWEIGHT_DATA:-$root/data}
    export FEATHERWEIGHT_CACHE=$work/packs
fi

device=cuda precision=bf16
race=${RACE:-fastnet94} best=${BEST:-best5m} minutes=${MINUTES:-8} runs=${RUNS:-5}
# The published batch, rate and decay: in the recipe's batches of 256 a GPU would mostly wait to be told what to do.
RACE_SET=${RACE_SET-train.batch_size=1024 optimizer.lr=1.5 optimizer.weight_decay=0.002}
read -r -a race_set <<<"$RACE_SET"; read -r -a best_set <<<"${BEST_SET:-}"
peers=(--only wrn16_4 --peers ours bare timm "timm channels_last" --rounds 5 --limit 200)
racing=(--recipe "$race" --runs "$runs" --limit 240)
if [ -n "$smoke" ]; then
    device=cpu precision=fp32 minutes=0.2
    peers=(--smoke --rounds 1 --peers ours bare timm "timm channels_last" published)
    racing=(--recipe tiny --runs 1 --images 128 --epochs 1 --batch 64)
    race_set=(train.epochs=1 train.batch_size=32) best=tiny best_set=(split.subset=200 train.batch_size=32 predict.views=[])
fi
[ ${#race_set[@]} -gt 0 ] && racing+=(--set "${race_set[@]}")
timed=(--minutes "$minutes" --competition "$([ -n "$smoke" ] && echo digits || echo cifar10)")
[ ${#best_set[@]} -gt 0 ] && timed+=(--set "${best_set[@]}")

"$FEATHERWEIGHT_PYTHON" -c "
import platform, torch
print('python', platform.python_version(), 'torch', torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU')
if '$device' == 'cuda' and not torch.cuda.is_available():
    raise SystemExit('error: there is no GPU on this machine; --smoke tries everything on the CPU')" || exit 2

failed=
# A part is given so many seconds and is then ended; the parts after it run all the same.
part() { # name, seconds, command...
    local name=$1 seconds=$2; shift 2
    case ",$only," in *",$name,"*) ;; *) return 0 ;; esac
    echo "== $name: $*"
    SECONDS=0
    timeout --kill-after=10 "$seconds" "$@" 2>&1 | tee "$out/gpu-$name.log" | { if [ "$name" = tests ]; then tail -25; else cat; fi; }
    local code=${PIPESTATUS[0]}
    [ "$code" = 0 ] || { failed="$failed $name"; echo "== $name failed with $code"; }
    echo "== $name took $SECONDS s"
}
part tests 150 "$root/run.sh" test -n 0 -p no:cacheprovider "$root/tests/test_devices.py"
part peers 300 "$root/run.sh" bench peers --device "$device" --precision "$precision" "${peers[@]}" --out "$out"
part race 300 "$root/run.sh" bench race --device "$device" "${racing[@]}" --out "$out"
part best $(("${minutes%.*}" * 60 + 120)) "$root/run.sh" bench timed "$best" --device "$device" "${timed[@]}" --out "$out"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
