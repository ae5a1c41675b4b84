"""Aggregator: symmetries between frames and sequences, precision, training and errors."""

from __future__ import annotations

import pytest
import torch

from vggt.models.aggregator import Aggregator


def tiny(**overrides: object) -> Aggregator:
    torch.manual_seed(0)
    sizes = {
        "img_size": 28,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "patch_embed": "conv",
        "init_values": 1.0,
    }
    model = Aggregator(**(sizes | overrides)).eval()
    torch.nn.init.normal_(model.camera_token)
    torch.nn.init.normal_(model.register_token)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 3, 28, 42, generator=torch.Generator().manual_seed(0))


def test_later_frames_are_interchangeable(images: torch.Tensor) -> None:
    model = tiny()
    order = [0, 2, 1]
    expected = model(images)[0][-1][:, order]
    torch.testing.assert_close(model(images[:, order])[0][-1], expected, atol=1e-5, rtol=1e-4)


def test_patches_may_come_from_a_residual_network() -> None:
    model = tiny(img_size=32, patch_size=16, patch_embed="residual")
    tokens, first_patch = model(torch.rand(1, 2, 3, 32, 48))
    assert tokens[-1].shape == (1, 2, first_patch + 6, 32)
    assert model.patch_embed.proj.weight.shape == (16, 192, 1, 1)


def test_first_frame_is_special(images: torch.Tensor) -> None:
    model = tiny()
    order = [1, 0, 2]
    swapped = model(images[:, order])[0][-1]
    assert not torch.allclose(swapped, model(images)[0][-1][:, order], atol=1e-3)


def test_sequences_do_not_mix_but_frames_do(images: torch.Tensor) -> None:
    model = tiny()
    changed = images.clone()
    changed[1, 2] = 0
    before, after = model(images)[0][-1], model(changed)[0][-1]
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1, 0], before[1, 0], atol=1e-3)


def test_frame_half_of_the_first_round_sees_one_frame(images: torch.Tensor) -> None:
    model = tiny()
    together, alone = model(images)[0][0], model(images[:, :1])[0][0]
    torch.testing.assert_close(together[:, :1, :, :16], alone[..., :16])
    assert not torch.allclose(together[:, :1, :, 16:], alone[..., 16:], atol=1e-3)


def test_last_only_keeps_one_round(images: torch.Tensor) -> None:
    model = tiny()
    outputs, patch_start_idx = model(images)
    last, _ = model(images, last_only=True)
    assert (len(outputs), len(last), patch_start_idx) == (2, 1, 5)
    assert torch.equal(last[0], outputs[-1])


def test_every_parameter_trains_under_autocast(images: torch.Tensor) -> None:
    model = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        (tokens,), _ = model(images, last_only=True)
    tokens.float().square().mean().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_bfloat16_follows_float32(images: torch.Tensor) -> None:
    model = tiny()
    expected = model(images)[0][-1]
    out = model.bfloat16()(images)[0][-1]
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.2, rtol=0.1)  # 8 bits of mantissa, random tokens


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 1, 4, 28, 28)])
def test_images_need_sequence_and_channel_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(B, S, 3, H, W\)"):
        tiny()(torch.zeros(shape))


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"aa_block_size": 3}, "multiple of aa_block_size, got 2 and 3"),
        ({"aa_order": ["frame", "frame"]}, "once each"),
        ({"patch_embed": "resnet"}, "unknown name 'resnet'"),
        ({"patch_embed": "dinov2_vits14_reg"}, "384 channels, but embed_dim is 16"),
        ({"num_heads": 3}, "multiple of num_heads"),
    ],
)
def test_bad_arguments_are_named(overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**overrides)
