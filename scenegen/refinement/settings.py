"""How placement refinement goes about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RefinementSettings:
    """How far and how carefully objects are moved; lengths are in longest sides of the query.

    Attributes:
        resolution: voxels along an object.
        softness: one round each; what doubt about a place costs, in shares of penetrated volume.
        typical_shift, typical_turn_deg: distances from the estimate that make a doubt of 1.
        mask_weight: doubt about a place where the mask is not covered at all.
        max_shift: no object moves further from its estimate.
        tolerance: share of penetrated volume from which an object searches widely.
        wide_rings: radii of that search around the best place so far.
        steps: of the finer searches.
        free_rings: radii at which at last a place is looked for where an object is in no other one ...
        free_share: ... which it is with more than this share of the smaller one's volume.
        search_points, contact_points: while searching, penetration is measured at so many points of an object
            at most: of the whole object, and of what is near another one.
        complete: complete shapes first, so that they stand: loose pieces and missing legs.
        settle: afterwards, let the objects come to rest under gravity, which needs MuJoCo.
    """

    resolution: int = 80
    softness: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003, 0.001)
    typical_shift: float = 0.1
    typical_turn_deg: float = 10.0
    mask_weight: float = 10.0
    max_shift: float = 0.9
    tolerance: float = 0.003
    wide_rings: tuple[float, ...] = (0.08, 0.16, 0.28, 0.42, 0.58, 0.8)
    steps: tuple[float, ...] = (0.06, 0.03, 0.015, 0.007)
    free_share: float = 0.0005
    free_rings: tuple[float, ...] = (0.01, 0.02, 0.04, 0.06, 0.09, 0.12, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65)
    search_points: int = 12_000
    contact_points: int = 1200
    complete: bool = True
    settle: bool = False

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.contact_points < 1 or not self.softness or min(self.softness) <= 0:
            raise ValueError(
                "RefinementSettings: expected resolution >= 8, contact_points >= 1 and positive softness, "
                f"got {self.resolution}, {self.contact_points}, {self.softness}"
            )


DEFAULT_SETTINGS = RefinementSettings()
