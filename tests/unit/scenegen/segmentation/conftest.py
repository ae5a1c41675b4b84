"""A SAM 2 of toy size; tests that need it are skipped where the package transformers is missing."""

from pathlib import Path
from types import ModuleType

import pytest
import torch

SIDE = 64  # of the square that the toy network sees


@pytest.fixture(scope="session")
def library() -> ModuleType:
    """The package transformers."""
    return pytest.importorskip("transformers", reason="transformers is not installed (extra segment)")


@pytest.fixture(scope="session")
def toy_parts() -> dict[str, dict]:
    """The three parts of a configuration of SAM 2, smaller in every size."""
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "num_attention_heads": 1,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "window_size_per_stage": [4, 4, 4, 2],
        "window_positional_embedding_background_size": [4, 4],
        "global_attention_blocks": [3],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 32,
    }
    decoder = {"hidden_size": 32, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    prompts = {"hidden_size": 32, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
    return {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": decoder}


@pytest.fixture(scope="session")
def toy_model(library, toy_parts) -> torch.nn.Module:
    """The network with random weights, for tests that only read it."""
    torch.manual_seed(0)
    return library.Sam2Model(library.Sam2Config(**toy_parts)).eval()


@pytest.fixture
def toy_checkpoint(toy_model, tmp_path) -> Path:
    """Its checkpoint, which a test may damage."""
    toy_model.save_pretrained(tmp_path / "sam2")
    return tmp_path / "sam2"
