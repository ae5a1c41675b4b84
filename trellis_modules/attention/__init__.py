"""Attention: dense and over groups of rows, its backends, and the multi-head modules."""

from trellis_modules.attention.backends import BackendUnavailable, available_backends
from trellis_modules.attention.functional import attention
from trellis_modules.attention.modules import CrossAttention, KeyValue, MultiHeadRMSNorm, SelfAttention
from trellis_modules.attention.segments import (
    AttentionPattern,
    FullPattern,
    Segments,
    SerializedPattern,
    WindowPattern,
)
from trellis_modules.attention.serialization import SerializeMode, serialize
from trellis_modules.attention.variable_length import variable_length_attention

__all__ = [
    "AttentionPattern",
    "BackendUnavailable",
    "CrossAttention",
    "FullPattern",
    "KeyValue",
    "MultiHeadRMSNorm",
    "Segments",
    "SelfAttention",
    "SerializeMode",
    "SerializedPattern",
    "WindowPattern",
    "attention",
    "available_backends",
    "serialize",
    "variable_length_attention",
]
