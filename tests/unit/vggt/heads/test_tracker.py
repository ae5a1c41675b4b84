"""Tracker: what it keeps, what it samples, and errors."""

from __future__ import annotations

import pytest
import torch

from vggt.heads.tracker import Tracker, sample_maps


def tiny() -> Tracker:
    torch.manual_seed(0)
    return Tracker(latent_dim=8, stride=2, corr_levels=2, corr_radius=1, hidden_size=16).eval()


def test_points_stay_at_the_query_in_frame_0() -> None:
    query = torch.tensor([[[3.0, 5.0], [10.0, 2.0]]])
    tracks, visibility, confidence = tiny()(query, torch.randn(1, 3, 8, 8, 10), iters=2)
    assert all(torch.equal(track[:, 0], query) for track in tracks)
    assert not torch.equal(tracks[-1][:, 1], query)
    assert visibility.shape == confidence.shape == (1, 3, 2)


def test_sampling_interpolates_between_pixels_and_repeats_the_border() -> None:
    maps = torch.arange(6.0).view(1, 1, 2, 3)
    coords = torch.tensor([[[0.5, 0.0], [2.0, 1.0], [9.0, 0.0]]])
    torch.testing.assert_close(sample_maps(maps, coords).flatten(), torch.tensor([0.5, 5.0, 2.0]))


def test_correlation_equals_the_product_with_the_window() -> None:
    tracker = tiny()
    maps = torch.randn(1, 1, 8, 6, 7)
    features = torch.randn(1, 1, 1, 8)
    correlation = tracker._correlate([maps], features, torch.tensor([[[[3.0, 2.0]]]]))
    products = torch.einsum("c,chw->hw", features[0, 0, 0], maps[0, 0]) / 8**0.5
    window = products[1:4, 2:5].T.flatten()  # the slower index moves x
    torch.testing.assert_close(correlation.flatten(), window)


def test_small_maps_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 2x2"):
        tiny()(torch.zeros(1, 1, 2), torch.randn(1, 2, 8, 1, 4))


def test_query_points_need_the_batch_of_the_maps() -> None:
    with pytest.raises(ValueError, match=r"must be \(2, N, 2\), got \(1, 4, 2\)"):
        tiny()(torch.zeros(1, 4, 2), torch.randn(2, 2, 8, 4, 4))
