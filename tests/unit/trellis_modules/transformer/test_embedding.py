"""Position and time embeddings."""

from __future__ import annotations

import math

import torch

from trellis_modules.transformer import absolute_position_embedding, timestep_embedding


def test_position_embedding_layout() -> None:
    coords = torch.tensor([[0, 0, 0], [1, 2, 3]])
    embedding = absolute_position_embedding(coords, 20)  # 3 frequencies an axis, 2 zeros at the end
    expected = []
    for value in (1, 2, 3):
        angles = [value / 10000 ** (i / 3) for i in range(3)]
        expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    torch.testing.assert_close(embedding[1], torch.tensor([*expected, 0.0, 0.0]))
    torch.testing.assert_close(embedding[0], torch.tensor(([0.0] * 3 + [1.0] * 3) * 3 + [0.0] * 2))


def test_time_embedding_separates_all_scaled_times() -> None:
    embedding = timestep_embedding(torch.arange(0, 1001, 10).float(), 256)
    distances = torch.cdist(embedding, embedding) + torch.eye(len(embedding)) * 1e3
    assert distances.min() > 0.5
