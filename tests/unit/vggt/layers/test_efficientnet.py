"""The convolutional patch embedding whose weights may come from ImageNet."""

import pytest
import torch
from torch.nn import functional as F

from vggt.images import normalize_images
from vggt.layers.efficientnet import EfficientNetEmbed, EfficientNetLite0, trunk_weights
from vggt.layers.patch_embeddings import build_patch_embed

# Blocks of the published network: number of layers named, with and without an expansion.
_PARTS = {True: ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")}
_PARTS[False] = _PARTS[True][2:]


@pytest.fixture(scope="module")
def trunk() -> EfficientNetLite0:
    torch.manual_seed(0)
    return EfficientNetLite0().eval()


def published(trunk: EfficientNetLite0) -> dict[str, torch.Tensor]:
    """The trunk's weights under the names of the published classifier."""
    state = {"_conv_stem.weight": trunk.stem[0].weight.detach().clone()}
    state |= {f"_bn0.{name}": value.clone() for name, value in trunk.stem[1].state_dict().items()}
    blocks = [block for stage in trunk.stages for block in stage]
    for number, block in enumerate(blocks):
        layers = [layer for layer in block.layers if layer.state_dict()]
        for name, layer in zip(_PARTS[len(layers) == 6], layers, strict=True):
            state |= {f"_blocks.{number}.{name}.{key}": value for key, value in layer.state_dict().items()}
    return state


def test_maps_have_the_strides_and_widths_of_the_paper(trunk):
    shapes = {stride: tuple(level.shape[1:]) for stride, level in trunk(torch.zeros(1, 3, 64, 96)).items()}
    assert shapes == {4: (24, 16, 24), 8: (40, 8, 12), 16: (112, 4, 6), 32: (320, 2, 3)}
    assert sum(p.numel() for p in trunk.parameters()) == 2_958_848


def test_published_weights_see_the_same_in_differently_normalised_pixels(trunk):
    converted = EfficientNetLite0().eval()
    converted.load_state_dict(trunk_weights(published(trunk)))
    grey = torch.rand(1, 3, 1, 1).expand(1, 3, 96, 96)  # the border, of zeros, is another colour in each
    images = grey + F.pad(0.2 * torch.rand(1, 3, 32, 32), (32, 32, 32, 32))
    with torch.no_grad():
        ours = converted.stem(normalize_images(images))
        theirs = trunk.stem((images * 255 - 127) / 128)
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(ours[inside], theirs[inside], atol=1e-5, rtol=1e-4)


def test_weights_of_another_network_are_refused(trunk):
    state = published(trunk)
    state = {name: value for name, value in state.items() if not name.startswith("_blocks.15.")}
    with pytest.raises(KeyError, match=r"_blocks\.15\."):
        trunk_weights(state)


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
