"""Flow transformer over the assets of scenes: velocities of their latents and their poses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scenegen.models.position_head import PositionHead
from scenegen.models.scene_block import AssetCond, SceneTransformerBlock
from trellis_modules.flow_output import FlowOutput
from trellis_modules.models import PreparedContext, SparseStructureFlowConfig, SparseStructureFlowModel
from trellis_modules.samplers.flow_matching import PreparedTime


@dataclass(frozen=True, kw_only=True)
class SceneFlowModelConfig(SparseStructureFlowConfig):
    """Sizes of a ``SceneFlowModel``; field names are the keys of the released configurations."""

    num_register_tokens: int = 4
    trunk_depth: int = 4  # blocks of the position head
    num_iteration: int = 4  # passes of the position head
    pose_encoding_type: str = "absT_quatR_S"
    use_batch_encoder: bool = False  # allocate the unused weights of checkpoints that hold them

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_channels % 2:
            raise ValueError(f"model_channels must be even for the position head, got {self.model_channels}")


class BatchEncoder(nn.Module):
    """Embeddings of the asset index that some checkpoints hold and no forward pass uses."""

    def __init__(self, channels: int, max_assets: int = 16) -> None:
        super().__init__()
        self.batch_embeddings = nn.Parameter(torch.zeros(max_assets, 1, channels))


class SceneFlowModel(SparseStructureFlowModel):
    """``SparseStructureFlowModel`` of the released configurations with ``use_global``.

    Source: SceneGen, arXiv:2508.15769, sec. 3.2.
    """

    config: SceneFlowModelConfig
    _branches = (2, 1)

    def _build(self) -> None:
        super()._build()
        config, width = self.config, self.config.model_channels
        # Row 0 is for query assets, row 1 for targets.
        self.position_token = nn.Parameter(torch.empty(2, 1, width))
        self.register_token = nn.Parameter(torch.empty(2, config.num_register_tokens, width))
        self.adaLN_modulation_global = self._shared_modulation(num_branches=1)
        self.position_head = PositionHead(
            width,
            config.trunk_depth,
            config.heads,
            config.mlp_ratio,
            config.pose_encoding_type,
            config.num_iteration,
        )
        if config.use_batch_encoder:
            self.batch_encoder = BatchEncoder(width)

    def _make_block(self) -> SceneTransformerBlock:
        config = self.config
        return SceneTransformerBlock(
            config.model_channels,
            config.cond_channels,
            config.heads,
            config.mlp_ratio,
            num_scene_tokens=1 + config.num_register_tokens,
            share_mod=config.share_mod,
            qk_rms_norm=config.qk_rms_norm,
            qk_rms_norm_cross=config.qk_rms_norm_cross,
        )

    def initialize_weights(self) -> None:
        """Initial weights for training from scratch; velocities start at zero, poses near the identity."""
        super().initialize_weights()
        nn.init.normal_(self.position_token, std=0.02)
        nn.init.normal_(self.register_token, std=0.02)
        self.position_head.initialize_weights()

    def convert_torso(self, dtype: torch.dtype) -> None:
        """Run the blocks and the trunk of the position head in a dtype from now on."""
        super().convert_torso(dtype)
        self.position_head.convert_torso(dtype)

    def forward(
        self,
        x: Tensor,
        t: Tensor | PreparedTime,
        cond: Tensor | PreparedContext,
        *,
        num_object_tokens: int | None = None,
        scene_size: int | None = None,
        group_size: int | None = None,
        is_query: Tensor | None = None,
        features_before: int | None = None,
        cond_repeats: int = 1,
        regress_poses: bool = True,
    ) -> FlowOutput:
        """Predict velocities and poses of S scenes of ``scene_size`` assets, B = S * scene_size.

        Args:
            x: (B, in_channels, R, R, R) noisy latents; assets of a scene are neighbours on the batch axis.
            t: (B,) time times 1000, or a result of ``precompute_times``.
            cond: (B / cond_repeats, L, cond_channels) condition, or the result of ``precompute_context``.
            num_object_tokens: leading tokens of ``cond`` that show the asset itself; not needed with a
                prepared context.
            scene_size: assets per scene; None: all B assets are one scene; 1: no asset sees another.
            group_size: assets of a scene that see each other whole, see `asset_groups`; None: all.
            is_query: (B,) bool, assets whose frame is that of the poses; default: the first of each scene.
            features_before: block whose input tokens (B, 1 + registers + N, C), the position token first, are
                returned as features; ``num_blocks`` means the output of the last one.
            cond_repeats: batches of states, one after the other in x, that share ``cond``.
            regress_poses: give the poses; otherwise what ``poses`` makes them of.

        Returns:
            The velocity (B, out_channels, R, R, R); extras: "positions", (B, 8) float32 poses as
            ``PositionHead`` gives them, with the identity for query assets in eval mode. Without
            ``regress_poses``: "position_tokens", (B, 1, C).

        Raises:
            ValueError: a shape or the grouping does not fit.
        """
        scene_size = self._check_scene_size(len(x), scene_size)
        is_query = self._query_rows(len(x), scene_size, x.device) if is_query is None else is_query
        _, conditions = self._time(t)
        if not isinstance(cond, PreparedContext):
            cond = self._context(cond, num_object_tokens)._replace(repeats=cond_repeats)
        elif cond_repeats != 1:
            cond = PreparedContext(tuple(block._replace(repeats=cond_repeats) for block in cond.blocks))
        h = torch.cat([self._scene_tokens(is_query), self._embed(x)], dim=1)  # (B, 1 + registers + N, C)
        grouping = scene_size, group_size
        h, features = self._run_blocks(h, cond, conditions, *grouping, features_before=features_before)
        h = h.to(x.dtype)
        velocity = self._velocity(h[:, 1 + self.config.num_register_tokens :])
        if not regress_poses:
            return FlowOutput(velocity, {"position_tokens": h[:, :1]}, features)
        return FlowOutput(velocity, {"positions": self.position_head(h[:, :1], is_query)}, features)

    def poses(
        self, tokens: Tensor, *, scene_size: int | None = None, is_query: Tensor | None = None
    ) -> Tensor:
        """Poses (B, 8) of the "position_tokens" (B, 1, C) of a pass; the other arguments are those of it.

        A sampler reads the poses of its last step only, and so needs the pose head once.
        """
        if is_query is None:
            scene_size = self._check_scene_size(len(tokens), scene_size)
            is_query = self._query_rows(len(tokens), scene_size, tokens.device)
        return self.position_head(tokens, is_query)

    def _conditions(self, t_emb: Tensor) -> tuple[Tensor, ...]:
        """What every block is told of (S, C) embedded times, for its own attention and for the scene's."""
        return *super()._conditions(t_emb), self.adaLN_modulation_global(t_emb).to(self.torso_dtype)

    @staticmethod
    def _query_rows(num_assets: int, scene_size: int, device: torch.device) -> Tensor:
        """(B,) bool, the first asset of every scene."""
        return torch.arange(num_assets, device=device) % scene_size == 0

    def _check_scene_size(self, num_assets: int, scene_size: int | None) -> int:
        scene_size = num_assets if scene_size is None else scene_size
        if scene_size < 1 or num_assets % scene_size:
            raise ValueError(
                f"SceneFlowModel: {num_assets} assets cannot be split into scenes of {scene_size}"
            )
        return scene_size

    def _scene_tokens(self, is_query: Tensor) -> Tensor:
        """Position and register tokens of each asset by its role: (B,) bool -> (B, 1 + registers, C)."""
        tokens = torch.cat([self.position_token, self.register_token], dim=1)
        return torch.where(is_query[:, None, None], tokens[0], tokens[1])

    def _context(self, cond: Tensor, num_object_tokens: int | None) -> AssetCond:
        cond = super()._context(cond, num_object_tokens)
        if num_object_tokens is None or not 0 < num_object_tokens <= cond.shape[1]:
            raise ValueError(
                f"SceneFlowModel: num_object_tokens must be in [1, {cond.shape[1]}] (the length of "
                f"cond), got {num_object_tokens}"
            )
        return AssetCond(cond[:, :num_object_tokens], cond)
