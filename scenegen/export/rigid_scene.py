"""The objects of a scene as rigid bodies, for the formats that simulators read."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import trimesh

from scenegen.export.frames import SceneFrame
from scenegen.export.options import ExportOptions
from scenegen.export.photo_facts import PhotoFacts
from scenegen.geometry import apply_transform
from scenegen.physics.bodies import RigidBody, rigid_body, world_transform
from scenegen.physics.colliders import Collider, NoVolume, collider_of
from scenegen.pipelines.result import SceneResult

_LOGGER = logging.getLogger(__name__)

_COLLIDERS: WeakKeyDictionary[trimesh.Trimesh, Collider] = WeakKeyDictionary()


@dataclass(frozen=True)
class RigidScene:
    """A scene in metres.

    Attributes:
        bodies: the objects that enclose a volume.
        floor: its height in the frame of ``scene.glb``.
        metres: length of one unit of ``scene.glb``.
    """

    bodies: tuple[RigidBody, ...]
    floor: float
    metres: float

    @classmethod
    def of(cls, result: SceneResult, scene: trimesh.Scene, options: ExportOptions) -> RigidScene:
        """Find floor and size of a scene, and the colliders of its objects.

        Args:
            result: at least one object has a mesh.
            scene: the same scene by `scenegen.export.meshes.build_scene`.
            options: `metres` is the height of the scene above its floor; without it, what furniture measures
                tells the size.
        """
        facts, frame = PhotoFacts.of(result), SceneFrame.of(result, scene)
        floor = frame.scale * (facts.floor - float(frame.centre[1]))
        metres = facts.scale.metres_per_unit / frame.scale
        if options.metres is not None:
            metres = options.metres / (_top(scene) - floor)
        bodies = []
        for node in scene.graph.nodes_geometry:
            transform, geometry = scene.graph[node]
            try:
                collider = _collider(scene.geometry[geometry], node)
            except NoVolume as error:
                _LOGGER.warning("physics: %s", error)
                continue
            bodies.append(rigid_body(node, collider, transform, floor, metres, options.density))
        return cls(tuple(bodies), floor, metres)

    @cached_property
    def by_name(self) -> dict[str, RigidBody]:
        """The bodies by the names of their nodes."""
        return {body.name: body for body in self.bodies}

    @cached_property
    def to_world(self) -> np.ndarray:
        """(4, 4) from ``scene.glb`` to the world of the bodies: z up, metres, the floor at height 0."""
        return world_transform(self.floor, self.metres)


def _collider(mesh: trimesh.Trimesh, node: str) -> Collider:
    """The collider of an object, which takes seconds to make and is the same in every format."""
    if mesh not in _COLLIDERS:
        _COLLIDERS[mesh] = collider_of(mesh, node)
    return _COLLIDERS[mesh]


def _top(scene: trimesh.Scene) -> float:
    placed = (scene.graph[node] for node in scene.graph.nodes_geometry)
    return max(
        float(apply_transform(transform, np.asarray(scene.geometry[geometry].vertices))[:, 1].max())
        for transform, geometry in placed
    )
