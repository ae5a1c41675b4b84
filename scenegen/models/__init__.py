"""Scene models: scene block, position head and scene flow."""

from scenegen.models.position_head import IDENTITY_POSES, PositionHead
from scenegen.models.scene_block import SceneContext, SceneTransformerBlock
from scenegen.models.scene_flow import SceneFlowModel, SceneFlowModelConfig

__all__ = [
    "IDENTITY_POSES",
    "PositionHead",
    "SceneContext",
    "SceneFlowModelConfig",
    "SceneFlowModel",
    "SceneTransformerBlock",
]
