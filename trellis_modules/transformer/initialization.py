"""Initial weights of modulated transformers."""

from __future__ import annotations

from torch import nn


def initialize_transformer(model: nn.Module) -> None:
    """Xavier weights and zero biases for linear layers; modulation starts at zero, every branch gated off.

    Source: DiT, arXiv:2212.09748, sec. 3.2 (adaLN-Zero).
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        if "adaLN_modulation" in name:
            nn.init.zeros_(module.weight)
        else:
            nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
