"""Rotary positions: what attention scores may and may not depend on."""

from __future__ import annotations

import pytest
import torch

from vggt.layers.rope import apply_rotary, grid_positions, rotary_table


def test_grid_is_row_major_y_first() -> None:
    assert grid_positions(2, 3).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_scores_depend_on_relative_positions_only() -> None:
    q, k = torch.randn(2, 1, 1, 6, 16, generator=torch.Generator().manual_seed(0)).unbind(0)
    positions = grid_positions(2, 3)

    def scores(shift: torch.Tensor) -> torch.Tensor:
        table = rotary_table(positions + shift, 16)
        return apply_rotary(q, table) @ apply_rotary(k, table).mT

    torch.testing.assert_close(scores(torch.tensor([5, 9])), scores(torch.tensor([0, 0])), atol=1e-4, rtol=0)
    stretched = rotary_table(positions * 2, 16)
    assert not torch.allclose(
        apply_rotary(q, stretched) @ apply_rotary(k, stretched).mT, scores(torch.zeros(2))
    )


def test_position_zero_leaves_tokens_unchanged() -> None:
    tokens = torch.randn(1, 2, 4, 8)
    assert torch.equal(apply_rotary(tokens, rotary_table(torch.zeros(4, 2, dtype=torch.int64), 8)), tokens)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        rotary_table(grid_positions(2, 2), 6)
    with pytest.raises(ValueError, match=r"got \(4, 3\)"):
        rotary_table(torch.zeros(4, 3), 8)
