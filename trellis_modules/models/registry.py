"""Class names of checkpoint configurations and the constructors they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from safe_files.networks import check_sizes
from safe_files.regular import UnreadableFile
from trellis_modules.config import ConfigError, NamedConfig, build, lookup
from trellis_modules.models.sparse_structure_flow import SparseStructureFlowConfig, SparseStructureFlowModel
from trellis_modules.models.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
from trellis_modules.models.structured_latent_decoders import (
    SLatGaussianDecoder,
    SLatGaussianDecoderConfig,
    SLatMeshDecoder,
    SLatMeshDecoderConfig,
    SLatRadianceFieldDecoder,
    SLatRadianceFieldDecoderConfig,
)
from trellis_modules.models.structured_latent_encoder import SLatEncoder, SLatEncoderConfig
from trellis_modules.models.structured_latent_flow import SLatFlowConfig, SLatFlowModel

#: Builds a model from checked JSON arguments; the second argument names the source in errors.
ModelBuilder = Callable[[Mapping[str, Any], str], nn.Module]


def from_arguments(model: type[nn.Module]) -> ModelBuilder:
    """A builder for a class whose annotated constructor arguments are the JSON keys."""
    return lambda args, where: build(model, args, where)


def from_config(model: Callable[[Any], nn.Module], config: type) -> ModelBuilder:
    """A builder for a class whose constructor takes a configuration dataclass."""
    return lambda args, where: model(build(config, args, where))


_STRUCTURED_LATENT_MODELS: Mapping[str, ModelBuilder] = {
    "SLatEncoder": from_config(SLatEncoder, SLatEncoderConfig),
    "SLatFlowModel": from_config(SLatFlowModel, SLatFlowConfig),
    "SLatGaussianDecoder": from_config(SLatGaussianDecoder, SLatGaussianDecoderConfig),
    "SLatMeshDecoder": from_config(SLatMeshDecoder, SLatMeshDecoderConfig),
    "SLatRadianceFieldDecoder": from_config(SLatRadianceFieldDecoder, SLatRadianceFieldDecoderConfig),
}

#: Object-level models.  Packages above add theirs: ``{**MODELS, "Name": from_arguments(Class)}``.
MODELS: Mapping[str, ModelBuilder] = {
    "SparseStructureEncoder": from_arguments(SparseStructureEncoder),
    "SparseStructureDecoder": from_arguments(SparseStructureDecoder),
    "SparseStructureFlowModel": from_config(SparseStructureFlowModel, SparseStructureFlowConfig),
    **_STRUCTURED_LATENT_MODELS,
    # Released names of the same models with memory management in training, which changes no result.
    **{f"Elastic{name}": builder for name, builder in _STRUCTURED_LATENT_MODELS.items()},
}


def build_model(
    raw: Mapping[str, Any] | NamedConfig,
    where: str = "model",
    models: Mapping[str, ModelBuilder] = MODELS,
) -> nn.Module:
    """Build a model from ``{"name": ..., "args": {...}}``.

    The configuration is kept as ``model.named_config``, so that a checkpoint can describe its model.

    Args:
        raw: the configuration.
        where: named in errors, for example the file.
        models: the registry of names.

    Raises:
        ConfigError: the name or an argument is unknown, missing, of the wrong type or beyond its limit, or
            arguments contradict each other.
    """
    named = NamedConfig.parse(raw, where)
    builder = lookup(models, named.name, where)
    try:
        check_sizes(named.args)
        model = builder(named.args, where)
    except UnreadableFile as error:
        raise ConfigError(f"{where}: {error}") from error
    model.named_config = named
    return model
