"""Draw the figure of ``docs/frames.md``: the frames of a scene's files and the maps between them.

    python scripts/draw_frames.py

The axes are those of the matrices in the code, so that the figure cannot say something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scenegen.cli.parser import CommandParser
from scenegen.export.frames import PLY_TO_GLB

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "frames.svg"

_WIDTH, _HEIGHT = 920, 430
_BOX = (200, 120)
_AXIS = 30  # pixels of a unit axis
_COLOURS = ("#c0392b", "#27ae60", "#2c6fbb")  # x, y, z
_SEEN_FROM = np.array(
    [[0.92, 0.0, -0.5], [0.2, -0.92, 0.3]]
)  # y up and z to the viewer -> pixels right, down

_UPRIGHT = np.eye(3)
_OPENCV = np.diag([1.0, -1.0, -1.0])  # x right, y down, z forward
_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])

# name, corner of the box, its axes as columns in a y-up view, lines below the name
_FRAMES = {
    "object": ((20, 30), _UPRIGHT, ("obj_<k>.glb, .obj", "unit: edge of its cube")),
    "query": ((360, 30), _UPRIGHT, ("poses in poses.json", "the query's object frame")),
    "photo": ((700, 30), _OPENCV, ("camera in poses.json", "x right, y down, z forward")),
    "splat": ((20, 280), PLY_TO_GLB[:3, :3], ("scene.ply, obj_<k>.ply", "y down")),
    "scene": ((360, 280), _UPRIGHT, ("scene.glb, .obj, .usda, .usdz", "longest side 1.96, y up")),
    "Blender": ((700, 280), _Z_UP, ("after import, z up", "camera: photo")),
}

_ARROWS = (
    ("object", "query", "s R p + t"),
    ("query", "photo", "extrinsics"),
    ("query", "scene", "scale (x - centre)"),
    ("splat", "scene", "ply_to_glb"),
    ("scene", "Blender", "(x, -z, y)"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the figure."""
    parser = CommandParser(__doc__)
    parser.add_argument("--output", type=Path, default=FIGURE, help="default: %(default)s")
    parser.parse_args(arguments).output.write_text(figure(), encoding="utf-8")


def figure() -> str:
    """The drawing as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="#555"/></marker></defs>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for name, (corner, axes, lines) in _FRAMES.items():
        parts += _frame(name, corner, axes, lines)
    for start, end, text in _ARROWS:
        parts += _arrow(_FRAMES[start][0], _FRAMES[end][0], text)
    return "\n".join([*parts, "</svg>", ""])


def _frame(name: str, corner: tuple[int, int], axes: np.ndarray, lines: tuple[str, ...]) -> list[str]:
    x, y = corner
    parts = [
        f'<rect x="{x}" y="{y}" width="{_BOX[0]}" height="{_BOX[1]}" rx="8" fill="#f6f7f9" stroke="#888"/>',
        _text(x + 12, y + 24, name, size=17, weight="bold"),
        *(_text(x + 12, y + 88 + 18 * row, line, size=12) for row, line in enumerate(lines)),
    ]
    origin = np.array([x + 140.0, y + 46.0])
    for axis, colour, letter in zip(np.asarray(axes).T, _COLOURS, "xyz"):
        tip, label = (origin + length * (_SEEN_FROM @ axis) for length in (_AXIS, _AXIS + 9))
        parts.append(_line(origin, tip, colour))
        parts.append(_text(label[0] - 3, label[1] + 4, letter, size=12, colour=colour))
    return parts


def _arrow(start: tuple[int, int], end: tuple[int, int], text: str) -> list[str]:
    """An arrow between two boxes that lie beside or below each other."""
    size, first, last = np.array(_BOX), np.array(start, float), np.array(end, float)
    if start[1] == end[1]:
        tail, head = first + size * (1, 0.5), last + size * (0, 0.5)
        place = (tail + head) / 2 + (0, -8)
    else:
        tail, head = first + size * (0.5, 1), last + size * (0.5, 0)
        place = (tail + head) / 2 + (66, 4)
    return [
        _line(tail, head, "#555", 'marker-end="url(#tip)"'),
        _text(*place, text, size=12, anchor="middle"),
    ]


def _line(start: np.ndarray, end: np.ndarray, colour: str, more: str = "") -> str:
    places = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {places} stroke="{colour}" stroke-width="2" {more}/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    colour: str = "#222",
    weight: str = "normal",
    anchor: str = "start",
) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    look = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escaped}</text>'


if __name__ == "__main__":
    main()
