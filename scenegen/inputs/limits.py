"""Limits of what is read: above them an input is refused with one line that names the limit.

They keep a mistake, such as a photo taken for a label image, from filling the memory or the day.
"""

MAX_OBJECTS = 64
"""Objects of one scene; the attention between objects grows with their square."""

MAX_VIEWS = 32
"""Photos of one scene."""

MIN_MASK_PX = 4
"""Pixels of an object's mask."""

MIN_SIDE_PX = 16
"""Shorter side of a photo."""

MAX_ASPECT_RATIO = 8
"""Longer side of a photo over its shorter one."""
