"""Object-level networks and the registry of their checkpoint names."""

from trellis_modules.models.registry import MODELS, ModelBuilder, build_model, from_arguments, from_config
from trellis_modules.models.sparse_blocks import SparseResBlock3d, SparseSubdivideBlock3d
from trellis_modules.models.sparse_structure_flow import (
    PreparedContext,
    SparseStructureFlowConfig,
    SparseStructureFlowModel,
)
from trellis_modules.models.sparse_structure_vae import (
    Posterior,
    SparseStructureDecoder,
    SparseStructureEncoder,
)
from trellis_modules.models.structured_latent_decoders import (
    SLatGaussianDecoder,
    SLatGaussianDecoderConfig,
    SLatMeshDecoder,
    SLatMeshDecoderConfig,
    SLatRadianceFieldDecoder,
    SLatRadianceFieldDecoderConfig,
)
from trellis_modules.models.structured_latent_encoder import SLatEncoder, SLatEncoderConfig, SparsePosterior
from trellis_modules.models.structured_latent_flow import SLatFlowConfig, SLatFlowModel
from trellis_modules.models.structured_latent_trunk import StructuredLatentConfig, StructuredLatentTrunk
from trellis_modules.models.torso import TorsoModule, full_precision

__all__ = [
    "MODELS",
    "ModelBuilder",
    "Posterior",
    "PreparedContext",
    "SLatEncoder",
    "SLatEncoderConfig",
    "SLatFlowConfig",
    "SLatFlowModel",
    "SLatGaussianDecoder",
    "SLatGaussianDecoderConfig",
    "SLatMeshDecoder",
    "SLatMeshDecoderConfig",
    "SLatRadianceFieldDecoder",
    "SLatRadianceFieldDecoderConfig",
    "SparsePosterior",
    "SparseResBlock3d",
    "SparseStructureDecoder",
    "SparseStructureEncoder",
    "SparseStructureFlowConfig",
    "SparseStructureFlowModel",
    "SparseSubdivideBlock3d",
    "StructuredLatentConfig",
    "StructuredLatentTrunk",
    "TorsoModule",
    "build_model",
    "from_arguments",
    "from_config",
    "full_precision",
]
