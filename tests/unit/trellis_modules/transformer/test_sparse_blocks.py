"""Sparse transformer blocks against the dense blocks that hold their parameters."""

from __future__ import annotations

import pytest
import torch

from trellis_modules.attention import FullPattern, SerializeMode, WindowPattern
from trellis_modules.sparse import SparseTensor
from trellis_modules.transformer import (
    ModulatedSparseTransformerBlock,
    ModulatedSparseTransformerCrossBlock,
    ModulatedTransformerBlock,
    ModulatedTransformerCrossBlock,
    attention_patterns,
    segments_of,
)


@pytest.fixture
def x() -> SparseTensor:
    """Two elements of nine voxels each."""
    xyz = torch.cartesian_prod(torch.arange(3), torch.arange(3), torch.arange(1))
    batch = torch.arange(2).repeat_interleave(9)
    generator = torch.Generator().manual_seed(0)
    coords = torch.cat([batch[:, None], xyz.repeat(2, 1)], 1)
    return SparseTensor(torch.randn(18, 8, generator=generator), coords)


@torch.no_grad()
def test_modulated_blocks_agree_with_the_dense_ones(x: SparseTensor) -> None:
    torch.manual_seed(0)
    tokens, condition, context = x.feats.unflatten(0, (2, 9)), torch.randn(2, 8), torch.randn(2, 4, 6)
    dense, sparse = ModulatedTransformerBlock(8, 2), ModulatedSparseTransformerBlock(8, 2)
    sparse.load_state_dict(dense.state_dict())
    torch.testing.assert_close(sparse(x, condition).feats, dense(tokens, condition).flatten(0, 1))

    dense = ModulatedTransformerCrossBlock(8, 6, 2, share_mod=True, qk_rms_norm=True)
    sparse = ModulatedSparseTransformerCrossBlock(8, 6, 2, share_mod=True, qk_rms_norm=True)
    sparse.load_state_dict(dense.state_dict())
    shared = torch.randn(2, 48)
    expected = dense(tokens, shared, context)
    torch.testing.assert_close(sparse(x, shared, context).feats, expected.flatten(0, 1))
    assert torch.equal(dense(tokens, shared, dense.project_context(context)), expected)


def test_patterns_alternate_from_block_to_block() -> None:
    assert [pattern.shift for pattern in attention_patterns("swin", 8, 3)] == [0, 4, 0]
    curves = attention_patterns("shift_order", 8, 5)
    assert [pattern.mode for pattern in curves] == [*SerializeMode, SerializeMode.Z_ORDER]
    assert [pattern.shift_window for pattern in attention_patterns("shift_window", 8, 2)] == [
        (0, 0, 0),
        (16, 16, 16),
    ]


def test_segments_are_kept_for_the_same_voxels_and_pattern(x: SparseTensor) -> None:
    windows = segments_of(x, WindowPattern(2))
    assert segments_of(x * 2, WindowPattern(2)) is windows
    assert segments_of(x, WindowPattern(2, 1)) is not windows
    assert segments_of(x, FullPattern()).lengths == (9, 9)
