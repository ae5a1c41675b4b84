"""Choose scenes for a fixed list: compose, let items down onto their supports, keep what is well visible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from scenegen.synthesis.furniture.records import ModelInfo
from scenegen.synthesis.layouts.options import TEST_OPTIONS, ComposerOptions
from scenegen.synthesis.layouts.pool import ModelPool
from scenegen.synthesis.layouts.scene_composer import compose
from scenegen.synthesis.layouts.scene_layout import SceneLayout
from scenegen.synthesis.layouts.scene_list import SceneList, rounded
from scenegen.synthesis.pictures.render_mesh import RenderMesh
from scenegen.synthesis.pictures.scene_renderer import SceneGeometry, instance_areas

_CLEARANCE_M = 1e-3
_PROBE_STEPS = 15  # rays per side of an item's foot that look for the surface below it
_MIN_FOOT_SUPPORT = 0.8  # share of those rays that must find one


@dataclass(frozen=True)
class VisibilityRule:
    """What every object of a chosen scene must show."""

    image_size: int = 512
    min_pixels: int = 400
    min_share: float = 0.35  # of the pixels it would have without the other objects
    max_drop_m: float = 0.25  # how far an item may sink from the box top of its support to the surface

    def describe(self) -> str:
        """The rule in words."""
        return (
            f"every object has >= {self.min_pixels} px at {self.image_size} px and >= {self.min_share:.0%} "
            "of the pixels it would have alone; items on furniture let down onto its surface, "
            f"<= {self.max_drop_m} m"
        )


def select_scenes(
    seed: int,
    pool: ModelPool,
    meshes: Mapping[str, RenderMesh],
    counts: list[int],
    prefix: str,
    rule: VisibilityRule = VisibilityRule(),
    options: ComposerOptions = TEST_OPTIONS,
) -> Iterator[SceneLayout]:
    """Yield one accepted scene per entry of ``counts`` (numbers of objects), ids ``<prefix>0000``, ...

    The k-th scene depends on ``seed`` and k only. Objects come sorted by visible area, largest first.
    """
    for number, count in enumerate(counts):
        rng = np.random.default_rng([seed, number])
        layout = None
        while layout is None:
            candidate = compose(rng, pool, count, options, scene_id=f"{prefix}{number:04d}")
            layout = _accepted(candidate, meshes, rule)
        yield layout


def make_scene_list(
    infos: Sequence[ModelInfo],
    meshes: Mapping[str, RenderMesh],
    split: str,
    total: int,
    seed: int,
    progress: Callable[[Iterator[SceneLayout]], Iterable[SceneLayout]] = iter,
) -> SceneList:
    """Choose ``total`` scenes of the models of a split.

    Args:
        infos, meshes: the models; meshes by their ids.
        progress: wraps the scenes while they are chosen, to show how far it has come.
    """
    rule = VisibilityRule()
    chosen = select_scenes(seed, ModelPool(infos), meshes, balanced_counts(total), f"{split}_", rule)
    return SceneList(split, f"seed {seed}; {rule.describe()}", rule.image_size, tuple(progress(chosen)))


def balanced_counts(total: int) -> list[int]:
    """Numbers of objects for ``total`` scenes: 2 to 5 equally often, one in ten with 6 or 7."""
    cycle = [2, 3, 4, 5, 2, 3, 4, 5, 2, 6, 3, 4, 5, 2, 3, 4, 5, 3, 4, 7]
    return [cycle[i % len(cycle)] for i in range(total)]


def settle(layout: SceneLayout, meshes: Mapping[str, RenderMesh], max_drop_m: float) -> SceneLayout | None:
    """Let items that stand on furniture down onto its surface (a box top may be a headboard, not the seat).

    Returns:
        The layout, or None when an item hangs over an edge or would sink more than ``max_drop_m``.
    """
    geometry = SceneGeometry(layout, meshes)
    objects = list(layout.objects)
    for index, placed in enumerate(objects):
        first, last = geometry.first_face[index : index + 2]
        own = geometry.triangles[first:last]
        if own[..., 1].min() <= _CLEARANCE_M:
            continue  # stands on the floor
        others = np.concatenate([geometry.triangles[:first], geometry.triangles[last:]])
        drop = _drop(own, others)
        if drop is None or drop > max_drop_m:
            return None
        x, y, z = placed.centre
        objects[index] = replace(placed, centre=(x, y - drop, z))
    return replace(layout, objects=tuple(objects))


def _accepted(
    layout: SceneLayout, meshes: Mapping[str, RenderMesh], rule: VisibilityRule
) -> SceneLayout | None:
    settled = settle(layout, meshes, rule.max_drop_m)
    if settled is None:
        return None
    settled = rounded(settled)
    visible, alone = instance_areas(settled, meshes, rule.image_size)
    if visible.min() < rule.min_pixels or (visible < rule.min_share * alone).any():
        return None
    return settled.reordered(np.argsort(-visible, kind="stable").tolist())


def _drop(item: np.ndarray, others: np.ndarray) -> float | None:
    """How far an item can sink until it touches what is below it; None where its foot hangs over an edge.

    Args:
        item, others: triangles (F, 3, 3) in the world.
    """
    scene = EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(others, np.float32))
    under_foot = _distances_down(scene, _foot_points(item))
    if np.isfinite(under_foot).mean() < _MIN_FOOT_SUPPORT:
        return None
    under_vertices = _distances_down(scene, np.unique(item.reshape(-1, 3), axis=0))
    return max(0.0, float(min(under_foot.min(), under_vertices.min())) - _CLEARANCE_M)


def _foot_points(item: np.ndarray) -> np.ndarray:
    """Grid (P, 3) under the lowest tenth of an item."""
    vertices = item.reshape(-1, 3)
    bottom = vertices[:, 1].min()
    foot = vertices[vertices[:, 1] < bottom + 0.1 * np.ptp(vertices[:, 1])]
    sides = [np.linspace(foot[:, axis].min(), foot[:, axis].max(), _PROBE_STEPS) for axis in (0, 2)]
    x, z = np.meshgrid(*sides)
    return np.stack([x.ravel(), np.full(x.size, bottom), z.ravel()], axis=1)


def _distances_down(scene: EmbreeScene, points: np.ndarray) -> np.ndarray:
    """Distance (P,) from points to the surface below them, +inf where there is none."""
    starts = (points + [0.0, _CLEARANCE_M, 0.0]).astype(np.float32)
    down = np.tile(np.float32([0, -1, 0]), (len(starts), 1))
    found = scene.run(starts, down, output=1)
    return np.where(found["primID"] >= 0, found["tfar"], np.inf)
