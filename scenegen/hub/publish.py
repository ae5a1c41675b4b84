"""Write a pipeline as a checkpoint folder, and upload such a folder to the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import nn

from scenegen.checkpoints.roles import PIPELINE_FILE, network_stems, with_networks
from scenegen.hub.digest import file_sha256
from scenegen.hub.releases import HubError, is_inside
from scenegen.hub.repository import Repository, hub_faults
from trellis_modules.checkpoint import PICKLE_SUFFIXES, WEIGHTS_SUFFIX, save_checkpoint
from trellis_modules.config import ConfigError, NamedConfig, load_json
from trellis_modules.files import atomic_write_text
from vggt.models.aggregator import Aggregator

_UPLOADED = ("*.json", f"*{WEIGHTS_SUFFIX}", "*.md", "LICENSE")
_WITHOUT_HEADS = dict.fromkeys(("camera_head", "point_head", "depth_head", "track_head"))


def save_pretrained(description: NamedConfig, networks: Mapping[str, nn.Module], folder: Path | str) -> Path:
    """Write a checkpoint folder that loads as the same pipeline.

    Weights are stored in half precision where that loses nothing, else in single.

    Args:
        description: name and arguments as ``pipeline.json`` has them; roles without a network are left out.
        networks: role -> network that ``build_model`` built. An `Aggregator` becomes a VGGT without heads;
            its ``named_config`` is that of the VGGT.
        folder: made where it is missing; files of the same names are replaced.

    Returns:
        The folder.

    Raises:
        CheckpointError: a network does not know its configuration.
    """
    folder = Path(folder)
    content, digests = {"name": description.name, "args": description.args}, {}
    named = network_stems(content)
    stems = {role: _own_stem(role, stem) for role, stem in named.items() if role in networks}
    for role, stem in stems.items():
        _save_network(networks[role], folder / stem)
        digests[stem + WEIGHTS_SUFFIX] = file_sha256(folder / f"{stem}{WEIGHTS_SUFFIX}")
    content = with_networks(content, stems, digests)
    atomic_write_text(folder / PIPELINE_FILE, json.dumps(content, indent=2) + "\n")
    return folder


def push_to_hub(
    folder: Path | str,
    repo_id: str,
    *,
    revision: str | None = None,
    private: bool = True,
    token: str | None = None,
    message: str = "Upload SceneGen checkpoint",
    endpoint: str | None = None,
) -> str:
    """Upload a checkpoint folder: descriptions, safetensors, README and licence, and nothing else.

    Args:
        folder: see `save_pretrained`.
        repo_id: ``owner/name``; made where it is missing.
        revision: branch; None is the main one.
        private: of a new repository.
        token: access token; None takes that of ``hf auth login``.
        message: of the commit.
        endpoint: None is the public hub, or HF_ENDPOINT.

    Returns:
        URL of the commit.

    Raises:
        HubError: the folder is incomplete or altered, huggingface_hub is not installed, or the hub refuses.
    """
    folder = Path(folder)
    check_folder(folder)
    with hub_faults(Repository(repo_id, revision, endpoint=endpoint), "upload"):
        from huggingface_hub import HfApi

        api = HfApi(endpoint=endpoint, token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=message,
            allow_patterns=list(_UPLOADED),
        )
    return commit.commit_url


def check_folder(folder: Path) -> None:
    """Check that a folder is a whole checkpoint with its recorded digests.

    Raises:
        HubError: names the first fault.
    """
    stems, digests = _networks(folder / PIPELINE_FILE)
    for stem in stems:
        weights = folder / f"{stem}{WEIGHTS_SUFFIX}"
        if not is_inside(stem) or not weights.is_file() or not (folder / f"{stem}.json").is_file():
            raise HubError(
                f"{folder / PIPELINE_FILE}: expected {stem}.json and {weights.name} in the folder, found "
                "none; write the folder with save_pretrained"
            )
        expected = digests.get(stem + WEIGHTS_SUFFIX)
        if expected is None or file_sha256(weights) != expected:
            raise HubError(
                f"{weights}: expected the sha256 in {PIPELINE_FILE}, got another or none recorded; write the "
                "folder with save_pretrained"
            )
    if pickles := sorted(path for path in folder.rglob("*") if path.suffix in PICKLE_SUFFIXES):
        raise HubError(f"{pickles[0]}: a pickle is not uploaded; convert it or remove it from the folder")


def _networks(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Stems and recorded digests of a description."""
    try:
        named = NamedConfig.parse(load_json(path), str(path))
        stems = network_stems({"name": named.name, "args": named.args})
    except ConfigError as error:
        raise HubError(str(error)) from error
    except ValueError as error:
        raise HubError(f"{path}: {error}; write the folder with save_pretrained") from error
    digests = named.args.get("sha256")
    return list(stems.values()), digests if isinstance(digests, dict) else {}


def _own_stem(role: str, stem: str) -> str:
    """Where a network goes: its place stays when it is inside the folder, another repository's gets one."""
    parts = PurePosixPath(stem).parts
    return stem if len(parts) == 2 and parts[0] == "ckpts" and is_inside(stem) else f"ckpts/{role}"


def _save_network(network: nn.Module, stem: Path) -> None:
    named = getattr(network, "named_config", None)
    dtype = torch.float16 if _is_half(network) else torch.float32
    if isinstance(network, Aggregator) and named is not None:
        named = NamedConfig("VGGT", {**named.args, **_WITHOUT_HEADS})
        network = nn.ModuleDict({"aggregator": network})
    save_checkpoint(network, stem, dtype, named_config=named)


def _is_half(network: nn.Module) -> bool:
    """Whether every weight survives half precision."""
    tensors = (tensor for tensor in network.state_dict().values() if tensor.is_floating_point())
    return all(torch.equal(tensor.half().to(tensor.dtype), tensor) for tensor in tensors)
