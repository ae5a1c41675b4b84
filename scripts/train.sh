#!/usr/bin/env bash
# Train a network at full size, by default the scene flow with the released settings on eight GPUs.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bash scripts/train.sh [CONFIG] [--gpus N] [--data DIR[,DIR...]] [--output DIR]
           [--nnodes N --rendezvous HOST:PORT] [ARGUMENT...]

  CONFIG     experiment (default: configs/generation/ss_scenegen_flow_img_train.json)
  --gpus     how many GPUs (default: 8), or which ones: 0,2,3; 0 trains on the CPU
  --data     roots of prepared data (default: TRELLIS-500K/3D-FUTURE, none with --packs)
  --output   folder of states, logs and networks; a run that was interrupted goes on from there
             (default: output/<name of the configuration>)
  --nnodes   how many hosts train together; the same command on each of them, with one --output that all see.
             When one is lost, all begin again from the last saved state once there are as many hosts again.
             MIN:MAX goes on with fewer, see docs/scale.md
  --rendezvous HOST:PORT   one of the hosts, and a free port there, by which they find each other

All other arguments are those of train.py, for example --tryrun or --time-limit 3600. The environment variable PYTHON
(default: python) names the interpreter, and MAX_RESTARTS (default: 10) how often hosts begin again.
TEXT
}

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
config=$root/configs/generation/ss_scenegen_flow_img_train.json
gpus=8
data=
output=
nnodes=
rendezvous=
more=()
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    config=$1
    shift
fi
while [ $# -gt 0 ]; do
    case "$1" in
        --gpus | --data | --output | --nnodes | --rendezvous)
            if [ $# -lt 2 ]; then
                echo "train.sh: $1 needs a value" >&2
                exit 2
            fi
            case "$1" in
                --gpus) gpus=$2 ;;
                --data) data=$2 ;;
                --output) output=$2 ;;
                --nnodes) nnodes=$2 ;;
                --rendezvous) rendezvous=$2 ;;
            esac
            shift 2
            ;;
        -h | --help) usage; exit 0 ;;
        *) more+=("$1"); shift ;;
    esac
done
output=${output:-output/$(basename "$config" .json)}
case " ${more[*]-} " in
    *" --packs "*) ;; # what packs hold needs no prepared data
    *) data=${data:-TRELLIS-500K/3D-FUTURE} ;;
esac

processes=(--num-gpus "$gpus")
case "$gpus" in
    0) processes=(--device cpu) ;;
    *,*)
        export CUDA_VISIBLE_DEVICES=$gpus
        processes=(--num-gpus -1)
        ;;
esac
# what stands last counts: a flag among the other arguments wins over the script's
arguments=(--config "$config" --output-dir "$output" --load-dir "$output" ${data:+--data-dir "$data"})
if [ -z "$nnodes$rendezvous" ]; then
    exec "${PYTHON:-python}" "$root/train.py" "${arguments[@]}" "${processes[@]}" ${more[@]+"${more[@]}"}
fi

if ! [[ "$nnodes" =~ ^[1-9][0-9]*(:[1-9][0-9]*)?$ ]]; then
    echo "train.sh: --nnodes: expected a number of hosts, or MIN:MAX, got '$nnodes'" >&2
    exit 2
fi
if ! [[ "$rendezvous" =~ ^[^:]+:[0-9]+$ ]]; then
    echo "train.sh: --rendezvous: expected HOST:PORT of one of the hosts, got '$rendezvous'" >&2
    exit 2
fi
case "$gpus" in
    0) local=1 device=(--device cpu) ;;
    *,*) local=$(($(tr -cd , <<<"$gpus" | wc -c) + 1)) device=() ;;
    *) local=$gpus device=() ;;
esac

has_state() { # whether anything was saved, in the folder or in the store
    case "$output" in
        *://*)
            PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} "${PYTHON:-python}" -c 'import sys
from scenegen.stores.store import Store, StoreUrl
sys.exit(not Store(StoreUrl.parse(sys.argv[1])).has_any("ckpts"))' "$output" 2>/dev/null
            ;;
        *) compgen -G "$output/ckpts/*" >/dev/null ;;
    esac
}

# Every launcher ends when one of them is lost, and all find each other anew: what a dead launcher has left in a
# rendezvous that goes on can keep the others from beginning.
stopped=false
trap 'stopped=true' INT TERM
for ((left = ${MAX_RESTARTS:-10}; ; left--)); do
    status=0
    "${PYTHON:-python}" -m torch.distributed.run --nnodes "$nnodes" --nproc-per-node "$local" --max-restarts 0 \
        --rdzv-backend c10d --rdzv-endpoint "$rendezvous" --rdzv-id "$(basename "$output")" \
        --rdzv-conf timeout=1800,read_timeout=1800 "$root/train.py" "${arguments[@]}" ${device[@]+"${device[@]}"} \
        ${more[@]+"${more[@]}"} || status=$?
    # a run that failed before it saved anything would fail again
    if ((status == 0 || left == 0)) || $stopped || ! has_state; then exit "$status"; fi
    echo "train.sh: a host is lost or failed; all begin again from the last saved state, $left times more" >&2
    sleep 5
done
