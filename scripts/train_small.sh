#!/usr/bin/env bash
# Train the small model from mesh packs, stage by stage, and put it together as a checkpoint folder.
#
# Each stage spreads its learning-rate schedule over its seconds. A stage that was interrupted goes on from its last
# saved state when this runs again, and a finished one is skipped.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: bash scripts/train_small.sh [--smoke] [--packs "A B"] [--checkpoint DIR]

  --smoke       show every stage with tiny networks on a CPU, in two minutes, on a pack that is made first;
                everything goes to outputs/smoke
  --packs       mesh packs of the train split (default: data/packs/train.safetensors data/packs/procedural.safetensors)
  --checkpoint  folder that is assembled at the end (default: outputs/scenegen-small)

Seconds of each stage, from the environment: VAE_SECONDS=600 DECODER_SECONDS=450 ENCODER_SECONDS=300 GEOMETRY_SECONDS=300
FLOW_SECONDS=1600 FEW_STEPS_SECONDS=330 (its flow of few steps) LATENT_VAE_SECONDS=300 LATENT_FLOW_SECONDS=1400 (the last two: the
appearance stage, structured latents)
PYTHON (default: python) and WORKERS (processes that compose scenes, default: 10) likewise.
TEXT
}

packs="data/packs/train.safetensors data/packs/procedural.safetensors"
checkpoint=outputs/scenegen-small
smoke=false
while [ $# -gt 0 ]; do
    case "$1" in
        --smoke) smoke=true; shift ;;
        --packs) packs=$2; shift 2 ;;
        --checkpoint) checkpoint=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) echo "train_small.sh: unknown argument $1" >&2; usage >&2; exit 2 ;;
    esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

outputs=outputs
validation=data/packs/validation.safetensors
if $smoke; then
    outputs=outputs/smoke
    packs=$outputs/pack.safetensors
    checkpoint=$outputs/checkpoint
    if [ ! -e "$packs" ]; then
        "${PYTHON:-python}" -m dataset_toolkits.build_procedural_pack --output "$packs" --count 12 --workers 1
    fi
fi

train() { # STAGE SECONDS [ARGUMENT...]
    local stage=$1 seconds=$2
    shift 2
    if [ -e "$outputs/$stage/finished" ]; then
        echo "$stage: finished before"
        return
    fi
    local config=configs/small settings=(--workers "${WORKERS:-10}" --time-limit "$seconds" --anneal)
    if $smoke; then
        config=configs/smoke settings=(--workers 0 --device cpu)
    fi
    # shellcheck disable=SC2086  # packs is a list
    "${PYTHON:-python}" train.py --config "$config/$stage.json" --output-dir "$outputs/$stage" --packs $packs \
        "${settings[@]}" "$@"
    touch "$outputs/$stage/finished"
}

encoder=(--latent-encoder "$outputs/structure_vae/ckpts/encoder")
train structure_vae "${VAE_SECONDS:-600}"
train structure_decoder "${DECODER_SECONDS:-450}"
train image_encoder "${ENCODER_SECONDS:-300}"
train geometry_encoder "${GEOMETRY_SECONDS:-300}"
scenes=("${encoder[@]}")
if ! $smoke; then # snapshots show voxels, which takes a while on a CPU, and held-out scenes are measured
    scenes+=(--structure-decoder "$outputs/structure_decoder/ckpts/decoder")
    if [ -e "$validation" ]; then
        scenes+=(--validation-packs "$validation")
    fi
fi
train scene_flow "${FLOW_SECONDS:-1600}" "${scenes[@]}"
train scene_flow_few_steps "${FEW_STEPS_SECONDS:-330}" "${scenes[@]}"
train structured_latent_vae "${LATENT_VAE_SECONDS:-300}"
train structured_latent_flow "${LATENT_FLOW_SECONDS:-1400}" --latent-encoder "$outputs/structured_latent_vae/ckpts/encoder"
"${PYTHON:-python}" scripts/assemble_checkpoint.py --structure-vae "$outputs/structure_decoder" \
    --scene-flow "$outputs/scene_flow" --few-steps-flow "$outputs/scene_flow_few_steps" --structured-latent-vae "$outputs/structured_latent_vae" \
    --structured-latent-flow "$outputs/structured_latent_flow" --slat-steps 2 --slat-cfg-strength 0 --output "$checkpoint"
if $smoke; then
    echo "$checkpoint: every stage ran; its networks are too small, and saw too little, to show anything"
else
    echo "$checkpoint: try it with python inference.py --checkpoint $checkpoint"
fi
