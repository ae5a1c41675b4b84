"""The convolutional patch embedding whose weights may come from ImageNet."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vggt.layers.efficientnet import EfficientNetEmbed, EfficientNetLite0, _SameConv2d
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


def test_added_features_start_at_nothing_and_are_learned():
    torch.manual_seed(0)
    plain = build_patch_embed("residual", 16, 12).eval()
    both = build_patch_embed("residual+efficientnet_lite0", 16, 12).eval()
    missing, unexpected = both.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("trunk") for name in missing)
    images = torch.rand(2, 3, 64, 96)
    assert torch.equal(both(images), plain(images))
    both(images).square().sum().backward()
    with torch.no_grad():
        both.trunk_proj.weight -= both.trunk_proj.weight.grad.sign()
    assert not torch.allclose(both(images), plain(images), atol=1e-3)


def test_a_picture_has_the_same_tokens_beside_others_while_training():
    torch.manual_seed(0)
    embed = build_patch_embed("efficientnet_lite0", 16, 12).train()
    images = torch.rand(3, 3, 64, 64)
    alone, among = embed(images[:1]), embed(images)
    assert embed.training and not any(m.training for m in embed.modules() if isinstance(m, nn.BatchNorm2d))
    torch.testing.assert_close(alone[0], among[0], atol=1e-5, rtol=1e-4)


def test_an_odd_border_is_wider_at_the_end():
    torch.manual_seed(0)
    for kernel, before, after in ((3, 0, 1), (5, 1, 2)):
        convolution = _SameConv2d(2, 2, kernel, stride=2, groups=2)
        x = torch.rand(1, 2, 8, 8)
        padded = F.pad(x, (before, after, before, after))
        assert torch.equal(convolution(x), F.conv2d(padded, convolution.weight, stride=2, groups=2))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected patch_size 8 or 16, got 14"):
        EfficientNetEmbed(14, 8)
    with pytest.raises(ValueError, match="multiples of 32, got 48x64"):
        EfficientNetEmbed(16, 8)(torch.zeros(1, 3, 48, 64))
