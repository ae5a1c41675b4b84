"""Lists of different lengths: how often each owner comes."""

import pytest
import torch

from trellis_modules.ragged import count, count_sorted


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("owners", [[], [0], [3, 1, 3, 3, 0], [5, 5]])
def test_owners_are_counted(device, owners):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    owners_there = torch.tensor(owners, dtype=torch.long, device=device)
    for result in (count(owners_there, 6), count_sorted(owners_there, 6)):
        assert result.tolist() == [owners.count(number) for number in range(6)]
