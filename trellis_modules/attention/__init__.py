"""Attention: one function, its backends, and the multi-head modules."""

from trellis_modules.attention.backends import BackendUnavailable, available_backends
from trellis_modules.attention.functional import attention
from trellis_modules.attention.modules import CrossAttention, KeyValue, MultiHeadRMSNorm, SelfAttention

__all__ = [
    "BackendUnavailable",
    "CrossAttention",
    "KeyValue",
    "MultiHeadRMSNorm",
    "SelfAttention",
    "attention",
    "available_backends",
]
