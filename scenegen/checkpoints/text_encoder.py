"""Loading the text encoder that text-conditioned flows are trained with: the text part of a CLIP model."""

from __future__ import annotations

from pathlib import Path

from scenegen.conditioning.text_encoder import MAX_TOKENS, TextEncoder
from scenegen.hub.transformers_folders import check_transformers, find_folder, load_with_tokenizer
from trellis_modules.checkpoint import CheckpointError, refuse_pickle

PUBLISHED_TEXT_ENCODER = "openai/clip-vit-large-patch14"
TEXT_ENCODER_FILES = ("tokenizer_config.json", "tokenizer.json", "config.json", "model.safetensors")


def load_text_encoder(path_or_repo: Path | str = PUBLISHED_TEXT_ENCODER) -> TextEncoder:
    """A text encoder with every weight from its checkpoint, in float32 on the CPU.

    Args:
        path_or_repo: folder in the layout of the package transformers (`TEXT_ENCODER_FILES`), or
            ``owner/name`` of a repository, which is fetched.

    Raises:
        CheckpointError: the package or a file is missing, or the files are of something else.
        HubError: the repository cannot be had.
    """
    check_transformers("captions", "or train with images")
    refuse_pickle(Path(path_or_repo).expanduser())
    folder = find_folder(path_or_repo, TEXT_ENCODER_FILES, _missing)
    from transformers import CLIPTextModel

    network, tokenizer = load_with_tokenizer(CLIPTextModel, folder, _refused)
    return TextEncoder(network, tokenizer, min(MAX_TOKENS, network.config.max_position_embeddings))


def _missing(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: expected a file of a text encoder, found none; give the folder of a CLIP model as the "
        f"package transformers saves it, for example of {PUBLISHED_TEXT_ENCODER}"
    )


def _refused(folder: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{folder}: expected the text encoder of a CLIP model, {reason}; give another one")
