#!/usr/bin/env bash
# Installs SceneGen into .venv beside this file; `bash setup.sh --help` explains the flags.
# Works executed or sourced (then it also activates the environment), from any folder, any number of times.

usage() {
    cat <<'HELP'
Usage: bash setup.sh [FLAG]...      (or: source setup.sh [FLAG]...)

Makes .venv and installs SceneGen with PyTorch: a CUDA build where there is an NVIDIA GPU, else a CPU build.

Jobs after the installation
  --run               reconstruct the bundled example scenes (python inference.py)
  --test              install the test tools too, then run the tests, but for those that take long
  --test-all          the same with those that take long, an hour in all on two cores

More Python packages
  --demo              the pages in the browser (interactive_demo.py)
  --background        removal of the background of photos of single objects (rembg)
  --data              data set preparation and rendering on the CPU
  --train             training
  --eval              evaluation
  --segment           masks from boxes or automatic (SAM2)
  --cutout            masks by GrabCut, started by an ONNX network of yours
  --hub               download and publish checkpoints
  --usd               USD output
  --sim               files for simulators: colliders, MuJoCo, USD with physics
  --video             turntable video output
  --heic              photos in Apple's HEIC
  --ray               batches and data preparation on a Ray cluster
  --stores            inputs and results in object stores (s3://, file://)
  --dev               test tools
  --all               all of the above but Ray, stores and the test tools, and with an NVIDIA GPU the kernels
                      xformers, spconv and gsplat

Optional GPU kernels; SceneGen works without any of them
  --xformers          memory-efficient attention
  --flash-attn        FlashAttention (compiled here: needs nvcc)
  --spconv            sparse convolution
  --gsplat            Gaussian rasteriser (compiled at its first use: needs nvcc)
  --nvdiffrast        mesh rasteriser (compiled here: needs nvcc)
  --kaolin            NVIDIA Kaolin, for your own scripts; SceneGen does not use it
  --diffoctreerast    TRELLIS's octree rasteriser (compiled here: needs nvcc; research and evaluation only),
                      for comparisons: SceneGen has its own, and takes this one by name only

Settings
  --cpu               install the CPU build of PyTorch even where there is a GPU
  --torch-index URL   take PyTorch from this additional wheel index
  --dry-run           print the commands, change nothing
  --help              show this text

Flags of the published installer; nothing needs to be done for them, and a line says why
  --new-env           .venv is always used
  --basic             the basic packages are always installed
  --mipgaussian       Gaussians are drawn by PyTorch, or by gsplat
  --vox2seq           voxels are put in order by PyTorch

PYTHON=/path/to/python3 chooses the interpreter (3.10 or newer).
Exit status: 0 done; 1 failed; 2 unknown flag; 3 installed, but a requested GPU kernel has no build for this
machine (the message says why; everything else was done). A failing --run or --test ends with its own status.
HELP
}

# Sourced: do the work in a child shell, so that no setting or failure leaks into the caller's shell.
if [[ "${BASH_SOURCE[0]}" != "$0" ]]; then
    bash "${BASH_SOURCE[0]}" "$@" || return
    _scenegen_activate="$(dirname "${BASH_SOURCE[0]}")/.venv/bin/activate"
    # shellcheck disable=SC1090
    if [[ -f "$_scenegen_activate" ]]; then source "$_scenegen_activate"; fi
    unset _scenegen_activate
    return 0
fi

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly ROOT
readonly VENV="$ROOT/.venv"
readonly VENV_PYTHON="$VENV/bin/python"
readonly OLDEST_PYTHON="3.10"
readonly TORCH_CPU_INDEX="https://download.pytorch.org/whl/cpu"

extras=()
kernels=()
torch_index=""
cpu_only=false
dry_run=false
everything=false
kept_torch=""
run_examples=false
run_tests=false
test_choice=()

step() { printf '==> %s\n' "$*"; }

note() { printf 'setup.sh: %s\n' "$*"; }

fail() {
    printf 'setup.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

# Run a command that changes something; with --dry-run only print it.
change() {
    if $dry_run; then
        printf '+'
        printf ' %q' "$@"
        printf '\n'
    else
        "$@"
    fi
}

parse_flags() {
    while (($#)); do
        case "$1" in
            --run) run_examples=true ;;
            --test) run_tests=true; extras+=(dev) ;;
            --test-all) run_tests=true; extras+=(dev); test_choice=(-m "slow or not slow") ;;
            --demo | --background | --data | --train | --eval | --segment | --cutout | --hub | --usd | --sim | \
                --video | --heic | --ray | --stores | --dev)
                extras+=("${1#--}") ;;
            --xformers | --flash-attn | --spconv | --gsplat | --kaolin | --nvdiffrast | --diffoctreerast)
                kernels+=("${1#--}") ;;
            --all) everything=true ;;
            --new-env) note "--new-env: .venv beside setup.sh is always used and made where it is missing" ;;
            --basic) note "--basic: the basic packages are always installed" ;;
            --mipgaussian) note "--mipgaussian: not needed, Gaussians are drawn by PyTorch, or by gsplat" ;;
            --vox2seq) note "--vox2seq: not needed, voxels are put in order by PyTorch" ;;
            --cpu) cpu_only=true ;;
            --torch-index)
                [[ $# -ge 2 ]] || fail "--torch-index: expected a URL after it, got nothing" 2
                torch_index="$2"
                shift ;;
            --dry-run) dry_run=true ;;
            -h | --help) usage; exit 0 ;;
            *) fail "unknown flag '$1'; 'bash setup.sh --help' lists the flags" 2 ;;
        esac
        shift
    done
}

new_enough() { "$1" -c "import sys; sys.exit(sys.version_info[:2] < (${OLDEST_PYTHON/./, }))" 2>/dev/null; }

# Print the first Python that is new enough; print nothing where there is none.
find_python() {
    local candidate
    if [[ -n "${PYTHON:-}" ]] && ! new_enough "$PYTHON"; then
        fail "PYTHON=$PYTHON: expected Python $OLDEST_PYTHON or newer; correct the path or unset PYTHON"
    fi
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.1{3,2,1,4,0}; do
        if new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

# Install Debian or Ubuntu packages when allowed to, else say which command does it.
apt_install() {
    local purpose="$1"
    shift
    if ! command -v apt-get >/dev/null; then
        fail "$purpose is missing; install it with this system's package manager, then run setup.sh again"
    elif [[ "$(id -u)" != 0 ]]; then
        fail "$purpose is missing; run 'sudo apt-get update && sudo apt-get install $*', then setup.sh again"
    fi
    step "Installing $* with apt-get ($purpose is missing)"
    change apt-get update -qq
    change env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"
}

make_environment() {
    if new_enough "$VENV_PYTHON" && "$VENV_PYTHON" -m pip --version &>/dev/null; then
        step "Using the environment $VENV"
        return
    fi
    local python version
    python="$(find_python)"
    if [[ -z "$python" ]]; then
        apt_install "Python $OLDEST_PYTHON or newer" python3 python3-venv
        python="$(find_python)"
        [[ -n "$python" ]] || fail "found no Python $OLDEST_PYTHON or newer; set PYTHON=/path/to/python3"
    fi
    version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install "the venv module of Python $version" "python$version-venv"
    fi
    step "Making the environment $VENV with Python $version"
    change "$python" -m venv --clear "$VENV"
}

pip_install() {
    local verbosity=(--quiet)
    if [[ -t 1 ]]; then verbosity=(); fi
    local constraints="$ROOT/constraints.txt" edits=()
    if [[ -n "$kept_torch" ]]; then edits+=(-e "s/^torch==[^ ;]*/torch==${kept_torch%%+*}/"); fi
    # The library of S3 still needs an older python-dateutil than all other packages take.
    if [[ " ${extras[*]:-} " == *" stores "* ]]; then edits+=(-e "/^python-dateutil==/d"); fi
    if ((${#edits[@]})); then
        constraints="$VENV/constraints.txt"
        if ! $dry_run; then sed "${edits[@]}" "$ROOT/constraints.txt" >"$constraints"; fi
    fi
    change "$VENV_PYTHON" -m pip install --disable-pip-version-check --no-input \
        ${verbosity[@]+"${verbosity[@]}"} --constraint "$constraints" "$@"
}

# True where an installed version is at least the oldest that pyproject.toml allows.
new_enough_torch() {
    local oldest
    oldest="$(sed -n 's/^    "torch>=\([0-9.]*\)",.*/\1/p' "$ROOT/pyproject.toml")"
    [[ "$(printf '%s\n' "$oldest" "${1%%+*}" | sort -V | head -n 1)" == "$oldest" ]]
}

has_gpu() { ! $cpu_only && nvidia-smi --list-gpus 2>/dev/null | grep -q GPU; }

# True where the configured package indexes already hold a CPU build of the pinned PyTorch.
index_has_cpu_torch() {
    local pinned
    pinned="$(sed -n 's/^torch==\([^ ;]*\).*/\1/p' "$ROOT/constraints.txt")"
    "$VENV_PYTHON" -m pip index versions torch 2>/dev/null | grep -qF "$pinned+cpu"
}

reachable() {
    "$VENV_PYTHON" - "$1" &>/dev/null <<'PY'
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=5)
PY
}

# The default Linux wheel of PyTorch brings gigabytes of CUDA libraries; without a GPU prefer the CPU wheel.
choose_torch_index() {
    if [[ -n "$torch_index" ]] || has_gpu || [[ "$(uname -s)" != Linux ]]; then return; fi
    if $dry_run || "$VENV_PYTHON" -c 'import torch' 2>/dev/null || index_has_cpu_torch; then return; fi
    if reachable "$TORCH_CPU_INDEX/torch/"; then
        torch_index="$TORCH_CPU_INDEX"
    else
        note "no NVIDIA GPU here, yet PyTorch comes as its CUDA build, gigabytes larger: the index of CPU builds," \
            "$TORCH_CPU_INDEX, cannot be reached; --torch-index URL names a mirror of it"
    fi
}

install_packages() {
    local target="$ROOT"
    if $everything; then
        extras+=(demo background data train eval segment cutout hub usd sim video heic)
        if has_gpu; then kernels+=(xformers spconv gsplat); fi
    fi
    if ((${#extras[@]})); then
        target="${ROOT}[$(printf '%s\n' "${extras[@]}" | sort -u | paste -sd, -)]"
    fi
    local found
    found="$("$VENV_PYTHON" -c 'import torch; print(torch.__version__)' 2>/dev/null || true)"
    if [[ -n "$found" && -z "$torch_index" ]] && new_enough_torch "$found"; then
        kept_torch="$found"
        step "Keeping PyTorch $found"
    else
        choose_torch_index
        step "Installing PyTorch (the largest part: minutes on the first run)"
        pip_install ${torch_index:+--extra-index-url "$torch_index"} torch
    fi
    step "Installing SceneGen: ${target#"$(dirname "$ROOT")"/}"
    pip_install --editable "$target"
}

# GPU kernels are optional: one without a build is reported and the rest goes on. Returns 3 if any is missing.
install_kernels() {
    if ! ((${#kernels[@]})); then return; fi
    step "Installing GPU kernels: ${kernels[*]}"
    change "$VENV_PYTHON" "$ROOT/scripts/install_kernels.py" "${kernels[@]}"
}

report_device() {
    if $dry_run; then return; fi
    "$VENV_PYTHON" - <<'PY'
import torch
device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
print(f"==> Ready: torch {torch.__version__} on {device}")
PY
    if has_gpu && ! "$VENV_PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        printf 'setup.sh: %s\n' "the installed PyTorch cannot use this NVIDIA GPU" \
            "update the driver, or remove .venv and give --torch-index PyTorch's index of an older CUDA" >&2
    fi
}

main() {
    parse_flags "$@"
    cd "$ROOT"
    make_environment
    install_packages
    local kernel_status=0
    install_kernels || kernel_status=$?
    report_device
    if $run_examples; then
        step "Reconstructing the example scenes"
        change "$VENV_PYTHON" inference.py
    fi
    if $run_tests; then
        step "Running the tests"
        # One process a core, of one thread each: PyTorch's threads wait for each other where processes share cores.
        export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
        change "$VENV_PYTHON" -m pytest --numprocesses auto --dist loadfile ${test_choice[@]+"${test_choice[@]}"}
    fi
    exit "$kernel_status"
}

main "$@"
