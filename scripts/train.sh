#!/usr/bin/env bash
# Train a network at full size, by default the scene flow with the released settings on eight GPUs.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bash scripts/train.sh [CONFIG] [--gpus N] [--data DIR[,DIR...]] [--output DIR] [ARGUMENT...]

  CONFIG     experiment (default: configs/generation/ss_scenegen_flow_img_train.json)
  --gpus     how many GPUs (default: 8), or which ones: 0,2,3; 0 trains on the CPU
  --data     roots of prepared data (default: TRELLIS-500K/3D-FUTURE)
  --output   folder of states, logs and networks; a run that was interrupted goes on from there
             (default: output/<name of the configuration>)

All other arguments are those of train.py, for example --tryrun, --time-limit 3600 or --num-nodes 2 --node-rank 1
--master-addr HOST. The environment variable PYTHON (default: python) names the interpreter.
TEXT
}

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
config=$root/configs/generation/ss_scenegen_flow_img_train.json
gpus=8
data=TRELLIS-500K/3D-FUTURE
output=
more=()
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    config=$1
    shift
fi
while [ $# -gt 0 ]; do
    case "$1" in
        --gpus | --data | --output)
            if [ $# -lt 2 ]; then
                echo "train.sh: $1 needs a value" >&2
                exit 2
            fi
            case "$1" in --gpus) gpus=$2 ;; --data) data=$2 ;; --output) output=$2 ;; esac
            shift 2
            ;;
        -h | --help) usage; exit 0 ;;
        *) more+=("$1"); shift ;;
    esac
done
output=${output:-output/$(basename "$config" .json)}

processes=(--num-gpus "$gpus")
case "$gpus" in
    0) processes=(--device cpu) ;;
    *,*)
        export CUDA_VISIBLE_DEVICES=$gpus
        processes=(--num-gpus -1)
        ;;
esac
# what stands last counts: a flag among the other arguments wins over the script's
exec "${PYTHON:-python}" "$root/train.py" --config "$config" --output-dir "$output" --load-dir "$output" \
    --data-dir "$data" "${processes[@]}" ${more[@]+"${more[@]}"}
