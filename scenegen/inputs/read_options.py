"""How scenes are read, where it is for the user to say."""

from __future__ import annotations

from dataclasses import dataclass

from scenegen.inputs.limits import MAX_OBJECTS


@dataclass(frozen=True)
class ReadOptions:
    """What counts as an object.

    Attributes:
        max_objects: objects of one photo above which it is refused.
        min_area: pixels below which a connected area of a label image is left out; None takes one pixel of
            10,000 of the image.
    """

    max_objects: int = MAX_OBJECTS
    min_area: int | None = None
