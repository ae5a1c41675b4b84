"""Ranges that scenes are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, fields

from trellis_modules.config import check_range

Range = tuple[float, float]


@dataclass(frozen=True)
class ComposerOptions:
    """Ranges the composer draws from.

    Each ``..._probability`` is the part of the scenes that have the property; they are drawn independently of
    each other. With 0 nothing is drawn for it, so that scenes of older settings stay as they were.
    """

    elevation_deg: Range = (5.0, 50.0)  # how far the camera looks down
    fov_deg: Range = (30.0, 70.0)
    fill: Range = (0.78, 0.97)  # part of the half image that the boxes may reach
    min_visible_fraction: float = 0.4  # of sample points in the object's box
    min_extent: float = 0.07  # longest side of the projected box over the image side
    free_yaw_probability: float = 0.25
    scale_jitter: float = 0.0  # sizes are multiplied by up to 1 + this, or divided by it
    stretch_jitter: float = 0.0  # the same for each axis
    mirror_probability: float = 0.0
    max_attempts: int = 60

    low_probability: float = 0.0  # the camera looks nearly level ...
    low_elevation_deg: Range = (0.0, 15.0)
    wide_probability: float = 0.0  # through a wide lens ...
    wide_fov_deg: Range = (70.0, 95.0)
    small_probability: float = 0.0  # the group is a small part of the picture, and mostly low in it
    small_fill: Range = (0.35, 0.75)
    cut_probability: float = 0.0  # the frame cuts objects
    cut_fill: Range = (1.05, 1.6)
    min_in_frame: float = 0.4  # of the sample points of a cut object's box
    hidden_probability: float = 0.0  # objects may hide more of each other, and do so where a camera is found
    hidden_visible_fraction: Range = (0.12, 0.6)  # of the sample points of the object of which least is seen

    carry_probability: float = 0.5  # of adding a thing on top of another, where one more is wanted
    hanging_probability: float = 0.0  # a lamp hangs from the ceiling
    mounted_probability: float = 0.0  # one or two things are on a wall
    closed_room_probability: float = 0.0  # walls on all sides before which the camera stands, and a ceiling
    ceiling_m: Range = (2.2, 3.3)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_probability", "_fraction", "min_in_frame")) and not isinstance(
                value, tuple
            ):
                check_range(field.name, value, 0, 1)
            if isinstance(value, tuple) and not value[0] <= value[1]:
                raise ValueError(f"{field.name}: expected the lower number first, got {list(value)}")
        for name in ("fov_deg", "wide_fov_deg"):
            check_range(name, getattr(self, name)[0], 1)
            check_range(name, getattr(self, name)[1], 1, 150)
        check_range("max_attempts", self.max_attempts, 1)


TEST_OPTIONS = ComposerOptions()
"""Those of the test scenes."""
