"""Captions to the tokens that text-conditioned flows see, by the text part of CLIP.

Source: TRELLIS, arXiv:2412.01506, sec. 3.3; CLIP, arXiv:2103.00020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

MAX_TOKENS = 77
"""Tokens of a caption; longer ones are cut, shorter ones filled up."""


class TextEncoder(nn.Module):
    """A frozen text encoder of the package transformers with its tokenizer."""

    def __init__(self, network: nn.Module, tokenizer: Any, max_tokens: int = MAX_TOKENS) -> None:
        """Take the two as the package loads them.

        Args:
            network: gives ``last_hidden_state`` (B, T, C) for ``input_ids`` (B, T).
            tokenizer: of the network.
            max_tokens: T.
        """
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    @property
    def width(self) -> int:
        """C."""
        return self.network.config.hidden_size

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> Tensor:
        """Tokens (B, T, C) of captions, on the device of the network; those of "" are the empty condition.

        Raises:
            ValueError: no caption.
        """
        if not captions:
            raise ValueError("TextEncoder: expected at least one caption, got none")
        words = self.tokenizer(
            list(captions),
            max_length=self.max_tokens,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        )
        device = next(self.network.parameters()).device
        return self.network(input_ids=words["input_ids"].to(device)).last_hidden_state
