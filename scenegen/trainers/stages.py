"""Networks of earlier stages that a stage starts from: which command makes one that is missing."""

from __future__ import annotations

from pathlib import Path

from trellis_modules.checkpoint import WEIGHTS_SUFFIX, CheckpointError

CONFIGS = Path("configs")
_CHECKPOINTS = "ckpts"  # folder of a run's output that holds its networks


def require_network(stem: Path, where: str) -> None:
    """Make sure that a network of an earlier stage is there.

    Args:
        stem: checkpoint path without suffix, for example ``outputs/image_encoder/ckpts/image_encoder``.
        where: begins the message: what names the network.

    Raises:
        CheckpointError: its weights are not there; the message says what makes them.
    """
    if stem.with_name(stem.name + WEIGHTS_SUFFIX).is_file() or _is_other_file(stem):
        return
    raise CheckpointError(f"{where}: expected {stem}{WEIGHTS_SUFFIX}, found none; {_remedy(stem)}")


def _is_other_file(stem: Path) -> bool:
    """Whether something lies there that loading tells more about, such as a pickle."""
    return stem.parent.is_dir() and any(path.stem == stem.name for path in stem.parent.iterdir())


def _remedy(stem: Path) -> str:
    folder = stem.parent.parent
    if stem.parent.name == _CHECKPOINTS and (config := _config_of(folder.name)) is not None:
        return f"train that stage first: python train.py --config {config} --output-dir {folder} --packs ..."
    return "train that stage first, with python train.py, or correct the path"


def _config_of(stage: str) -> Path | None:
    """The configuration of a stage, if the working folder has one of its name: the first folder's."""
    return next(iter(sorted(CONFIGS.glob(f"*/{stage}.json"))), None)
