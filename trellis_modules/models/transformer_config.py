"""Sizes that every transformer network of the package has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Field names are the keys of the released configurations."""

    model_channels: int
    num_blocks: int
    num_heads: int | None = None  # default: model_channels // num_head_channels
    num_head_channels: int = 64
    mlp_ratio: float = 4.0
    pe_mode: Literal["ape"] = "ape"
    use_fp16: bool = False  # half-precision torso after construction
    use_checkpoint: bool = False  # recompute block activations in the backward pass
    qk_rms_norm: bool = False

    def __post_init__(self) -> None:
        if self.pe_mode != "ape":
            raise ValueError(f"pe_mode must be 'ape' (no released model uses another), got {self.pe_mode!r}")
        if not self.heads:
            raise ValueError(
                f"model_channels {self.model_channels} must be at least num_head_channels "
                f"{self.num_head_channels} where num_heads is not given"
            )
        if self.model_channels % self.heads:
            raise ValueError(
                f"model_channels {self.model_channels} must be divisible by num_heads {self.heads}"
            )

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.num_heads or self.model_channels // self.num_head_channels
