"""Networks of earlier stages that a stage starts from: which command makes one that is missing."""

from __future__ import annotations

from pathlib import Path

from scenegen.hub.releases import download_command, load_releases
from trellis_modules.checkpoint import WEIGHTS_SUFFIX, CheckpointError

CONFIGS = Path("configs")
_CHECKPOINTS = "ckpts"  # folder of a run's output that holds its networks


def require_network(stem: Path, where: str) -> None:
    """Make sure that a network of an earlier stage is there.

    Args:
        stem: checkpoint path without suffix, for example ``outputs/image_encoder/ckpts/image_encoder``.
        where: begins the message: what names the network.

    Raises:
        CheckpointError: its weights are not there; the message says what makes or fetches them.
    """
    if stem.with_name(stem.name + WEIGHTS_SUFFIX).is_file() or _is_other_file(stem):
        return
    raise CheckpointError(f"{where}: expected {stem}{WEIGHTS_SUFFIX}, found none; {_remedy(stem)}")


def _is_other_file(stem: Path) -> bool:
    """Whether something lies there that loading tells more about, such as a pickle."""
    return stem.parent.is_dir() and any(path.stem == stem.name for path in stem.parent.iterdir())


def stage_of(stem: Path) -> Path | None:
    """The configuration that makes a network, as far as the working folder tells: the first folder's."""
    if stem.parent.name != _CHECKPOINTS:
        return None
    return next(iter(sorted(CONFIGS.glob(f"*/{stem.parent.parent.name}.json"))), None)


def _remedy(stem: Path) -> str:
    folder = stem.parent.parent
    for name, release in load_releases().items():
        if (
            release.folder == folder.name
            and f"{stem.parent.name}/{stem.name}{WEIGHTS_SUFFIX}" in release.files
        ):
            return f"fetch it with: {download_command(name)}"
    if (config := stage_of(stem)) is not None:
        return f"train that stage first: python train.py --config {config} --output-dir {folder} --packs ..."
    return "train that stage first, with python train.py, or correct the path"
