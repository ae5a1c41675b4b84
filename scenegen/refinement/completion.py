"""Shapes completed so that they stand: loose pieces first, then legs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scenegen.pipelines.result import GeneratedObject
from scenegen.refinement.legs import complete_legs
from scenegen.refinement.pieces import tidy_pieces


def completed(item: GeneratedObject) -> tuple[GeneratedObject, dict[str, Any]]:
    """Complete the shape of an object that has a mesh.

    Returns:
        The object; its mesh is the same where nothing had to be done. And what was done, ready for JSON:
        ``pieces_joined``, ``pieces_dropped``, ``pieces_loose`` (still), ``legs_added``, ``steady`` (whether
        its centre of mass is above its feet).
    """
    tidied = tidy_pieces(item.mesh)
    legs = complete_legs(tidied.mesh)
    report = {
        "pieces_joined": tidied.joined,
        "pieces_dropped": tidied.dropped,
        "pieces_loose": tidied.left,
        "legs_added": legs.added,
        "steady": legs.steady,
    }
    return (item if legs.mesh is item.mesh else replace(item, mesh=legs.mesh)), report
