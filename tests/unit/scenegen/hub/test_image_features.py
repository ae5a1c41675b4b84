"""The published classifier's weights as those of our trunk."""

import pytest
import torch
from torch.nn import functional as F

from scenegen.hub.image_features import image_feature_trunk, image_features, trunk_weights
from vggt.images import normalize_images
from vggt.layers.efficientnet import EfficientNetLite0

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


def test_an_image_encoder_takes_them_by_their_names(trunk):
    weights = image_features(published(trunk))
    assert image_feature_trunk().state_dict().keys() == weights.keys()
    assert all(name.startswith("patch_embed.trunk.") for name in weights)
