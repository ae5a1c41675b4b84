"""The basis is orthonormal; colours survive the round trip."""

import pytest
import torch

from trellis_modules.renderers.low_discrepancy import sphere_hammersley
from trellis_modules.renderers.spherical_harmonics import (
    evaluate_spherical_harmonics,
    rgb_to_sh,
    sh_to_rgb,
    spherical_harmonics_basis,
)


def test_basis_is_orthonormal():
    yaw, pitch = torch.tensor([sphere_hammersley(i, 4096, (0.5, 0.0)) for i in range(4096)]).unbind(1)
    directions = torch.stack([yaw.cos() * pitch.cos(), yaw.sin() * pitch.cos(), pitch.sin()], dim=1)
    basis = spherical_harmonics_basis(3, directions)
    gram = 4 * torch.pi * basis.mT @ basis / len(basis)
    torch.testing.assert_close(gram, torch.eye(16), rtol=0, atol=0.01)  # quadrature error of 4096 points


def test_colour_round_trip():
    rgb = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sh_to_rgb(rgb_to_sh(rgb)), rgb)
    direction = torch.tensor([0.0, 0.6, 0.8]).expand(5, 3)
    value = evaluate_spherical_harmonics(0, rgb_to_sh(rgb)[..., None], direction)
    torch.testing.assert_close(value + 0.5, rgb)


def test_bad_degree_and_too_few_coefficients():
    with pytest.raises(ValueError, match="got 4"):
        spherical_harmonics_basis(4, torch.ones(1, 3))
    with pytest.raises(ValueError, match="degree 2 needs 9"):
        evaluate_spherical_harmonics(2, torch.ones(1, 3, 4), torch.ones(1, 3))
