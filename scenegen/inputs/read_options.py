"""How scenes are read, where it is for the user to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scenegen.inputs.limits import MAX_OBJECTS

InvertedMasks = Literal["ask", "invert", "keep"]
"""What becomes of masks that look as if object and background were swapped."""


@dataclass(frozen=True)
class ReadOptions:
    """What counts as an object.

    Attributes:
        max_objects: objects of one photo above which it is refused.
        min_area: pixels below which a connected area of a label image is left out; None takes one pixel of
            10,000 of the image.
        strict: refuse a scene with a mask that cannot be used, in place of leaving its object out.
        inverted: "ask" leaves the object of a mask that looks inverted out, and says what to answer.
    """

    max_objects: int = MAX_OBJECTS
    min_area: int | None = None
    strict: bool = False
    inverted: InvertedMasks = "ask"
