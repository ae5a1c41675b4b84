"""Transformer blocks as compiled graphs, with and without recomputed activations."""

from __future__ import annotations

import logging

import torch
from torch import nn

from scenegen.trainers.distributed import trained_blocks
from trellis_modules.attention.backends import load_automatic
from trellis_modules.models.torso import TorsoModule
from trellis_modules.norms.functional import load_for_compilation

logger = logging.getLogger(__name__)


def compile_blocks(objective: nn.Module, device: torch.device, *, is_spread: bool, recomputes: bool) -> None:
    """Run the blocks of trained networks as compiled graphs from now on.

    Args:
        objective: holds the networks.
        device: they run on it.
        is_spread: their weights are to be spread over processes.
        recomputes: how many of their blocks are recomputed changes from step to step.
    """
    networks = [network for network in objective.children() if isinstance(network, TorsoModule)]
    if is_spread and (recomputes or any(network.config.use_checkpoint for network in networks)):
        # weights are gathered in the midst of a block, which no graph with its own recomputation can hold
        logger.info("trainer.compile changes nothing: blocks that are spread and recomputed are not compiled")
        return
    load_automatic(device)
    load_for_compilation(device)
    for block in trained_blocks(objective):
        block.compile()
    for network in networks:
        network.compile_recomputation()
