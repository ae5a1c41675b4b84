#!/usr/bin/env bash
# Build and draw the true scenes of the test photos with several processes, one share of the photos each.
#
# bash dataset_toolkits/build_scene.sh [-o ROOT] [-b BLENDER] [-g GPUS] [-w WORKERS_PER_GPU] [-- FLAGS OF build_scene.py]
#
# GPUS is "auto" (the default: as nvidia-smi counts them, or one share where there is none), or a number.
set -uo pipefail

OUTPUT_DIR=${OUTPUT_DIR:-TRELLIS-500K/3D-FUTURE}
BLENDER_PATH=${BLENDER_PATH:-blender}
NUM_GPUS=${NUM_GPUS:-auto}
NUM_WORKERS_PER_GPU=${NUM_WORKERS_PER_GPU:-1}
PYTHON=${PYTHON:-python}

usage() {
    sed -n '2,6p' "$0" | sed 's/^# \{0,1\}//'
}

while getopts "o:b:g:w:h-:" flag; do
    case $flag in
        o) OUTPUT_DIR=$OPTARG ;;
        b) BLENDER_PATH=$OPTARG ;;
        g) NUM_GPUS=$OPTARG ;;
        w) NUM_WORKERS_PER_GPU=$OPTARG ;;
        h) usage; exit 0 ;;
        -) if [ "$OPTARG" = help ]; then usage; exit 0; fi; usage >&2; exit 2 ;;
        *) usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))

if [ "$NUM_GPUS" = auto ]; then
    NUM_GPUS=$(nvidia-smi --list-gpus 2>/dev/null | wc -l)
    [ "$NUM_GPUS" -gt 0 ] || NUM_GPUS=1
fi

build=("$PYTHON" "$(dirname "$0")/build_scene.py" 3D-FUTURE --output_dir "$OUTPUT_DIR" --blender_path "$BLENDER_PATH")
workers=()
trap 'kill "${workers[@]}" 2>/dev/null' INT TERM
for ((gpu = 0; gpu < NUM_GPUS; gpu++)); do
    for ((worker = 0; worker < NUM_WORKERS_PER_GPU; worker++)); do
        CUDA_VISIBLE_DEVICES=$gpu "${build[@]}" --gpu_num "$NUM_GPUS" --gpu_id "$gpu" \
            --num_workers "$NUM_WORKERS_PER_GPU" --worker_id "$worker" "$@" &
        workers+=($!)
    done
done

status=0
for worker in "${workers[@]}"; do
    wait "$worker" || status=1
done
"${build[@]}" --merge_only || status=1
exit $status
