"""Tables of dual marching cubes, derived from the geometry of a cube instead of listed.

A case is the set of inside corners of a cube as an 8-bit number.  On every face of the cube the surface joins
crossing edges; connected crossing edges are one sheet, and each sheet gets one dual vertex.

Source: Nielson, "Dual Marching Cubes" (2004), for the vertices; Shen et al., "FlexiCubes" (2023), for the
treatment of ambiguous faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from trellis_modules.representations.mesh.cube_grid import CORNER_OFFSETS, NUM_CORNERS

# Corner pairs. The y edges run backwards, which gives all quads around an edge one winding rule.
EDGE_CORNERS = (
    (0, 1),
    (1, 5),
    (4, 5),
    (0, 4),
    (2, 3),
    (3, 7),
    (6, 7),
    (2, 6),
    (2, 0),
    (3, 1),
    (7, 5),
    (6, 4),
)
NUM_EDGES = len(EDGE_CORNERS)
NUM_CASES = 2**NUM_CORNERS
NO_SHEET = -1


@dataclass(frozen=True)
class CaseTables:
    """What each of the 256 cases looks like.

    Attributes:
        edge_sheet: (256, 12) int64, the sheet in [0, 4) that an edge belongs to; -1 where it is not crossed.
        num_sheets: (256,) int64, dual vertices of the case.
        problematic: (256,) bool, one ambiguous face whose other resolution would split the single sheet.
        across: (256, 3) int64, the step to the neighbour across that face; 0 where not problematic.
    """

    edge_sheet: np.ndarray
    num_sheets: np.ndarray
    problematic: np.ndarray
    across: np.ndarray


@dataclass(frozen=True)
class _Face:
    """One face of the cube: the step across it, its corners, its edges."""

    step: tuple[int, int, int]
    corners: frozenset[int]
    edges: tuple[int, ...]

    def edges_at(self, corner: int) -> list[int]:
        return [edge for edge in self.edges if corner in EDGE_CORNERS[edge]]


def _faces() -> list[_Face]:
    faces = []
    for axis in range(3):
        for side in (0, 1):
            corners = frozenset(k for k in range(NUM_CORNERS) if CORNER_OFFSETS[k][axis] == side)
            edges = tuple(e for e, ends in enumerate(EDGE_CORNERS) if corners.issuperset(ends))
            step = [0, 0, 0]
            step[axis] = 2 * side - 1
            faces.append(_Face((step[0], step[1], step[2]), corners, edges))
    return faces


def _crossed(case: int) -> list[int]:
    """Edges whose ends are on different sides."""
    return [e for e, (a, b) in enumerate(EDGE_CORNERS) if (case >> a & 1) != (case >> b & 1)]


def _sheets(case: int, faces: list[_Face], separated_side: int) -> list[int]:
    """Sheet of every edge; ambiguous faces cut off each of their corners on one side (1 = inside)."""
    crossed = _crossed(case)
    label = {edge: edge for edge in crossed}

    def join(edges: list[int]) -> None:
        old = {label[edge] for edge in edges}
        label.update({edge: min(old) for edge in crossed if label[edge] in old})

    for face in faces:
        on_face = [edge for edge in face.edges if edge in label]
        if len(on_face) == 2:
            join(on_face)
        elif len(on_face) == 4:
            for corner in face.corners:
                if (case >> corner & 1) == separated_side:
                    join(face.edges_at(corner))
    order = sorted(set(label.values()))
    return [order.index(label[edge]) if edge in label else NO_SHEET for edge in range(NUM_EDGES)]


def _ambiguous_faces(case: int, faces: list[_Face]) -> list[_Face]:
    crossed = set(_crossed(case))
    return [face for face in faces if crossed.issuperset(face.edges)]


@lru_cache(maxsize=1)
def case_tables() -> CaseTables:
    """Derive the tables; takes some milliseconds, once a process."""
    faces = _faces()
    inside_cut_off = np.array([_sheets(case, faces, separated_side=1) for case in range(NUM_CASES)])
    outside_cut_off = np.array([_sheets(case, faces, separated_side=0) for case in range(NUM_CASES)])
    num_sheets = inside_cut_off.max(axis=1) + 1
    splits = (num_sheets == 1) & (outside_cut_off.max(axis=1) + 1 == 2)
    problematic = np.zeros(NUM_CASES, dtype=bool)
    across = np.zeros((NUM_CASES, 3), dtype=np.int64)
    for case in range(NUM_CASES):
        ambiguous = _ambiguous_faces(case, faces)
        if len(ambiguous) == 1 and splits[case]:
            problematic[case] = True
            across[case] = ambiguous[0].step
    return CaseTables(inside_cut_off, num_sheets, problematic, across)
