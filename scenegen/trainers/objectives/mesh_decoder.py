"""Objective of the mesh decoder of structured latents: pictures and distances of the true mesh.

Source: TRELLIS, arXiv:2412.01506, sec. 3.2 and its appendix; extraction as in FlexiCubes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scenegen.datasets.batch import SparseViewBatch
from scenegen.synthesis.pictures.light_model import facing_eye
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.losses import masked_mean
from scenegen.trainers.objectives.picture_loss import PictureLoss, PictureLossSettings
from trellis_modules.renderers import Rendering, render_mesh
from trellis_modules.renderers.cameras import camera_rays, to_camera
from trellis_modules.representations.mesh.mesh_result import MeshExtractResult
from trellis_modules.sparse import SparseTensor

_NEAR, _FAR = 1.0, 3.0  # depths between which meshes are drawn
_TRUNCATION = 3  # cubes to both sides of the surface whose distances count
_DEPTH_LOSSES = ("l1", "smooth_l1")


@dataclass(frozen=True, kw_only=True)
class MeshDecoderSettings:
    """Weights of the terms; masks, normals and the regularisation count once.

    Attributes:
        depth_loss_type: "l1" or "smooth_l1", which is quadratic within half a cube.
        lambda_ssim, lambda_lpips: of pictures of normals and colours, see `PictureLossSettings`.
        lambda_tsdf: of the distances of grid vertices from the surface.
        lambda_color: of the pictures of colours and of the normals that the mesh carries as a map.
    """

    depth_loss_type: str = "l1"
    lambda_depth: float = 1.0
    lambda_ssim: float = 0.2
    lambda_lpips: float = 0.2
    lambda_tsdf: float = 0.01
    lambda_color: float = 0.1

    def __post_init__(self) -> None:
        if self.depth_loss_type not in _DEPTH_LOSSES:
            raise ValueError(
                f"depth_loss_type: expected one of {_DEPTH_LOSSES}, got {self.depth_loss_type!r}"
            )


class MeshDecoderObjective(Objective):
    """Trains ``decoder``: latents to meshes.

    An object whose decoded surface is empty counts with the distances of its grid vertices alone, which make
    a surface appear.
    """

    batch_type = SparseViewBatch

    def __init__(self, decoder: nn.Module, config: MeshDecoderSettings) -> None:
        super().__init__()
        self.decoder, self.config = decoder, config
        self._picture_loss = PictureLoss(
            PictureLossSettings(lambda_ssim=config.lambda_ssim, lambda_lpips=config.lambda_lpips)
        )

    def forward(self, batch: SparseViewBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over the objects; ``empty`` is the share of those without a surface."""
        meshes = self.decoder(SparseTensor(batch.feats, batch.coords))
        losses, parts = [], {}
        for row, mesh in enumerate(meshes):
            loss, logs = self._object_loss(mesh, batch, row)
            losses.append(loss)
            for name, value in logs.items():
                parts.setdefault(name, []).append(value)
        empty = sum(not mesh.success for mesh in meshes) / len(meshes)
        logs = {name: torch.stack(values).mean() for name, values in parts.items()}
        return torch.stack(losses).mean(), {**logs, "empty": losses[0].new_tensor(empty).detach()}

    def _object_loss(
        self, mesh: MeshExtractResult, batch: SparseViewBatch, row: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        camera = batch.extrinsics[row, None], batch.intrinsics[row]
        size = tuple(batch.image.shape[-2:])
        with torch.no_grad():
            true = render_mesh(batch.vertices[row], batch.faces[row], *camera, size, near=_NEAR, far=_FAR)
        tsdf = distance_error(mesh, true.depth[0], *camera)
        loss = mesh.training.regularization + self.config.lambda_tsdf * tsdf
        logs = {"regularization": mesh.training.regularization.detach(), "tsdf": tsdf.detach()}
        if not mesh.success:
            return loss, logs
        drawn = render_mesh(
            mesh.vertices,
            mesh.faces,
            *camera,
            size,
            vertex_attributes=mesh.vertex_attrs,
            near=_NEAR,
            far=_FAR,
            silhouettes=True,
        )
        seen, seen_logs = self._seen_loss(drawn, true, batch, row, mesh.resolution)
        return loss + seen, logs | seen_logs

    def _seen_loss(
        self, drawn: Rendering, true: Rendering, batch: SparseViewBatch, row: int, resolution: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the pictures of an object show: its outline, depth, normals and colours."""
        config = self.config
        mask = F.l1_loss(drawn.alpha, true.alpha)
        depth = self._depth_error(drawn, true, resolution)
        target = normal_picture(
            facing_normals(true, batch.extrinsics[row], batch.intrinsics[row]), true.alpha
        )
        normal, logs = self._picture_loss(normal_picture(drawn.normal, drawn.alpha), target, "normal_")
        loss = mask + config.lambda_depth * depth + normal
        logs |= {"mask": mask.detach(), "depth": depth.detach()}
        if drawn.attributes is not None:
            colour, normal_map = drawn.attributes.permute(0, 3, 1, 2).split(3, dim=1)
            colour_loss, colour_logs = self._picture_loss(colour, batch.image[row, None], "color_")
            map_loss, map_logs = self._picture_loss(normal_map, target, "normal_map_")
            loss = loss + config.lambda_color * (colour_loss + map_loss)
            logs |= colour_logs | map_logs
        return loss, logs

    def _depth_error(self, drawn: Rendering, true: Rendering, resolution: int) -> Tensor:
        """Mean over the pixels that both meshes cover."""
        both = ((drawn.face >= 0) & (true.face >= 0)).float()
        if self.config.depth_loss_type == "l1":
            return masked_mean((drawn.depth - true.depth).abs(), both)
        error = F.smooth_l1_loss(drawn.depth, true.depth, reduction="none", beta=1 / (2 * resolution))
        return masked_mean(error, both)


def distance_error(mesh: MeshExtractResult, depth: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> Tensor:
    """Error of the signed distances at grid vertices, told by how far before the true surface they lie.

    Vertices beyond the true surface by more than the truncation are hidden and do not count; those before it
    by more should be at least that far.

    Args:
        mesh: with its training terms.
        depth: (H, W) camera depth of the true mesh, 0 where it is not seen.
        extrinsics: (1, 4, 4).
        intrinsics: (3, 3) normalised.

    Returns:
        Scalar, 0 where no vertex counts.
    """
    truncation = _TRUNCATION / mesh.resolution
    camera = to_camera(mesh.training.grid_positions.detach(), extrinsics)[0]  # (V, 3)
    image = camera @ intrinsics.to(camera).T
    place = image[:, :2] / image[:, 2:].clamp(min=1e-6) * 2 - 1
    seen = F.grid_sample(depth[None, None], place[None, None], mode="nearest", align_corners=False)[0, 0, 0]
    before = seen - camera[:, 2]
    counts = (seen > 0) & (before > -truncation)
    sdf = mesh.training.grid_sdf
    error = torch.where(before < truncation, (sdf - before).abs(), (truncation - sdf).relu())
    return masked_mean(error, counts.float())


def facing_normals(rendering: Rendering, extrinsics: Tensor, intrinsics: Tensor) -> Tensor:
    """Normals (1, H, W, 3) of a rendering, turned to the camera: true meshes have faces that look inwards."""
    rays = camera_rays(intrinsics[None].to(rendering.depth), rendering.depth.shape[1:])
    towards = rays @ extrinsics[:3, :3].to(rays)  # from the camera's axes to the world's
    return facing_eye(rendering.normal, towards)


def normal_picture(normal: Tensor, alpha: Tensor) -> Tensor:
    """Unit normals (1, H, W, 3) as colours (1, 3, H, W) in [0, 1], black where nothing is seen."""
    return ((normal + 1) / 2 * alpha[..., None]).permute(0, 3, 1, 2)
