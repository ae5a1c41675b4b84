"""The studio: composes the scenes of a step and takes their pictures."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scenegen.datasets.latest import Latest
from scenegen.datasets.read_ahead import ReadAhead
from scenegen.geometry import (
    invert_pose,
    place_yup,
    pose_to_transform,
    relative_pose,
    transform_points,
    world_pose,
)
from scenegen.synthesis.layouts.layout_arrays import LayoutBatches
from scenegen.synthesis.pictures.crops import crop_objects, crop_windows, shrink
from scenegen.synthesis.pictures.development import develop
from scenegen.synthesis.pictures.mask_faults import faulty_masks
from scenegen.synthesis.pictures.scene_paint import ScenePaint
from scenegen.synthesis.pictures.shading import CameraBatch, Picture, render_scenes
from scenegen.synthesis.shapes.recolouring import Recolouring
from scenegen.synthesis.shapes.shape_bank import Triangles, Variants
from scenegen.synthesis.sources.batch import PhotoBatch, SceneBatch
from scenegen.synthesis.sources.shape_pool import ShapePool, step_generator

_VISIBLE_PIXELS = 150  # objects with fewer pixels are drawn and attended to, but not trained on
_POINT_STRIDE = 2  # pixels; object coordinates are only needed as means over patches
_QUERY_IS_LARGEST = 0.7  # at inference the query is the largest mask; the rest of the time any asset is


@dataclass(frozen=True)
class Shot:
    """Pictures of S scenes of N objects, whose order is new: the query of each scene comes first.

    Layout, triangles and colours have the objects in the order in which they were composed, and besides them
    M - N that are seen and have no masks.
    """

    layout: dict[str, Tensor]  # see `layout_arrays`; besides world (S, M, 8), low and high corner (S, 3)
    paint: ScenePaint
    triangles: Triangles  # of all S * M objects, in the world
    recolouring: Recolouring  # of all S * M objects
    view: CameraBatch
    picture: Picture
    developed: Tensor  # (S, 3, H, H), the picture's colours as a camera gives them
    order: Tensor  # (S, N) int64, the composed object at each place of the new order
    seen: Tensor  # (S*N, H, H) bool, new order, the pixels of the objects
    masks: Tensor  # (S*N, H, H) bool, new order, what people say they are: see `faulty_masks`
    visible: Tensor  # (S, N) bool, new order

    @property
    def number(self) -> Tensor:
        """(S, N) int64, new order: which composed object this is, counted through all scenes."""
        num_scenes, num_composed = self.layout["shape"].shape
        scene_number = torch.arange(num_scenes, device=self.order.device)
        return self.order + scene_number[:, None] * num_composed

    @property
    def shape(self) -> Tensor:
        """(S, N) int64, new order: rows of the variants."""
        return self.layout["shape"].gather(1, self.order)

    @property
    def world_poses(self) -> Tensor:
        """(S, N, 8), new order, in metres."""
        world = self.layout["world"]
        return world.gather(1, self.order[..., None].expand(-1, -1, world.shape[-1]))

    @property
    def crop_windows(self) -> Tensor:
        """(S*N, 3), new order: windows of the crops in units of the picture, see `crops.crop_windows`."""
        return crop_windows(self.masks) / self.masks.shape[-1]

    def asset_images(self, size: int) -> Tensor:
        """Crops (S*N, 3, size, size) of the objects on black, new order."""
        return crop_objects(self.developed, self.masks, self._scene_of_object(), size)

    def object_points(self, grid: int) -> Tensor:
        """What the patches of the crops show, new order.

        Returns:
            (S*N, 4, grid, grid): the share of a patch that the object covers (last channel) and, times that
            share, the mean position in the object's y-up frame.
        """
        thinned = (slice(None), slice(None, None, _POINT_STRIDE), slice(None, None, _POINT_STRIDE))
        number = self.picture.object[thinned].clamp(min=0)
        back = pose_to_transform(invert_pose(self.layout["world"].flatten(0, 1)))
        local = transform_points(self.picture.points[thinned], back[number])
        shown = torch.cat([local, torch.ones_like(local[..., :1])], -1).permute(0, 3, 1, 2)
        masks = self.masks[thinned]
        return crop_objects(shown, masks, self._scene_of_object(), grid, masks & self.seen[thinned])

    def scene_picture(self, size: int) -> PhotoBatch:
        """The pictures of whole scenes at the size that encoders take."""
        return _scene_picture(self.developed, self.picture, self.view, size)

    def scene_batch(self, image_size: int, patch_grid: int) -> SceneBatch:
        """All that is trained on of pictures of scenes."""
        world = self.world_poses
        return SceneBatch(
            picture=self.scene_picture(image_size),
            asset_image=self.asset_images(image_size),
            mask_image=shrink(self.masks[:, None].float(), image_size).expand(-1, 3, -1, -1),
            object_points=self.object_points(patch_grid),
            poses=relative_pose(world, world[:, :1]),
            world_poses=world,
            visible=self.visible,
        )

    def _scene_of_object(self) -> Tensor:
        """(S*N,) int64."""
        num_scenes, num_objects = self.order.shape
        return torch.arange(num_scenes, device=self.order.device).repeat_interleave(num_objects)


def _scene_picture(developed: Tensor, picture: Picture, view: CameraBatch, size: int) -> PhotoBatch:
    """A picture at the size that encoders take, from its developed colours (S, 3, H, H)."""
    steps = torch.arange(size, device=developed.device) + 0.5
    pixel = (steps * (picture.depth.shape[-1] / size)).long()
    depth = picture.depth[:, pixel[:, None], pixel[None]]
    return PhotoBatch(shrink(developed, size), depth, view.extrinsics, view.focal)


class SceneStudio:
    """Takes pictures of S scenes of N objects a batch; N changes from batch to batch, S * N hardly."""

    def __init__(self, pool: ShapePool) -> None:
        """``pool``: the shapes."""
        self.pool, self.config, self.device = pool, pool.config, pool.device
        self._layouts: Latest[ReadAhead[dict[str, np.ndarray]]] = Latest()

    def generator(self, number: int) -> torch.Generator:
        """The source of what is random in the pictures of a batch."""
        return step_generator(self.device, self.config, number, "render")

    def shoot(self, number: int, generator: torch.Generator) -> Shot:
        """Pictures of the scenes of a batch; ``generator`` as `generator` gives it."""
        epoch, variants = self.pool.at(number)
        layout, given = self._layout(number, epoch, variants)
        layout["world"] = world_pose(layout["centre"], layout["yaw"], layout["size"])
        recolouring = Recolouring.draw(layout["shape"].numel(), generator)
        triangles = self._world_triangles(variants, layout, recolouring)
        layout["low"], layout["high"] = self._bounds(variants, layout)
        looks = self.config.looks
        paint = ScenePaint.draw(layout, layout["shape"].numel(), looks, generator)
        view = CameraBatch.look(layout["eye"], layout["target"], layout["fov_deg"])
        picture = self._render(triangles, layout, view, paint)
        seen = _masks(picture, layout["shape"].shape[1])
        pixels = seen.flatten(2).sum(-1)
        order = _query_first(pixels, generator)[:, :given]
        scene_number = torch.arange(len(order), device=self.device)
        seen = seen[scene_number[:, None], order].flatten(0, 1)
        developed = develop(picture.colour, generator, looks.photo)
        return Shot(
            layout,
            paint,
            triangles,
            recolouring,
            view,
            picture,
            developed=developed,
            order=order,
            seen=seen,
            masks=faulty_masks(seen, looks.faulty_masks, generator) if looks.faulty_masks > 0 else seen,
            visible=is_visible(pixels.gather(1, order)),
        )

    def from_elsewhere(self, shot: Shot, generator: torch.Generator) -> PhotoBatch:
        """The same scenes from other places; ``generator`` goes on from where the shot left it."""
        layout = shot.layout
        view = CameraBatch.look(_second_eye(layout, generator), layout["target"], layout["fov_deg"])
        picture = self._render(shot.triangles, layout, view, shot.paint)
        developed = develop(picture.colour, generator, self.config.looks.photo)
        return _scene_picture(developed, picture, view, self.config.image_size)

    def _layout(self, number: int, epoch: int, variants: Variants) -> tuple[dict[str, Tensor], int]:
        """The arrays of a batch, and how many objects of a scene have masks."""
        composed = dict(self._layouts.get(epoch, lambda: self._composer(epoch, variants)).get(number))
        given = int(composed.pop("given"))
        return {
            name: torch.as_tensor(value).to(self.device, non_blocking=True)
            for name, value in composed.items()
        }, given

    def _composer(self, epoch: int, variants: Variants) -> ReadAhead[dict[str, np.ndarray]]:
        """Composes scenes of the shapes of a pool, as long as it is alive."""
        config = self.config
        batches = LayoutBatches(
            variants.infos,
            config.objects_per_step,
            config.object_counts,
            config.seed,
            config.layouts,
            config.unmasked_counts,
        )
        return ReadAhead(batches, config.workers, end=(epoch + 1) * config.refresh_steps)

    def _world_triangles(
        self, variants: Variants, layout: dict[str, Tensor], recolouring: Recolouring
    ) -> Triangles:
        unit = variants.triangles(self.pool.bank, layout["shape"].flatten())
        to_world = pose_to_transform(layout["world"]).flatten(0, 1)
        corners = transform_points(unit.corners, to_world[unit.owner][:, None])
        return Triangles(corners, unit.owner, recolouring.apply(unit).colours)

    def _bounds(self, variants: Variants, layout: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Lowest and highest corner (S, 3) of the boxes of each scene's objects."""
        shape = layout["shape"]
        half = variants.half_extents(self.pool.bank, shape.flatten()).unflatten(0, shape.shape)
        signs = torch.tensor([*itertools.product((-1.0, 1.0), repeat=3)], device=half.device)
        corners = place_yup(half[:, :, None] * signs, layout["world"]).flatten(1, 2)  # (S, N * 8, 3)
        return corners.amin(1), corners.amax(1)

    def _render(
        self, triangles: Triangles, layout: dict[str, Tensor], view: CameraBatch, paint: ScenePaint
    ) -> Picture:
        num_objects = layout["shape"].shape[1]
        return render_scenes(triangles, num_objects, view, layout, self.config.render_size, paint)


def is_visible(pixels: Tensor) -> Tensor:
    """Which objects with so many pixels are trained on."""
    return pixels >= _VISIBLE_PIXELS


def _masks(picture: Picture, num_objects: int) -> Tensor:
    """Pixels (S, N, H, H) bool of each scene's objects."""
    device, num_scenes = picture.object.device, len(picture.object)
    first = torch.arange(num_scenes, device=device)[:, None, None] * num_objects
    local = torch.where(picture.object >= 0, picture.object - first, num_objects)
    return local[:, None] == torch.arange(num_objects, device=device)[None, :, None, None]


def _query_first(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Random orders (S, N) of objects with so many ``pixels`` (S, N), the query of each scene first."""
    num_scenes, num_objects = pixels.shape
    priority = torch.rand(num_scenes, num_objects, generator=generator, device=pixels.device)
    largest = torch.rand(num_scenes, 1, generator=generator, device=pixels.device) < _QUERY_IS_LARGEST
    first = torch.where(largest, pixels.float(), priority * is_visible(pixels)).argmax(1)
    priority[torch.arange(num_scenes, device=pixels.device), first] = 2.0
    return priority.argsort(dim=1, descending=True)


def _second_eye(layout: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """Eyes (S, 3) turned about their targets by up to 40 degrees, up or down by a fifth of the distance."""
    eye, target = layout["eye"], layout["target"]
    draw = torch.rand(2, len(eye), generator=generator, device=eye.device) * 2 - 1
    arm = eye - target
    turn = world_pose(target, draw[0] * 0.7, torch.ones_like(draw[0]))
    moved = place_yup(arm[:, None], turn)[:, 0]
    moved[:, 1] = (moved[:, 1] + draw[1] * 0.2 * arm.norm(dim=-1)).clamp(min=0.3)
    return moved
