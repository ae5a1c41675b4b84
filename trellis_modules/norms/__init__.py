"""Norms of rows and of attention heads: one function for each, and their backends."""

from trellis_modules.norms.functional import head_rms_norm, layer_norm

__all__ = ["head_rms_norm", "layer_norm"]
