"""Shapes completed so that they stand: loose pieces first, then legs, then what feet stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from scenegen.geometry import sanitize_pose
from scenegen.pipelines.result import GeneratedObject
from scenegen.refinement.footing import complete_footing
from scenegen.refinement.legs import complete_legs
from scenegen.refinement.pieces import tidy_pieces
from scenegen.refinement.solid import solid_of
from scenegen.refinement.support import standing_objects

_RESOLUTION = 32  # of the solids by which it is told what stands


def completed(items: Sequence[GeneratedObject], query: int) -> list[tuple[GeneratedObject, dict[str, Any]]]:
    """Complete the shapes of a scene.

    Args:
        items: objects that have a mesh.
        query: place in the list of the object that defines the frame.

    Returns:
        The objects, with the same meshes where nothing had to be done. And what was done to each, ready for
        JSON: ``pieces_joined``, ``pieces_dropped``, and of what stands and does not hang ``legs_added``,
        mirrored ones; ``legs_plain``; ``levelled``, up to which height in its own longest sides its underside
        was evened; ``steady``, whether its centre of mass is well above its feet now.
    """
    tidied = [_in_one_piece(item) for item in items]
    solids = [solid_of(item.mesh, _RESOLUTION) for item, _ in tidied]
    poses = torch.stack([sanitize_pose(item.pose.float()) for item in items])
    stands = standing_objects(solids, poses, query)
    found = []
    for (item, report), upright in zip(tidied, stands, strict=True):
        completed_item, more = _on_its_feet(item) if upright else (item, _NOTHING)
        found.append((completed_item, report | more))
    return found


_NOTHING = {"legs_added": 0, "legs_plain": 0, "levelled": 0.0, "steady": False}
"""Done to what hangs."""


def _in_one_piece(item: GeneratedObject) -> tuple[GeneratedObject, dict[str, Any]]:
    """An object without loose pieces, and what was done."""
    tidied = tidy_pieces(item.mesh)
    made = item if tidied.mesh is item.mesh else replace(item, mesh=tidied.mesh)
    return made, {"pieces_joined": tidied.joined, "pieces_dropped": tidied.dropped}


def _on_its_feet(item: GeneratedObject) -> tuple[GeneratedObject, dict[str, Any]]:
    """An object that stands if that can be, and what was done."""
    legs = complete_legs(item.mesh)
    joined = (
        tidy_pieces(legs.mesh).mesh if legs.added else legs.mesh
    )  # a mirrored leg may end short of the body
    footing = complete_footing(joined)
    report = {
        "legs_added": legs.added,
        "legs_plain": footing.legs,
        "levelled": footing.levelled,
        "steady": footing.steady,
    }
    return (item if footing.mesh is item.mesh else replace(item, mesh=footing.mesh)), report
