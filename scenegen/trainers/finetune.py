"""Weights that training starts from: checkpoints that hold some of a network's tensors, and adapters."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safe_files.regular import shown
from scenegen.checkpoints.networks import find_network
from scenegen.hub.repository import split_repository
from scenegen.models import SceneFlowModel
from scenegen.trainers.loop_config import LoopConfig
from scenegen.trainers.lora import merge_adapter
from scenegen.trainers.stages import require_network, stage_of
from trellis_modules.checkpoint import (
    PICKLE_SUFFIXES,
    WEIGHTS_SUFFIX,
    CheckpointError,
    find_weights,
    read_state,
    refuse_pickle,
)
from trellis_modules.config import lookup

logger = logging.getLogger(__name__)

#: what scene attention takes over from the attention of single objects: its name -> the source's, parts
_SCENE_ATTENTION = {
    "global_attn": ("self_attn", ("to_qkv", "to_out")),
    "global_cross_attn": ("cross_attn", ("to_q", "to_kv", "to_out")),
}
_SCENE_MODULATION, _MODULATION = "adaLN_modulation_global", "adaLN_modulation"


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint had for a network.

    Attributes:
        taken: names of the tensors that were loaded.
        missing: names that the checkpoint lacks.
        misshapen: names of other shapes there.
        unused: names of the checkpoint that the network lacks.
    """

    taken: tuple[str, ...]
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    unused: tuple[str, ...]


def find_starts(roles: Collection[str], config: LoopConfig) -> dict[str, tuple[Path, ...]]:
    """The files that ``finetune_ckpt`` of a configuration names, by role; found before anything is built.

    Raises:
        ConfigError: a role is unknown.
        CheckpointError: a file is missing.
    """
    known = dict.fromkeys(roles)
    for role in config.finetune_ckpt or {}:
        lookup(known, role, "trainer.finetune_ckpt")
    return {
        role: tuple(
            find_start(reference, f"trainer.finetune_ckpt: {role}")
            for reference in ((named,) if isinstance(named, str) else named)
        )
        for role, named in (config.finetune_ckpt or {}).items()
    }


def start_from_checkpoints(
    models: Mapping[str, nn.Module], starts: Mapping[str, Sequence[Path]], config: LoopConfig
) -> None:
    """Load what ``finetune_ckpt``, ``init_global_params`` and ``peft_ckpt_path`` of a configuration name.

    Of several files for a network, the first that has a tensor gives it. Tensors that all of them lack, or
    have in another shape, keep their values, and one line a file tells so.

    Args:
        models: by role; changed in place.
        starts: files of weights by role, the most important first, see `find_starts`.
        config: of the loop.

    Raises:
        CheckpointError: a file is damaged, or nothing in it fits.

    Source: released training configurations.
    """
    for role, paths in starts.items():
        where = f"trainer.finetune_ckpt: {role}"
        model = models[role]
        taken: set[str] = set()
        for path in paths:
            left = {name: value for name, value in read_state(path).items() if name not in taken}
            if config.widen_inputs:
                left = widened(left, model)
            loaded = load_what_fits(model, left, f"{where}: {path}")
            taken.update(loaded.taken)
            _tell(loaded, f"{where}: {path}")
        if config.init_global_params and isinstance(model, SceneFlowModel):
            copied = start_scene_attention(model, except_for=taken)
            if copied:
                logger.info("%s: scene attention starts as the objects' own, %d tensors", where, len(copied))
    if config.peft_ckpt_path is not None:
        role = merge_adapter(models, Path(config.peft_ckpt_path), "trainer.peft_ckpt_path")
        logger.info("trainer.peft_ckpt_path: %s is merged into %s", config.peft_ckpt_path, role)


def find_start(reference: str, where: str) -> Path:
    """The file of weights that a configuration names.

    Args:
        reference: a file of weights; a path without its suffix; or ``owner/name/ckpts/stem`` of a repository.
        where: begins the message.

    Raises:
        CheckpointError: there is none, or it is a pickle; the message says what makes or fetches it.
    """
    refuse_pickle(Path(reference))
    for suffix in (WEIGHTS_SUFFIX, *PICKLE_SUFFIXES):
        reference = reference.removesuffix(suffix)
    stem = Path(reference)
    _, file = split_repository(reference) or ("", "")
    if file and stage_of(stem) is None:
        try:
            return find_network(reference).weights
        except CheckpointError as error:
            raise CheckpointError(f"{where}: {error}") from error
    require_network(stem, where)
    return find_weights(stem)


def widened(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights of linear maps for a network whose maps have more inputs, to which zeros are given.

    Where the new inputs come last, the network computes what it did before, until it is trained on.

    Args:
        state: of a checkpoint.
        model: whose shapes count.

    Returns:
        The state; what has other outputs, or fewer inputs, is in it as it was.
    """
    own, wider = model.state_dict(), dict(state)
    for name, value in state.items():
        shape = own[name].shape if name in own else value.shape
        has_more = value.ndim == len(shape) == 2 and value.shape[0] == shape[0] and value.shape[1] < shape[1]
        if has_more:
            wider[name] = F.pad(value, (0, shape[1] - value.shape[1]))
    return wider


def load_what_fits(model: nn.Module, state: Mapping[str, Tensor], where: str) -> Loaded:
    """Load the tensors of a network that a state dict has in the same shape; the others stay as they are.

    Raises:
        CheckpointError: it has none of them; the message begins with ``where``.
    """
    own = model.state_dict()
    taken = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if not taken:
        raise CheckpointError(
            f"{where}: expected tensors like {shown(next(iter(own), ''))}, got none that fits, but "
            f"{shown(next(iter(state), ''))}; name a checkpoint of this network"
        )
    model.load_state_dict(taken, strict=False)
    return Loaded(
        tuple(taken),
        tuple(name for name in own if name not in state),
        tuple(name for name in state if name in own and name not in taken),
        tuple(name for name in state if name not in own),
    )


def _tell(loaded: Loaded, where: str) -> None:
    parts = [
        f"{len(names)} {what} (like {names[0]})"
        for names, what in (
            (loaded.missing, "are not in it and keep their values"),
            (loaded.misshapen, "have another shape there and keep their values"),
            (loaded.unused, "of it are of no use"),
        )
        if names
    ]
    level = logging.WARNING if loaded.misshapen else logging.INFO
    logger.log(level, "%s: %d tensors loaded%s", where, len(loaded.taken), "".join(f"; {p}" for p in parts))


@torch.no_grad()
def start_scene_attention(model: SceneFlowModel, except_for: Collection[str] = ()) -> list[str]:
    """Let scene attention start as the attention that every object has for itself.

    Args:
        model: changed in place.
        except_for: tensors that stay as they are, for example those that a checkpoint had.

    Returns:
        Names of the tensors that were changed.
    """
    sources = {}
    for number, block in enumerate(model.blocks):
        for scene, (single, parts) in _SCENE_ATTENTION.items():
            for part in parts:
                for name, _ in getattr(block, scene).get_submodule(part).named_parameters():
                    begin = f"blocks.{number}."
                    sources[f"{begin}{scene}.{part}.{name}"] = f"{begin}{single}.{part}.{name}"
    for name, _ in model.named_parameters():
        if _SCENE_MODULATION in name.split("."):
            sources[name] = name.replace(_SCENE_MODULATION, _MODULATION)
    parameters = dict(model.named_parameters())
    changed = [name for name in sources if name not in except_for]
    for name in changed:
        target = parameters[name]
        target.copy_(parameters[sources[name]][: len(target)])
    return changed
