"""Lamps that hang from ceilings, and what is fixed to walls: pictures, shelves, clocks, radiators."""

from __future__ import annotations

import numpy as np

from scenegen.synthesis.furniture.procedural import materials
from scenegen.synthesis.furniture.procedural.shapes import (
    Assembly,
    Shape,
    box,
    cushion,
    lathe,
    prism,
    ring_faces,
    tube,
)

_GLOW = (255, 246, 222)


def pendant_lamp(rng: np.random.Generator) -> tuple[Assembly, int]:
    """One shade on a cord: cone, dome, drum, globe or open frame."""
    piece, cord = Assembly(), rng.uniform(0.2, 1.1)
    radius = rng.uniform(0.1, 0.32)
    height = radius * rng.uniform(0.6, 1.6)
    colour = materials.paint(rng) if rng.random() < 0.6 else materials.metal(rng)
    piece.add(prism(0.05, 0.045, 0.03, 14).moved(y=height + cord - 0.03), materials.metal(rng))
    piece.add(prism(0.006, 0.006, cord, 6).moved(y=height), (40, 40, 40))
    kind, thin = rng.integers(5), 0.006
    if kind == 0:  # cone or drum
        top = radius * rng.uniform(0.1, 1.0)
        outline = [(radius, 0), (top, height), (max(top - thin, 0.002), height), (radius - thin, 0)]
        piece.add(lathe(outline, 20, hollow=True), colour)
        piece.add(box(2 * top, 0.008, 0.01).moved(y=height * 0.98), (60, 60, 60))
    elif kind == 1:  # dome
        angles = np.linspace(0, np.pi / 2 - 0.05, 6)
        outer = [(radius * np.cos(a), height * np.sin(a)) for a in angles]
        inner = [((radius - thin) * np.cos(a), (height - thin) * np.sin(a)) for a in angles[::-1]]
        piece.add(lathe([*outer, *inner], 20, hollow=True), colour)
    elif kind == 2:  # globe
        piece.add(cushion(2 * radius, height, 2 * radius, 1.0, 16).moved(y=height / 2), _GLOW)
        return piece, 0
    elif kind == 3:  # frame of bars
        for number in range(8):
            angle = np.pi * number / 4
            x, z = np.sin(angle), np.cos(angle)
            path = [
                (0.02 * x, height, 0.02 * z),
                (radius * x, height * 0.5, radius * z),
                (0.04 * x, 0, 0.04 * z),
            ]
            piece.add(tube(path, 0.005, 5), colour)
    else:  # stacked rings
        for y in np.linspace(0, height * 0.85, int(rng.integers(2, 5))):
            ring = radius * rng.uniform(0.6, 1.0)
            outline = [(ring, y), (ring, y + 0.03), (ring * 0.8, y + 0.03), (ring * 0.8, y)]
            piece.add(lathe(outline, 18, hollow=True), colour)
        piece.add(prism(0.012, 0.012, height, 8), colour)
    bulb = min(radius * 0.5, 0.09)
    piece.add(cushion(bulb, bulb * 1.2, bulb, 1.0, 8).moved(y=height * 0.4), _GLOW)
    piece.add(prism(0.008, 0.008, height * 0.62, 6).moved(y=height * 0.4), (60, 60, 60))
    return piece, 8 if kind == 3 else 0


def chandelier(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Arms or a ring with several lights under a rod."""
    piece, metal = Assembly(), materials.metal(rng)
    radius, rod_length, arms = rng.uniform(0.2, 0.5), rng.uniform(0.25, 0.9), int(rng.integers(3, 9))
    piece.add(prism(0.055, 0.05, 0.03, 14).moved(y=rod_length - 0.03), metal)
    piece.add(prism(0.01, 0.01, rod_length, 8), metal)
    is_ring, dip = rng.random() < 0.4, rng.uniform(-0.05, 0.15)
    if is_ring:
        band = rng.uniform(0.02, 0.25)
        outline = [(radius, -band), (radius, 0), (radius - 0.015, 0), (radius - 0.015, -band)]
        piece.add(lathe(outline, 24, hollow=True), metal if rng.random() < 0.6 else _GLOW)
    size, lifts = radius * rng.uniform(0.12, 0.24), rng.random() < 0.5
    shade = materials.paint(rng) if rng.random() < 0.4 else _GLOW
    for number in range(arms):
        angle = 2 * np.pi * number / arms
        x, z = np.sin(angle), np.cos(angle)
        path = [
            (0, 0.02, 0),
            (radius * 0.5 * x, -dip, radius * 0.5 * z),
            (radius * 0.98 * x, 0, radius * 0.98 * z),
        ]
        piece.add(tube(path, 0.008, 6), metal)
        light = (
            lathe([(size * 0.6, 0), (size, size * 1.5)], 12)
            if lifts
            else cushion(size * 2, size * 2, size * 2, 1.0, 10)
        )
        piece.add(light.moved(radius * x, 0 if lifts else -size * 0.8, radius * z), shade)
    return piece, arms


def ceiling_lamp(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A flat drum or bowl right under the ceiling, round or square."""
    piece, radius, height = Assembly(), rng.uniform(0.14, 0.35), rng.uniform(0.06, 0.16)
    rim = materials.metal(rng)
    if rng.random() < 0.3:
        piece.add(box(2 * radius, height, 2 * radius, 0.01).moved(y=height / 2), _GLOW)
        piece.add(box(2.06 * radius, 0.02, 2.06 * radius).moved(y=height), rim)
        return piece, 4
    piece.add(
        lathe([(radius * rng.uniform(0.3, 1.0), 0), (radius, height * 0.6), (radius, height)], 22), _GLOW
    )
    piece.add(prism(radius * 1.04, radius * 1.04, 0.02, 22).moved(y=height), rim)
    return piece, 0


def picture(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A framed picture or poster with a few areas of colour."""
    piece, width, height = Assembly(), rng.uniform(0.25, 1.0), rng.uniform(0.25, 0.9)
    depth, border = rng.uniform(0.015, 0.05), rng.uniform(0.01, 0.06)
    _frame(piece, (width, height, depth), border, materials.board(rng))
    inner = width - 2 * border, height - 2 * border
    piece.add(box(*inner, depth * 0.5).moved(z=-depth * 0.2), materials.paint(rng))
    for layer in range(int(rng.integers(1, 5))):
        wide, high = inner[0] * rng.uniform(0.15, 0.8), inner[1] * rng.uniform(0.1, 0.6)
        x = rng.uniform(-1, 1) * (inner[0] - wide) / 2
        y = rng.uniform(-1, 1) * (inner[1] - high) / 2
        piece.add(
            box(wide, high, depth * 0.1).moved(x, y, depth * (0.05 + 0.06 * layer)), materials.fabric(rng)
        )
    return piece, 1


def mirror(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A round or rectangular mirror in a frame."""
    piece, glass = Assembly(), materials.varied(rng, (190, 200, 205), 0.15)
    colour, depth = materials.board(rng), rng.uniform(0.015, 0.05)
    if rng.random() < 0.4:
        radius, border = rng.uniform(0.2, 0.45), rng.uniform(0.01, 0.05)
        ring = [(radius, 0), (radius, depth), (radius - border, depth), (radius - border, 0)]
        piece.add(lathe(ring, 28, hollow=True).turned("x", np.pi / 2), colour)
        piece.add(prism(radius - border, radius - border, depth * 0.5, 28).turned("x", np.pi / 2), glass)
        return piece, 1
    width, height, border = rng.uniform(0.3, 0.9), rng.uniform(0.5, 1.5), rng.uniform(0.01, 0.07)
    _frame(piece, (width, height, depth), border, colour)
    piece.add(box(width - 2 * border, height - 2 * border, depth * 0.5).moved(z=-depth * 0.2), glass)
    return piece, 1


def wall_shelf(rng: np.random.Generator) -> tuple[Assembly, int]:
    """One to three boards on brackets, or an open box, with a few things on it."""
    piece, colour = Assembly(), materials.board(rng)
    width, depth, thick = rng.uniform(0.4, 1.3), rng.uniform(0.15, 0.3), rng.uniform(0.015, 0.04)
    rows, gap = int(rng.integers(1, 4)), rng.uniform(0.22, 0.4)
    for row in range(rows):
        piece.add(box(width, thick, depth, 0.002).moved(y=row * gap), colour)
        for x in np.linspace(-0.42, 0.42, int(rng.integers(0, 6))) * width:
            height = gap * rng.uniform(0.3, 0.8)
            thing = box(width * rng.uniform(0.03, 0.09), height, depth * rng.uniform(0.4, 0.8))
            piece.add(thing.moved(x, row * gap + (thick + height) / 2), materials.paint(rng))
    top = (rows - 1) * gap
    if rng.random() < 0.5 and rows > 1:
        side = box(thick, top + thick, depth).moved(x=width / 2, y=top / 2)
        piece.add_pair(side, colour)
    else:
        bracket = box(0.02, 0.1, depth * 0.8).moved(x=width * 0.35, y=-0.05, z=-depth * 0.08)
        piece.add_pair(bracket, materials.metal(rng))
        if rows > 1:
            piece.add_pair(
                box(0.02, top, 0.02).moved(width * 0.35, top / 2, -depth * 0.46), materials.metal(rng)
            )
    return piece, 1


def wall_cabinet(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A box with one to three doors."""
    piece, colour, metal = Assembly(), materials.board(rng), materials.metal(rng)
    width, height, depth = rng.uniform(0.4, 1.2), rng.uniform(0.35, 0.8), rng.uniform(0.2, 0.38)
    piece.add(box(width, height, depth, 0.004), colour)
    doors = int(rng.integers(1, 4))
    door_colour = materials.varied(rng, colour, 0.15) if rng.random() < 0.7 else materials.paint(rng)
    for number in range(doors):
        x = ((number + 0.5) / doors - 0.5) * width
        piece.add(
            box(width / doors - 0.008, height - 0.01, 0.018, 0.003).moved(x, 0, depth / 2 + 0.01), door_colour
        )
        handle = box(0.012, height * 0.25, 0.02).moved(
            x + 0.35 * width / doors, -height * 0.25, depth / 2 + 0.03
        )
        piece.add(handle, metal)
    return piece, 1


def wall_clock(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A round clock with hands and marks."""
    piece, radius, depth = Assembly(), rng.uniform(0.1, 0.28), rng.uniform(0.025, 0.06)
    face = materials.varied(rng, (240, 238, 230), 0.06) if rng.random() < 0.7 else materials.paint(rng)
    dark = (25, 25, 28) if sum(face) > 300 else (235, 235, 235)
    border = radius * rng.uniform(0.05, 0.2)
    ring = [(radius, 0), (radius, depth), (radius - border, depth), (radius - border, 0)]
    piece.add(lathe(ring, 28, hollow=True).turned("x", np.pi / 2), materials.board(rng))
    piece.add(prism(radius - border, radius - border, depth * 0.5, 28).turned("x", np.pi / 2), face)
    for number in range(12):
        mark = box(radius * 0.04, radius * 0.12, 0.004).moved(0, (radius - border) * 0.84, depth * 0.5)
        piece.add(mark.turned("z", np.pi * number / 6), dark)
    for length, thick in ((0.5, 0.05), (0.75, 0.03)):
        hand = box(radius * thick, radius * length, 0.005).moved(0, radius * length / 2 - 0.01, depth * 0.55)
        piece.add(hand.turned("z", rng.uniform(0, 2 * np.pi)), dark)
    return piece, 1


def wall_lamp(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A shade on an arm from a plate on the wall."""
    piece, metal, reach = Assembly(), materials.metal(rng), rng.uniform(0.08, 0.25)
    piece.add(box(0.08, rng.uniform(0.1, 0.25), 0.02, 0.004), metal)
    piece.add(tube([(0, 0, 0), (0, -0.02, reach * 0.6), (0, 0.02, reach)], 0.008, 6), metal)
    radius, height = rng.uniform(0.05, 0.12), rng.uniform(0.1, 0.22)
    top = radius * rng.uniform(0.5, 1.0)
    outline = [(radius, 0), (top, height), (top - 0.005, height), (radius - 0.005, 0)]
    piece.add(lathe(outline, 18, hollow=True).moved(y=0.02, z=reach), materials.paint(rng))
    bulb = cushion(radius * 0.8, height * 0.6, radius * 0.8, 1.0, 8)
    piece.add(bulb.moved(y=0.02 + height * 0.4, z=reach), _GLOW)
    return piece, 1


def radiator(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Ribs or a panel between two rails."""
    piece, white = Assembly(), materials.varied(rng, (238, 238, 235), 0.06)
    width, height, depth = rng.uniform(0.4, 1.4), rng.uniform(0.4, 0.75), rng.uniform(0.06, 0.14)
    ribs = max(4, int(width / rng.uniform(0.05, 0.09)))
    for x in np.linspace(-0.5, 0.5, ribs) * (width - 0.04):
        piece.add(box(0.7 * width / ribs, height, depth, 0.01).moved(x=x), white)
    for y in (-0.44, 0.44):
        piece.add(box(width, 0.04, depth * 0.6).moved(y=y * height), white)
    return piece, 1


def curtain(rng: np.random.Generator) -> tuple[Assembly, int]:
    """One or two folded curtains under a rod."""
    piece, colour = Assembly(), materials.fabric(rng)
    width, height, depth = rng.uniform(0.7, 2.0), rng.uniform(1.2, 2.0), rng.uniform(0.05, 0.1)
    folds = int(rng.integers(4, 9))
    steps = np.linspace(0, 1, 6 * folds + 1)
    for side in (-1, 1) if rng.random() < 0.7 else (rng.choice((-1, 1)),):
        span = width * rng.uniform(0.18, 0.45)
        x = side * (width / 2 - span * steps)
        z = depth / 2 * np.sin(2 * np.pi * folds * steps)
        piece.add(_sheet(x, z, height), materials.varied(rng, colour, 0.1))
    piece.add(
        tube([(-width * 0.53, height / 2, 0), (width * 0.53, height / 2, 0)], 0.014, 8), materials.metal(rng)
    )
    return piece, 1


def wall_television(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A flat screen on the wall."""
    piece, width = Assembly(), rng.uniform(0.6, 1.5)
    height, thick = width * rng.uniform(0.54, 0.6), rng.uniform(0.03, 0.08)
    piece.add(box(width, height, thick, 0.006), (rng.uniform(10, 60),) * 3)
    screen = (10, 12, 18) if rng.random() < 0.6 else materials.paint(rng)
    piece.add(box(width * 0.95, height * 0.92, 0.004).moved(z=thick / 2), screen)
    return piece, 1


def _frame(
    piece: Assembly, size: tuple[float, float, float], border: float, colour: materials.Colour
) -> None:
    """Four bars about a rectangle of (width, height, depth)."""
    width, height, depth = size
    piece.add_pair(box(border, height, depth).moved(x=(width - border) / 2), colour)
    for side in (-1, 1):
        piece.add(box(width - 2 * border, border, depth).moved(y=side * (height - border) / 2), colour)


def _sheet(x: np.ndarray, z: np.ndarray, height: float, thick: float = 0.004) -> Shape:
    """An upright sheet along a line of points (x, z), with as many closed corners."""
    low, high = -height / 2, height / 2
    ring = [(low, -thick), (low, thick), (high, thick), (high, -thick)]
    vertices = np.array([(across, y, along + shift) for across, along in zip(x, z) for y, shift in ring])
    faces = ring_faces(len(x), len(ring))
    return Shape(vertices, faces if x[-1] < x[0] else faces[:, ::-1])
