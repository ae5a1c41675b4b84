"""Batch sources of training: shapes for the structure VAE, pictures of scenes for the other networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scenegen.geometry import (
    invert_pose,
    place_yup,
    pose_to_transform,
    relative_pose,
    transform_points,
    world_pose,
)
from scenegen.synthesis.layouts.layout_arrays import LayoutBatches, layout_loader, step_rng
from scenegen.synthesis.pictures.crops import crop_objects, crop_windows, shrink
from scenegen.synthesis.pictures.shading import Picture, View, render_scenes
from scenegen.synthesis.shapes.recolouring import Recolouring
from scenegen.synthesis.shapes.shape_bank import (
    ShapeBank,
    Triangles,
    Variants,
    make_variants,
    surface_occupancy,
)

_VISIBLE_PIXELS = 150  # objects with fewer pixels are drawn and attended to, but not trained on
_ENCODED_AT_ONCE = 128
_POINT_STRIDE = 2  # pixels; object coordinates are only needed as means over patches
_QUERY_IS_LARGEST = 0.7  # at inference the query is the largest mask; the rest of the time any asset is


@dataclass(frozen=True)
class SourceConfig:
    """What batches are made of."""

    shapes: int = 16384  # variants alive at a time
    refresh_steps: int = 1 << 30  # steps after which new variants are drawn
    real_share: float = 0.5  # of the variants, from real furniture; the rest is procedural
    max_stretch: float = 1.35
    max_bend: float = 0.0  # see `shape_bank.bend_axes`
    objects_per_step: int = 240
    object_counts: tuple[float, ...] = (0.2, 1.0, 1.5, 1.5, 1.0, 0.5, 0.3)  # weights of 1, 2, 3, ... objects
    render_size: int = 512
    image_size: int = 224
    patch_grid: int = 16  # patches along an edge of a picture
    resolution: int = 64
    surface_samples: int = 65536
    repeat: int = 1  # steps in a row that see the same pictures (with other times and noise)
    workers: int = 0
    seed: int = 0


def step_generator(device: torch.device, config: SourceConfig, step: int, purpose: str) -> torch.Generator:
    """Independent generator on the device for one purpose of one training step."""
    seed = int(step_rng(config.seed, step, purpose).integers(2**62))
    return torch.Generator(device).manual_seed(seed)


class ShapePool:
    """The shapes alive at a step; drawn anew every ``refresh_steps``, by a seed of their own."""

    def __init__(self, bank: ShapeBank, config: SourceConfig, device: torch.device) -> None:
        self.bank, self.config, self.device = bank, config, device
        self._epoch, self._variants = -1, None

    def at(self, step: int) -> tuple[int, Variants]:
        """Number of the pool and its shapes."""
        epoch = step // self.config.refresh_steps
        if epoch != self._epoch:
            rng = step_rng(self.config.seed, epoch, "variants")
            self._variants = make_variants(
                self.bank,
                self.config.shapes,
                rng,
                self.config.real_share,
                self.config.max_stretch,
                self.device,
                self.config.max_bend,
            )
            self._epoch = epoch
        return epoch, self._variants

    def occupancy(self, variants: Variants, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Surface voxels (K, 1, R, R, R) bool of the shapes ``rows``."""
        return surface_occupancy(
            variants.triangles(self.bank, rows),
            len(rows),
            self.config.resolution,
            self.config.surface_samples,
            generator,
        )


class ShapeSource:
    """Batches {"occupancy": (B, 1, R, R, R) bool} of random shapes."""

    def __init__(self, pool: ShapePool) -> None:
        self.pool = pool

    def batch(self, step: int) -> Mapping[str, Tensor]:
        config, device = self.pool.config, self.pool.device
        _, variants = self.pool.at(step)
        generator = step_generator(device, config, step, "shapes")
        rows = torch.randint(config.shapes, (config.objects_per_step,), generator=generator, device=device)
        return {"occupancy": self.pool.occupancy(variants, rows, generator)}


class SceneSource:
    """Rendered scenes. One batch is S scenes of N objects; N changes from step to step, S * N hardly.

    Keys:

    * scene_image (S, 3, I, I), asset_image and mask_image (S*N, 3, I, I) in [0, 1];
    * poses (S, N, 8) in the frame of each scene's object 0, the query; world_poses (S, N, 8) in metres;
    * visible (S, N) bool; shape (S, N) row of the variants; number (S, N) of the object before the query was
      chosen, counted through all scenes;
    * crop_window (S*N, 3) of the asset's crop in units of the picture, see `crop_windows`;
    * camera_extrinsics (S, 4, 4), focal (S,), depth (S, I, I) metres (inf = nothing);
    * object_points (S*N, 4, G, G): for each of the G x G patches of an asset's crop the share that the asset
      covers (last channel) and, times that share, the mean position in the object's y-up frame;
    * with ``second_view`` scene_image and the camera keys with the prefix ``second_``, of the same scene seen
      from elsewhere;
    * with ``encode`` x_0 (S, N, C, r, r, r), the latents of the objects; all shapes of a pool are encoded
      once, when it is drawn.
    """

    def __init__(
        self, pool: ShapePool, *, second_view: bool = False, encode: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Make a source.

        Args:
            pool: the shapes.
            second_view: render every scene twice.
            encode: occupancy (K, 1, R, R, R) float -> latents (K, C, r, r, r).
        """
        self.pool, self.config, self.device = pool, pool.config, pool.device
        self.second_view, self.encode = second_view, encode
        self._latents: Tensor | None = None
        self._latents_epoch = -1
        self._rendered: tuple[int, dict[str, Tensor]] | None = None
        self._loader: Iterator[dict[str, Any]] | None = None
        self._next_step, self._loader_epoch = -1, -1

    def _arrays(self, step: int, epoch: int, variants: Variants) -> dict[str, Tensor]:
        if self._loader is None or step != self._next_step or epoch != self._loader_epoch:
            batches = LayoutBatches(
                variants.infos, self.config.objects_per_step, self.config.object_counts, self.config.seed
            )
            remaining = (epoch + 1) * self.config.refresh_steps - step
            self._loader = iter(layout_loader(batches, step, min(remaining, 1 << 20), self.config.workers))
            self._loader_epoch = epoch
        self._next_step = step + 1
        return {
            name: torch.as_tensor(value).to(self.device, non_blocking=True)
            for name, value in next(self._loader).items()
        }

    def batch(self, step: int) -> dict[str, Tensor]:
        """The scenes of ``step``; with ``repeat``, the same object as for the steps before."""
        picture_step = step // self.config.repeat
        if self._rendered is None or self._rendered[0] != picture_step:
            self._rendered = picture_step, self._render(picture_step)
        return self._rendered[1]

    def _render(self, step: int) -> dict[str, Tensor]:
        epoch, variants = self.pool.at(step)
        scene = self._arrays(step, epoch, variants)
        scene["world"] = world_pose(scene["centre"], scene["yaw"], scene["size"])  # (S, N, 8)
        generator = step_generator(self.device, self.config, step, "render")
        world = self._world_triangles(variants, scene, generator)
        scene["low"], scene["high"] = self._bounds(variants, scene)
        view = View.look(scene["eye"], scene["target"], scene["fov_deg"])
        num_objects = scene["shape"].shape[1]
        picture = render_scenes(world, num_objects, view, scene, self.config.render_size)
        batch = self._cut(picture, scene, generator)
        batch |= self._camera("", picture, view)
        if self.encode is not None:
            batch["x_0"] = self._encoded(epoch, variants)[batch["shape"]]
        if self.second_view:
            view = View.look(self._second_eye(scene, generator), scene["target"], scene["fov_deg"])
            picture = render_scenes(world, num_objects, view, scene, self.config.render_size)
            batch |= self._camera("second_", picture, view)
            batch["second_scene_image"] = self._small(picture.colour, generator)
        return batch

    @torch.no_grad()
    def _encoded(self, epoch: int, variants: Variants) -> Tensor:
        """Latents (P, C, r, r, r) of all shapes of the pool."""
        if epoch != self._latents_epoch:
            generator = step_generator(self.device, self.config, epoch, "encode")
            rows = torch.arange(len(variants.models), device=self.device)
            self._latents = torch.cat(
                [
                    self.encode(self.pool.occupancy(variants, part, generator).float())
                    for part in rows.split(_ENCODED_AT_ONCE)
                ]
            )
            self._latents_epoch = epoch
        return self._latents

    def _world_triangles(
        self, variants: Variants, scene: dict[str, Tensor], generator: torch.Generator
    ) -> Triangles:
        rows = scene["shape"].flatten()
        unit = variants.triangles(self.pool.bank, rows)
        coloured = self._recolouring(rows, generator).apply(unit)
        to_world = pose_to_transform(scene["world"]).flatten(0, 1)
        corners = transform_points(unit.corners, to_world[unit.owner][:, None])
        return Triangles(corners, unit.owner, coloured.colours)

    def _bounds(self, variants: Variants, scene: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Lowest and highest corner (S, 3) of the boxes of each scene's objects."""
        half = variants.half_extents(self.pool.bank, scene["shape"].flatten()).unflatten(
            0, scene["shape"].shape
        )
        signs = torch.tensor([*itertools.product((-1.0, 1.0), repeat=3)], device=half.device)
        corners = place_yup(half[:, :, None] * signs, scene["world"]).flatten(1, 2)  # (S, N * 8, 3)
        return corners.amin(1), corners.amax(1)

    def _recolouring(self, rows: Tensor, generator: torch.Generator) -> Recolouring:
        """Colours of the objects of a batch, ``rows`` (K,) of the variants: new ones every time."""
        return Recolouring.draw(len(rows), generator)

    def _second_eye(self, scene: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """The camera turned about the target by up to 40 degrees, and up or down by a fifth of its range."""
        draw = torch.rand(2, len(scene["eye"]), generator=generator, device=self.device) * 2 - 1
        arm = scene["eye"] - scene["target"]
        turn = world_pose(scene["target"], draw[0] * 0.7, torch.ones_like(draw[0]))
        moved = place_yup(arm[:, None], turn)[:, 0]
        moved[:, 1] = (moved[:, 1] + draw[1] * 0.2 * arm.norm(dim=-1)).clamp(min=0.3)
        return moved

    def _small(self, colour: Tensor, generator: torch.Generator) -> Tensor:
        return shrink(self._develop(colour.permute(0, 3, 1, 2), generator), self.config.image_size)

    def _develop(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """Exposure, white balance, gamma and noise of a camera, different for every picture."""

        def draw(*shape: int) -> Tensor:
            return torch.rand(len(pictures), *shape, generator=generator, device=self.device)

        balance = torch.exp((draw(3, 1, 1) - 0.5) * 0.24 + (draw(1, 1, 1) - 0.5) * 0.5)
        gamma = torch.exp((draw(1, 1, 1) - 0.5) * 0.6)
        noise = torch.randn(pictures.shape, generator=generator, device=self.device) * draw(1, 1, 1) * 0.03
        return ((pictures * balance).clamp(min=1e-4) ** gamma + noise).clamp(0, 1)

    def _cut(
        self, picture: Picture, scene: dict[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Choose the queries, order the objects, and cut their crops and masks."""
        num_scenes, num_objects = scene["shape"].shape
        scene_number = torch.arange(num_scenes, device=self.device)
        local = torch.where(
            picture.object >= 0, picture.object - scene_number[:, None, None] * num_objects, num_objects
        )
        masks = local[:, None] == torch.arange(num_objects, device=self.device)[None, :, None, None]
        pixels = masks.flatten(2).sum(-1)

        priority = torch.rand(num_scenes, num_objects, generator=generator, device=self.device)
        largest = torch.rand(num_scenes, 1, generator=generator, device=self.device) < _QUERY_IS_LARGEST
        first = torch.where(largest, pixels.float(), priority * (pixels >= _VISIBLE_PIXELS)).argmax(1)
        priority[scene_number, first] = 2.0
        order = priority.argsort(dim=1, descending=True)

        masks = masks[scene_number[:, None], order].flatten(0, 1)
        image = scene_number.repeat_interleave(num_objects)
        developed = self._develop(picture.colour.permute(0, 3, 1, 2), generator)
        size = self.config.image_size
        return {
            "scene_image": shrink(developed, size),
            "asset_image": crop_objects(developed, masks, image, size),
            "mask_image": shrink(masks[:, None].float(), size).expand(-1, 3, -1, -1),
            "object_points": crop_objects(
                self._object_points(picture, scene),
                masks[:, ::_POINT_STRIDE, ::_POINT_STRIDE],
                image,
                self.config.patch_grid,
            ),
            "crop_window": crop_windows(masks) / masks.shape[-1],
            "visible": pixels.gather(1, order) >= _VISIBLE_PIXELS,
            "number": order + scene_number[:, None] * num_objects,
            "shape": scene["shape"].gather(1, order),
            **self._poses(scene, order),
        }

    def _object_points(self, picture: Picture, scene: dict[str, Tensor]) -> Tensor:
        """What each pixel sees in the frame of its own object, and 1: (S, 4, h, h)."""
        seen = picture.points[:, ::_POINT_STRIDE, ::_POINT_STRIDE]
        number = picture.object[:, ::_POINT_STRIDE, ::_POINT_STRIDE].clamp(min=0)
        back = invert_pose(scene["world"].flatten(0, 1))
        local = transform_points(seen, pose_to_transform(back)[number])
        return torch.cat([local, torch.ones_like(local[..., :1])], -1).permute(0, 3, 1, 2)

    def _poses(self, scene: dict[str, Tensor], order: Tensor) -> dict[str, Tensor]:
        """Poses (S, N, 8) of the reordered objects in the frame of the first, and in the world."""
        world = scene["world"].gather(1, order[..., None].expand(-1, -1, scene["world"].shape[-1]))
        return {"poses": relative_pose(world, world[:, :1]), "world_poses": world}

    def _camera(self, prefix: str, picture: Picture, view: View) -> dict[str, Tensor]:
        size = self.config.image_size
        step = (torch.arange(size, device=self.device) + 0.5) * (picture.depth.shape[-1] / size)
        pixel = step.long()
        return {
            f"{prefix}depth": picture.depth[:, pixel[:, None], pixel[None]],
            f"{prefix}camera_extrinsics": view.extrinsics,
            f"{prefix}focal": view.focal,
        }
