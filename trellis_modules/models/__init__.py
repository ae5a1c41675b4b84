"""Object-level networks and the registry of their checkpoint names."""

from trellis_modules.models.registry import MODELS, ModelBuilder, build_model, from_arguments, from_config
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
from trellis_modules.models.torso import TorsoModule, full_precision

__all__ = [
    "MODELS",
    "ModelBuilder",
    "Posterior",
    "PreparedContext",
    "SparseStructureDecoder",
    "SparseStructureEncoder",
    "SparseStructureFlowConfig",
    "SparseStructureFlowModel",
    "TorsoModule",
    "build_model",
    "from_arguments",
    "from_config",
    "full_precision",
]
