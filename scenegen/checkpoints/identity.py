"""What tells the networks that made a scene from others, for the scene's record."""

from __future__ import annotations

from pathlib import Path

from scenegen.hub.digest import sampled_sha256
from scenegen.hub.repository import split_repository


def checkpoint_identity(checkpoint: Path | str) -> dict[str, str]:
    """What tells a checkpoint from others, for the record of a scene.

    Returns:
        A digest of its folder, or the name of a repository on the hub; nothing where neither is there. Of
        files of weights, which may have gigabytes, the size and three samples count.
    """
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        is_named = split_repository(str(checkpoint)) is not None
        return {"checkpoint": str(checkpoint)} if is_named else {}
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors"))
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {"checkpoint": sampled_sha256(named)}


def made_by(checkpoint: Path | str, revision: str | None, dtype: str | None) -> dict[str, str | None]:
    """What the record of a scene says of the networks that made it.

    Args:
        checkpoint: folder, or the name of a repository on the hub.
        revision: of the repository.
        dtype: of large layers, by name; None for the default of the device.
    """
    return {**checkpoint_identity(checkpoint), "revision": revision, "dtype": dtype}
