"""Patch encoder: token order, grids, precision and errors."""

from __future__ import annotations

import pytest
import torch

from vggt.layers.vision_transformer import VisionTransformer, released_vision_transformer


def tiny(**overrides: object) -> VisionTransformer:
    torch.manual_seed(0)
    sizes = {"img_size": 28, "patch_size": 14, "embed_dim": 16, "depth": 1, "num_heads": 2}
    return VisionTransformer(**(sizes | overrides)).eval()


def test_token_order_is_class_registers_patches() -> None:
    model = tiny(num_register_tokens=3)
    out = model(torch.rand(2, 3, 28, 42))
    normed = model.norm(out["x_prenorm"])
    assert out["x_prenorm"].shape == (2, 1 + 3 + 2 * 3, 16)
    assert torch.equal(out["x_norm_clstoken"], normed[:, 0])
    assert torch.equal(out["x_norm_regtokens"], normed[:, 1:4])
    assert torch.equal(out["x_norm_patchtokens"], normed[:, 4:])


def test_patches_are_row_major() -> None:
    model = tiny(depth=0)
    images = torch.zeros(1, 3, 28, 42)
    images[:, :, 14:, :14] = 1  # second row, first column
    difference = model(images)["x_prenorm"] - model(torch.zeros_like(images))["x_prenorm"]
    assert difference.abs().sum(dim=-1).nonzero()[:, 1].tolist() == [1 + 4 + 3]


@pytest.mark.parametrize("height, width", [(27, 28), (28, 20), (0, 28)])
def test_image_must_split_into_patches(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"patch size 14, got {height}x{width}"):
        tiny()(torch.zeros(1, 3, height, width))


def test_table_must_split_into_patches() -> None:
    with pytest.raises(ValueError, match="got 30 and 14"):
        tiny(img_size=30)


def test_unknown_release_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="dinov2_vitl14_reg"):
        released_vision_transformer("dinov2_vitx14")


def test_resampled_table_trains() -> None:
    model = tiny()
    model(torch.rand(1, 3, 42, 14))["x_prenorm"].sum().backward()
    assert model.pos_embed.grad.abs().sum() > 0


def test_bfloat16_follows_float32() -> None:
    model = tiny()
    images = torch.rand(1, 3, 42, 28)
    expected = model(images)["x_prenorm"]
    out = model.bfloat16()(images)["x_prenorm"]
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.05)  # 8 bits of mantissa


def residual(**overrides: object) -> VisionTransformer:
    return tiny(img_size=32, patch_size=16, patch_embed="residual", **overrides)


def test_residual_patches_of_a_fresh_network_lie_where_their_pixels_are() -> None:
    model = residual(depth=0)
    images = torch.zeros(1, 3, 64, 96)
    images[:, :, 32:36, 64:68] = 1  # inside of row 2, column 4
    difference = model(images)["x_prenorm"] - model(torch.zeros_like(images))["x_prenorm"]
    strongest = difference.abs().sum(dim=-1)[0, 5:].argmax()  # after the class and the register tokens
    assert difference.shape[1] == 5 + 4 * 6 and strongest == 2 * 6 + 4


def test_residual_patches_of_a_picture_do_not_depend_on_the_batch_outside_of_training() -> None:
    model = residual()
    model.train()(torch.rand(4, 3, 32, 32))
    model.eval()
    images = torch.rand(3, 3, 32, 32)
    alone = torch.cat([model(image[None])["x_prenorm"] for image in images])
    torch.testing.assert_close(model(images)["x_prenorm"], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"patch_size": 14, "img_size": 28}, "expected patch_size 8 or 16, got 14"),
        ({"patch_embed": "resnet"}, "expected patch_embed to be one of .*'residual'.*, got 'resnet'"),
    ],
)
def test_patch_embeddings_that_do_not_exist_are_refused(changes: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        tiny(**{"img_size": 32, "patch_size": 16, "patch_embed": "residual"} | changes)


def test_residual_patches_may_have_8_pixels() -> None:
    images = torch.rand(2, 3, 32, 48)
    assert residual().eval()(images)["x_norm_patchtokens"].shape[1] == 2 * 3
    fine = tiny(img_size=32, patch_size=8, patch_embed="residual").eval()
    assert fine(images)["x_norm_patchtokens"].shape[1] == 4 * 6
