"""Composed scenes as plain arrays, as worker processes make them ahead of the training loop."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from scenegen.synthesis.furniture.records import ModelInfo
from scenegen.synthesis.layouts.options import ComposerOptions
from scenegen.synthesis.layouts.pool import ModelPool
from scenegen.synthesis.layouts.scene_composer import CompositionError, compose
from scenegen.synthesis.layouts.scene_layout import SceneLayout

_POOL_MODELS = 400  # models a batch of scenes is composed from: enough variety, quick to index
_USUAL_WALLS = 2
TRAINING_OPTIONS = ComposerOptions(min_visible_fraction=0.3)


def step_rng(seed: int, step: int, purpose: str) -> np.random.Generator:
    """Independent generator for one purpose of one training step."""
    return np.random.default_rng([seed, step, zlib.crc32(purpose.encode())])


def layout_arrays(layouts: Sequence[SceneLayout]) -> dict[str, np.ndarray]:
    """Stack S scenes of N objects each.

    Returns:
        shape (S, N) int64 (the objects' model_id as a number), centre (S, N, 3), yaw (S, N), size (S, N),
        eye, target (S, 3), fov_deg (S,), sun_direction (S, 3), sun, ambient (S,), floor_colour, wall_colour
        (S, 3), wall_point, wall_normal (S, W, 3; zero normal = no wall; W is 2 or, where a scene has more
        walls, as many), ceiling (S,; +inf = none), all float32 but for ``shape``.
    """
    most_walls = max([_USUAL_WALLS, *(len(layout.room.walls) for layout in layouts)])
    walls = np.zeros((len(layouts), most_walls, 2, 3), dtype=np.float32)
    for row, layout in zip(walls, layouts):
        for slot, wall in zip(row, layout.room.walls):
            slot[0], slot[1] = wall.point, wall.normal
    objects = [layout.objects for layout in layouts]
    floats = {
        "centre": [[o.centre for o in row] for row in objects],
        "yaw": [[o.yaw for o in row] for row in objects],
        "size": [[o.size_m for o in row] for row in objects],
        "eye": [s.camera.position for s in layouts],
        "target": [s.camera.target for s in layouts],
        "fov_deg": [s.camera.fov_deg for s in layouts],
        "sun_direction": [s.lighting.sun_direction for s in layouts],
        "sun": [s.lighting.sun_strength for s in layouts],
        "ambient": [s.lighting.ambient_strength for s in layouts],
        "floor_colour": [s.room.floor_colour for s in layouts],
        "ceiling": [math.inf if s.room.ceiling_m is None else s.room.ceiling_m for s in layouts],
        "wall_colour": [s.room.wall_colour for s in layouts],
    }
    arrays = {name: np.asarray(values, dtype=np.float32) for name, values in floats.items()}
    shape = np.asarray([[int(o.model_id) for o in row] for row in objects], dtype=np.int64)
    return {"shape": shape, "wall_point": walls[:, :, 0], "wall_normal": walls[:, :, 1], **arrays}


class LayoutBatches(Dataset):
    """Item ``number``: the arrays of that batch's scenes, all with the same number of objects.

    ``given`` () int64 of the arrays is how many objects of each scene have masks.
    """

    def __init__(
        self,
        infos: Sequence[ModelInfo],
        objects_per_step: int,
        count_weights: Sequence[float],
        seed: int,
        options: ComposerOptions = TRAINING_OPTIONS,
        unmasked_weights: Sequence[float] = (1.0,),
    ) -> None:
        self.infos, self.objects_per_step, self.seed, self.options = infos, objects_per_step, seed, options
        self.count_weights = np.asarray(count_weights, dtype=np.float64) / np.sum(count_weights)
        self.unmasked_weights = np.asarray(unmasked_weights, dtype=np.float64) / np.sum(unmasked_weights)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        rng = step_rng(self.seed, number, "layout")
        num_objects = 1 + int(rng.choice(len(self.count_weights), p=self.count_weights))
        pool = ModelPool([self.infos[i] for i in rng.choice(len(self.infos), _POOL_MODELS)])
        unmasked = 0
        if len(self.unmasked_weights) > 1:
            unmasked = int(rng.choice(len(self.unmasked_weights), p=self.unmasked_weights))
        layouts: list[SceneLayout] = []
        while len(layouts) < max(1, self.objects_per_step // num_objects):
            try:
                layouts.append(compose(rng, pool, num_objects + unmasked, self.options))
            except CompositionError:  # the generator has moved on: the next attempt is another scene
                continue
        return {"given": np.asarray(num_objects), **layout_arrays(layouts)}
