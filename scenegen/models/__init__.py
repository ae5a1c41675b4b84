"""Scene models and the registry of all checkpoint names."""
from scenegen.models.position_head import IDENTITY_POSES, PositionHead
from scenegen.models.registry import MODELS
from scenegen.models.scene_block import SceneContext, SceneTransformerBlock
from scenegen.models.scene_flow import SceneFlowConfig, SceneFlowModel

__all__ = ["IDENTITY_POSES", "MODELS", "PositionHead", "SceneContext", "SceneFlowConfig", "SceneFlowModel",
           "SceneTransformerBlock"]
