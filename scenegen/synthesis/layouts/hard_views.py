"""Scenes of a fixed list seen by another camera: from low down, through a wide lens, cut, hidden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scenegen.synthesis.furniture.records import ModelInfo
from scenegen.synthesis.layouts.camera import box_shares, find_camera
from scenegen.synthesis.layouts.footprints import Item
from scenegen.synthesis.layouts.layout_arrays import step_rng
from scenegen.synthesis.layouts.options import ComposerOptions
from scenegen.synthesis.layouts.pool import ModelPool
from scenegen.synthesis.layouts.scene_composer import seen_from
from scenegen.synthesis.layouts.scene_layout import Camera, PlacedObject, SceneLayout
from scenegen.synthesis.layouts.scene_list import rounded
from scenegen.synthesis.layouts.scene_selection import select_scenes
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from scenegen.synthesis.pictures.scene_renderer import instance_areas

_TRIES = 40
_BOX_SLACK = 1.5  # boxes hide more than what is in them, or less


@dataclass(frozen=True)
class HardView:
    """What cameras a set of scenes has, and what must be true of each of its pictures.

    Attributes:
        options: of the cameras.
        min_pixels: of each object, at 512 pixels a side.
        min_share: of the pixels that an object would have without the others.
        most_seen: of some object no more than this share is seen; 1 where nothing has to be hidden.
        most_in_frame: of some object's box no more than this is in the frame; 1 where nothing has to be cut.
    """

    options: ComposerOptions
    min_pixels: int = 400
    min_share: float = 0.35
    most_seen: float = 1.0
    most_in_frame: float = 1.0
    image_size: int = 512

    def describe(self) -> str:
        """The demands in words."""
        words = [
            f"every object has >= {self.min_pixels} px and >= {self.min_share:.0%} of those it has alone"
        ]
        if self.most_seen < 1:
            words.append(f"one <= {self.most_seen:.0%} of those")
        if self.most_in_frame < 1:
            words.append(f"of one <= {self.most_in_frame:.0%} of the box is in the frame")
        return ", ".join(words)

    def may_accept(self, camera: Camera, items: Sequence[Item]) -> bool:
        """Whether a camera is hard enough as far as boxes tell, before a picture is cast."""
        visible, in_frame = box_shares(camera, items)
        return visible.min() <= _BOX_SLACK * self.most_seen and in_frame.min() <= self.most_in_frame

    def accepts(self, visible: np.ndarray, alone: np.ndarray) -> bool:
        """Whether a picture is as hard as asked, and not harder; pixels (N,) as of `instance_areas`."""
        share = visible / np.maximum(alone, 1)
        return visible.min() >= self.min_pixels and self.min_share <= share.min() <= self.most_seen


HARD_VIEWS: Mapping[str, HardView] = {
    "low": HardView(
        ComposerOptions(elevation_deg=(0, 15), small_probability=1, small_fill=(0.35, 0.7), min_extent=0.05),
        min_pixels=250,
    ),
    "hidden": HardView(
        ComposerOptions(
            elevation_deg=(2, 30), hidden_probability=1, hidden_visible_fraction=(0.05, 0.6), min_extent=0.05
        ),
        min_pixels=250,
        min_share=0.1,
        most_seen=0.5,
    ),
    "cut": HardView(
        ComposerOptions(elevation_deg=(2, 45), cut_probability=1, cut_fill=(1.15, 1.8), min_in_frame=0.35),
        most_in_frame=0.75,
    ),
    "wide": HardView(ComposerOptions(elevation_deg=(2, 45), fov_deg=(80, 95))),
}
"""By name of the set."""


def hard_views(
    layouts: Sequence[SceneLayout],
    name: str,
    infos: Mapping[str, ModelInfo],
    meshes: Mapping[str, RenderMesh],
    seed: int,
) -> Iterator[SceneLayout]:
    """Yield each scene with a camera, light and room of its own as the set ``name`` has them.

    A scene that cannot be seen so is replaced by another of as many objects. The k-th depends on the seed,
    the set and the k-th layout only. Its id is ``<name>_<k>``.
    """
    pool = ModelPool(list(infos.values()))
    for number, layout in enumerate(layouts):
        rng = step_rng(seed, number, name)
        while (found := _seen_anew(rng, layout, HARD_VIEWS[name], infos, meshes)) is None:
            others = select_scenes(int(rng.integers(2**31)), pool, meshes, [len(layout.objects)], "other_")
            layout = next(others)
        yield replace(found, scene_id=f"{name}_{number:04d}")


def _seen_anew(
    rng: np.random.Generator,
    layout: SceneLayout,
    view: HardView,
    infos: Mapping[str, ModelInfo],
    meshes: Mapping[str, RenderMesh],
) -> SceneLayout | None:
    """The scene with another camera; None after some tries. Objects come sorted by visible area."""
    room_yaw = layout.objects[0].yaw
    for _ in range(_TRIES):
        items = [_item(placed, infos[placed.model_id]) for placed in layout.objects]
        camera = find_camera(rng, items, view.options)
        if camera is None or not view.may_accept(camera, items):
            continue
        candidate = rounded(seen_from(rng, items, camera, room_yaw))
        visible, alone = instance_areas(candidate, meshes, view.image_size)
        if view.accepts(visible, alone):
            return candidate.reordered(np.argsort(-visible, kind="stable").tolist())
    return None


def _item(placed: PlacedObject, info: ModelInfo) -> Item:
    """The box of a placed object again."""
    factor = placed.size_m / max(side * f for side, f in zip(info.size_m, placed.stretch))
    size = tuple(side * f * factor for side, f in zip(info.size_m, placed.stretch))
    x, y, z = placed.centre
    return Item(info, size, placed.stretch, placed.mirror, x, z, y - size[1] / 2, placed.yaw)
