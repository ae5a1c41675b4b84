"""Latents with mean 0 and deviation 1, and the way back."""

import torch

from scenegen.datasets.normalization import Normalization, normalised_latents, restored_latents


def test_restored_latents_are_those_before_they_were_normalised():
    normalization = Normalization((1.0, -2.0), (2.0, 0.5))
    latents = torch.randn(3, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    changed = normalised_latents(latents, normalization, dim=1)
    torch.testing.assert_close(changed[:, 1], (latents[:, 1] + 2) / 0.5)
    torch.testing.assert_close(restored_latents(changed, normalization, dim=1), latents)
    assert restored_latents(latents, None, dim=1) is latents
