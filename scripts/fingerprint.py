"""Digests of what the commands make, to show that a refactoring changes no number.

Runs ``inference.py`` on bundled scenes (with and without the appearance stage) and one training step of each
configuration in ``configs/small`` on small batches, as a user would, and writes one JSON file: the SHA-256 of
every GLB, of each ``poses.json`` without seconds and bytes, and the losses that each step logs.

    python scripts/fingerprint.py --output before.json        # at the one commit
    python scripts/fingerprint.py --output after.json --compare before.json

Digests are equal on one machine with one number of threads; they are not meant to compare machines.
Exit status: 0 done and, with --compare, equal; 1 something differs or a command failed.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from safe_files.json_reader import read_json
from safe_files.regular import UnreadableFile
from scenegen.cli.parser import CommandParser

ROOT = Path(__file__).resolve().parents[1]
SCENES = 2
POSES_FILE = "poses.json"
MEASURED = ("seconds", "peak_bytes", "peak_gib", "timings", "memory")  # of poses.json: differ from run to run
SMALL: Mapping[str, Any] = {  # replaces these settings wherever a configuration has them
    "objects_per_step": 4,
    "shapes": 24,
    "surface_samples": 4096,
    "max_steps": 1,
    "i_log": 1,
    "fp16_mode": None,
    "finetune_ckpt": None,
}
TRAINED_LATENTS = {  # which networks make the latents that a flow learns, from the bundled checkpoint
    "scene_flow": "checkpoints/scenegen-small/ckpts/ss_enc",
    "structured_latent_flow": "checkpoints/scenegen-small/ckpts/slat_enc",
}
NOT_LOSSES = ("step", "seconds", "seconds_per_step", "data_wait", "memory_gib", "lr")


def run(*arguments: str) -> None:
    """Run a script of the project; its output is shown where it fails."""
    result = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        command = " ".join(arguments)
        sys.exit(f"fingerprint: {command} ended with {result.returncode}\n{result.stderr[-2000:]}")


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def without_measurements(value: Any) -> Any:
    """A JSON value without what differs from run to run."""
    if isinstance(value, dict):
        return {key: without_measurements(item) for key, item in value.items() if key not in MEASURED}
    return [without_measurements(item) for item in value] if isinstance(value, list) else value


def scene_digests(folder: Path, *options: str) -> dict[str, str]:
    """Make the first bundled scenes and return the digest of each file, by its path below the output."""
    run("inference.py", "--output", str(folder), "--limit", str(SCENES), *options)
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".glb":
            digests[path.relative_to(folder).as_posix()] = digest(path.read_bytes())
        elif path.name == POSES_FILE:
            poses = without_measurements(json.loads(path.read_text(encoding="utf-8")))
            digests[path.relative_to(folder).as_posix()] = digest(json.dumps(poses, sort_keys=True).encode())
    return digests


def smaller(value: Any) -> Any:
    """A configuration with the settings of `SMALL`."""
    if isinstance(value, dict):
        return {key: SMALL[key] if key in SMALL else smaller(item) for key, item in value.items()}
    return [smaller(item) for item in value] if isinstance(value, list) else value


def step_losses(config: Path, pack: Path, folder: Path) -> dict[str, float]:
    """Train one step of a configuration and return what it logged."""
    experiment = folder / f"{config.stem}.json"
    experiment.write_text(json.dumps(smaller(json.loads(config.read_text(encoding="utf-8")))))
    output = folder / config.stem
    latents = TRAINED_LATENTS.get(config.stem)
    run(
        "train.py", "--config", str(experiment), "--output-dir", str(output), "--packs", str(pack),
        "--workers", "0", "--device", "cpu", *(["--latent-encoder", latents] if latents else []),
    )  # fmt: skip
    record = json.loads((output / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
    return {name: value for name, value in record.items() if name not in NOT_LOSSES}


def fingerprint(folder: Path) -> dict[str, Any]:
    """Everything that is compared, by the command that made it."""
    pack = folder / "pack.safetensors"
    sizes = ("--count", "12", "--swaps", "0")
    run("-m", "dataset_toolkits.build_procedural_pack", "--output", str(pack), *sizes)
    tensors = load_file(pack)  # the order of the metadata in the file differs from run to run
    record: dict[str, Any] = {"pack": {name: digest(tensors[name].tobytes()) for name in sorted(tensors)}}
    for config in sorted((ROOT / "configs" / "small").glob("*.json")):
        record[f"train {config.stem}"] = step_losses(config, pack, folder)
    record["textured scenes"] = scene_digests(folder / "textured")
    record["plain scenes"] = scene_digests(folder / "plain", "--no-appearance", "--refine")
    return record


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """One line for each value that is not the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = sorted(before.keys() | after.keys())
        return [
            line
            for name in names
            for line in differences(before.get(name), after.get(name), f"{where}/{name}")
        ]
    return [] if before == after else [f"{where}: {before} before, {after} now"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = CommandParser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--compare", type=Path, help="JSON file of another commit")
    options = parser.parse_args(arguments)
    try:  # before minutes of work
        before = None if options.compare is None else read_json(options.compare)
    except (OSError, UnreadableFile) as error:
        parser.error(
            f"--compare {options.compare}: expected what --output wrote of another commit, got {error}"
        )
    with tempfile.TemporaryDirectory() as folder:
        record = fingerprint(Path(folder))
    options.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if options.compare is None:
        print(f"{options.output}: written")
        return 0
    changed = differences(before, record)
    print("\n".join(changed) if changed else f"{options.output}: the same as {options.compare}")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
