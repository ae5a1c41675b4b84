"""Items being placed, and what their outlines on the floor touch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scenegen.geometry import CONTINUOUS_SYMMETRY
from scenegen.synthesis.layouts.pool import Model
from scenegen.synthesis.layouts.scene_layout import PlacedObject, Vector3, vector3


@dataclass
class Item:
    """A model being placed: an upright box with a round or rectangular footprint."""

    model: Model
    size: Vector3
    stretch: Vector3
    mirror: bool
    x: float = 0.0
    z: float = 0.0
    bottom: float = 0.0
    yaw: float = 0.0
    carries: list[Item] = field(default_factory=list)

    @property
    def is_round(self) -> bool:
        return self.model.symmetry == CONTINUOUS_SYMMETRY

    @property
    def radius(self) -> float:
        """Radius of a round footprint."""
        return max(self.size[0], self.size[2]) / 2

    @property
    def centre(self) -> Vector3:
        return (self.x, self.bottom + self.size[1] / 2, self.z)

    @property
    def top(self) -> float:
        return self.bottom + self.size[1]

    def offset(self, local_x: float, local_z: float) -> tuple[float, float]:
        """World floor position of a point given in this item's own axes."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + c * local_x + s * local_z, self.z - s * local_x + c * local_z

    def local(self, x: float, z: float) -> tuple[float, float]:
        """Inverse of ``offset``."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        x, z = x - self.x, z - self.z
        return c * x - s * z, s * x + c * z

    def placed(self) -> PlacedObject:
        """The item as an object of a layout."""
        return PlacedObject(
            model_id=self.model.id,
            centre=vector3(self.centre),
            yaw=float(self.yaw),
            size_m=float(max(self.size)),
            stretch=self.stretch,
            mirror=self.mirror,
        )

    def least_along(self, normal: tuple[float, float]) -> float:
        """Smallest coordinate of the footprint along a horizontal unit direction (x, z)."""
        along_x = normal[0] * math.cos(self.yaw) - normal[1] * math.sin(self.yaw)
        along_z = normal[0] * math.sin(self.yaw) + normal[1] * math.cos(self.yaw)
        half = (abs(along_x) * self.size[0] + abs(along_z) * self.size[2]) / 2
        return normal[0] * self.x + normal[1] * self.z - half


def footprints_overlap(a: Item, b: Item, gap: float = 0.0) -> bool:
    """True if two footprints are nearer than ``gap`` metres (along a separating axis; exact for discs)."""
    if a.is_round and b.is_round:
        return math.hypot(a.x - b.x, a.z - b.z) < a.radius + b.radius + gap
    if a.is_round or b.is_round:
        disc, box = (a, b) if a.is_round else (b, a)
        local_x, local_z = box.local(disc.x, disc.z)
        outside_x = max(0.0, abs(local_x) - box.size[0] / 2)
        outside_z = max(0.0, abs(local_z) - box.size[2] / 2)
        return math.hypot(outside_x, outside_z) < disc.radius + gap
    return not (_has_separating_axis(a, b, gap) or _has_separating_axis(b, a, gap))


def _has_separating_axis(a: Item, b: Item, gap: float) -> bool:
    local_x, local_z = a.local(b.x, b.z)
    c, s = abs(math.cos(a.yaw - b.yaw)), abs(math.sin(a.yaw - b.yaw))
    half_x, half_z = b.size[0] / 2, b.size[2] / 2
    return (
        abs(local_x) - a.size[0] / 2 - (c * half_x + s * half_z) >= gap
        or abs(local_z) - a.size[2] / 2 - (s * half_x + c * half_z) >= gap
    )
