#!/usr/bin/env bash
# Run all measurements on a GPU machine, in one call from a bare checkout, without access to a package index.
#
#   benchmarks/gpu.sh [--only PART,...] [--data FOLDER] [--wheels FOLDER] [--out FOLDER] [--limit SECONDS] [--smoke]
#
#   tests    the tests of devices, including CUDA                                         (at most 3 minutes)
#   nccl     torchrun and communication over nccl: one process, or two if there are two GPUs    (2)
#   peers    WRN-16-4 images/s compared to timm's loop, both in bf16: bench peers         (4)
#   compile  ours with train.compile compared to ours without                             (3)
#   race     seconds and accuracy of RACE and of the published fast recipe: bench race    (5)
#   best     BEST trained for MINUTES, to its test accuracy: bench timed                  (MINUTES + 2)
#
# --limit is the time in seconds for all parts. BEST is trained for the time that the other parts leave; a part for
# which there is too little time is skipped, with a message. Example: if a command may run for 10 minutes, --limit 570
# runs all parts, and a second call with --only best --limit 570 trains BEST for longer.
# RACE, RACE_SET, BEST, BEST_SET, MINUTES and RUNS are environment variables with the defaults below. The folder of
# --data contains cifar10_jpeg_train.tar.gz and cifar10_jpeg_test.tar.gz, or cifar10/train/<class>/* and
# cifar10/test/<class>/*. The folder of --wheels contains the packages that the machine's Python lacks. For Python 3.12
# with torch, torchvision and timm, download them on another machine:
#
#   python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#       --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d FOLDER \
#       $(grep -oE '^(pydantic|pydantic-core|annotated-types|typing-inspection|typing-extensions|ruamel-yaml)==[^ ;]+' \
#           requirements.txt)
#
# FEATHERWEIGHT_PYTHON is the Python to use. The output is also written to gpu.log in the folder of --out, next to the
# JSON files. --smoke runs everything on the CPU at a tiny size, to check that all parts run.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
parts=tests,nccl,peers,compile,race,best
only=$parts limit=86400 data=${DATA:-} wheels=${WHEELS:-} out=${OUT:-$root/reports/bench} smoke=
while [ $# -gt 0 ]; do
    case "$1" in
        --only | --data | --wheels | --out | --limit) declare "${1#--}=${2:?$1 wants a value}"; shift 2 ;;
        --smoke) smoke=1; shift ;;
        *) echo "error: unknown argument $1" >&2; exit 2 ;;
    esac
done
for part in ${only//,/ }; do
    case ",$parts," in *",$part,"*) ;; *) echo "error: there is no part '$part'; there are ${parts//,/, }" >&2; exit 2 ;; esac
done
case "$limit" in *[!0-9]*) echo "error: --limit $limit: expected whole seconds" >&2; exit 2 ;; esac
mkdir -p "$out"; out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work" </dev/null >/dev/null 2>&1 &' EXIT # in the background: removing 60,000 images can take a minute

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
# The published batch size, learning rate and weight decay: with the recipe's batches of 256 a GPU is mostly idle.
RACE_SET=${RACE_SET-train.batch_size=1024 optimizer.lr=1.5 optimizer.weight_decay=0.002}
read -r -a race_set <<<"$RACE_SET"; read -r -a best_set <<<"${BEST_SET:-}"
peers=(--only wrn16_4 --peers ours bare timm "timm channels_last" --rounds 5 --limit 150)
compiling=(--only wrn16_4 --peers ours "ours compiled" --rounds 3 --limit 60)
racing=(--recipe "$race" --runs "$runs" --limit 240)
if [ -n "$smoke" ]; then
    device=cpu precision=fp32 minutes=0.2
    peers=(--smoke --rounds 1 --peers ours bare timm "timm channels_last" published)
    compiling=(--smoke --rounds 1 --peers ours "ours compiled")
    racing=(--recipe tiny --runs 1 --images 128 --epochs 1 --batch 64)
    race_set=(train.epochs=1 train.batch_size=32) best=tiny best_set=(split.subset=200 train.batch_size=32 predict.views=[])
fi
[ ${#race_set[@]} -gt 0 ] && racing+=(--set "${race_set[@]}")
timed=(--competition "$([ -n "$smoke" ] && echo digits || echo cifar10)")
[ ${#best_set[@]} -gt 0 ] && timed+=(--set "${best_set[@]}")

"$FEATHERWEIGHT_PYTHON" -c "
import platform, torch
print('python', platform.python_version(), 'torch', torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU')
if '$device' == 'cuda' and not torch.cuda.is_available():
    raise SystemExit('error: there is no GPU on this machine; --smoke tries everything on the CPU')" || exit 2

failed=
left() { echo $((limit - SECONDS)); }
# Run a part for at most the given number of seconds. If it fails or is stopped, the next parts still run.
part() { # name, seconds, command...
    local name=$1 seconds=$2 began=$SECONDS code; shift 2
    case ",$only," in *",$name,"*) ;; *) return 0 ;; esac
    if [ "$(left)" -lt 45 ]; then
        failed="$failed $name"; echo "== $name is skipped: only $(left) s are left"; return 0
    fi
    echo "== $name: $*"
    timeout --kill-after=10 $((seconds < $(left) - 15 ? seconds : $(left) - 15)) "$@" 2>&1
    code=$?
    [ "$code" = 0 ] || { failed="$failed $name"; echo "== $name failed with $code$([ "$code" != 124 ] || echo ": its time was over")"; }
    echo "== $name took $((SECONDS - began)) s"
}
measure() {
    local testing=("$root/run.sh" test -n 0 -p no:cacheprovider) tests=$root/tests procs free
    procs=$("$FEATHERWEIGHT_PYTHON" -c "import torch; print(min(2, torch.cuda.device_count()) if '$device' == 'cuda' else 2)")
    part tests 180 "${testing[@]}" "$tests/test_devices.py" "$tests/test_waiting.py"
    part nccl 60 "${testing[@]}" "$tests/test_devices.py" "$tests/test_processes.py" -k "own_backend or learn_as_one[$device]"
    part nccl 60 env PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}" "$FEATHERWEIGHT_PYTHON" -m torch.distributed.run --standalone \
        --nproc-per-node "$procs" -m featherweight tiny --competition digits --device "$device" --set train.epochs=2 --no-report
    part peers 240 "$root/run.sh" bench peers --device "$device" --precision "$precision" "${peers[@]}" --out "$out"
    part compile 180 "$root/run.sh" bench peers --device "$device" --precision "$precision" "${compiling[@]}" --out "$out"
    part race 300 "$root/run.sh" bench race --device "$device" "${racing[@]}" --out "$out"
    # Keep a minute and a half of the remaining time for decoding the images and for prediction.
    free=$(($(left) < 120 ? 30 : $(left) - 90))
    [ "$free" -ge $(("${minutes%.*}" * 60)) ] || minutes=$((free / 60)).$((free % 60 * 10 / 60))
    part best $(("${minutes%.*}" * 60 + 120)) "$root/run.sh" bench timed "$best" --minutes "$minutes" --device "$device" "${timed[@]}" --out "$out"
    [ -z "$failed" ] || { echo "failed:$failed"; return 1; }
}
measure 2>&1 | tee "$out/gpu.log"
exit "${PIPESTATUS[0]}"
