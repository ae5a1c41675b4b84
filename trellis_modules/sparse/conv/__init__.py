"""Submanifold convolution: one function, its backends, and the layer."""

from trellis_modules.sparse.conv.backends import available_backends
from trellis_modules.sparse.conv.functional import conv3d_of_copies, submanifold_conv3d
from trellis_modules.sparse.conv.module import SparseConv3d, SubmanifoldConv3d

__all__ = [
    "SparseConv3d",
    "SubmanifoldConv3d",
    "available_backends",
    "conv3d_of_copies",
    "submanifold_conv3d",
]
