"""Sparse voxel tensors and the layers on them."""

from trellis_modules.sparse.linear import SparseLinear
from trellis_modules.sparse.norm import SparseGroupNorm32
from trellis_modules.sparse.spatial import SparseDownsample, SparseSubdivide, SparseUpsample
from trellis_modules.sparse.tensor import MAX_RESOLUTION, SparseTensor, sparse_cat

__all__ = [
    "MAX_RESOLUTION",
    "SparseDownsample",
    "SparseGroupNorm32",
    "SparseLinear",
    "SparseSubdivide",
    "SparseTensor",
    "SparseUpsample",
    "sparse_cat",
]
