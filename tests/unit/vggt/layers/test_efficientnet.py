"""The convolutional patch embedding whose weights may come from ImageNet."""

import pytest
import torch

from vggt.layers.efficientnet import EfficientNetEmbed, EfficientNetLite0
from vggt.layers.patch_embeddings import build_patch_embed


@pytest.fixture(scope="module")
def trunk() -> EfficientNetLite0:
    torch.manual_seed(0)
    return EfficientNetLite0().eval()


def test_maps_have_the_strides_and_widths_of_the_paper(trunk):
    shapes = {stride: tuple(level.shape[1:]) for stride, level in trunk(torch.zeros(1, 3, 64, 96)).items()}
    assert shapes == {4: (24, 16, 24), 8: (40, 8, 12), 16: (112, 4, 6), 32: (320, 2, 3)}
    assert sum(p.numel() for p in trunk.parameters()) == 2_958_848


@pytest.mark.parametrize("patch_size", [8, 16])
def test_tokens_lie_where_their_pixels_are(patch_size):
    torch.manual_seed(0)
    embed = build_patch_embed("efficientnet_lite0", patch_size, 12).eval()
    images = torch.zeros(1, 3, 64, 96)
    row, column = 2, 4
    y, x = ((2 * place + 1) * patch_size // 2 for place in (row, column))  # the middle of the patch
    images[:, :, y : y + 2, x : x + 2] = 1
    with torch.no_grad():
        difference = embed(images) - embed(torch.zeros_like(images))
    columns = 96 // patch_size
    assert difference.shape == (1, 64 // patch_size * columns, 12)
    strongest = int(difference.abs().sum(-1).argmax())
    assert divmod(strongest, columns) == (row, column)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected patch_size 8 or 16, got 14"):
        EfficientNetEmbed(14, 8)
    with pytest.raises(ValueError, match="multiples of 32, got 48x64"):
        EfficientNetEmbed(16, 8)(torch.zeros(1, 3, 48, 64))
