"""Golden family of data preparation: annotated placements to training poses."""

from __future__ import annotations

import torch
from torch import Tensor

from scenegen.datasets.metadata import SceneRow
from scenegen.datasets.poses import asset_order, training_poses
from scenegen.geometry import ROTATION
from tests.parity.golden import GoldenCase, family


@family("training poses from scene metadata")
def training_positions(case: GoldenCase) -> dict[str, Tensor]:
    """Poses relative to the query. The case reverses the order of the others, which is random otherwise."""
    translation, rotation, scale = (
        case.tensors[key] for key in ("translation", "rotation_euler_deg", "scale")
    )
    rows = [
        SceneRow("0000001", translation=tuple(t), rotation=tuple(r), scale=s, instance_id=number)
        for number, (t, r, s) in enumerate(zip(translation.tolist(), rotation.tolist(), scale.tolist()))
    ]
    query, limit = case.config["query_asset"], case.config["max_gpu_batch_size"]
    drawn = asset_order(len(rows), query, limit, torch.Generator().manual_seed(0))
    order = [query, *(index for index in reversed(range(len(rows))) if index != query)][: len(drawn)]
    poses, expected = training_poses(rows, order), case.tensors["positions"][:, ROTATION]
    same_side = torch.where((poses[:, ROTATION] * expected).sum(dim=-1, keepdim=True) < 0, -1.0, 1.0)
    poses[:, ROTATION] *= same_side  # a quaternion and its opposite are one rotation
    for name in ("translation", "rotation_euler_deg", "scale"):
        case.skip(name, "an input")
    return {"positions": poses, "asset_order": torch.tensor(order)}
