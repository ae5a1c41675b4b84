"""What stands about in rooms: plants of many kinds, vases, bowls, books, cushions, baskets, bottles."""

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
    rod,
    tube,
)


def broad_plant(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A rubber plant or fiddle fig: broad oval leaves along one to three stems."""
    piece, size = Assembly(), rng.uniform(0.5, 2.0)
    pot = _pot(rng, piece, size * rng.uniform(0.16, 0.26))
    green, bark = materials.leaf(rng), materials.wood(rng)
    for stem in range(int(rng.integers(1, 4))):
        lean = rng.normal(0, 0.08, 2) * size
        height = (size - pot) * rng.uniform(0.6, 0.95)
        piece.add(
            rod((0, pot * 0.7, 0), (lean[0], pot + height, lean[1]), 0.012 * size, 0.006 * size, 6), bark
        )
        for number in range(int(rng.integers(6, 16))):
            share = rng.uniform(0.2, 1.0)
            length = size * rng.uniform(0.1, 0.24)
            leaf = _oval_leaf(length, length * rng.uniform(0.35, 0.7), rng.uniform(0.3, 1.5))
            place = (share * lean[0], pot + share * height, share * lean[1])
            turned = leaf.turned("y", 2.4 * number + stem + rng.uniform(-0.4, 0.4))
            piece.add(turned.moved(*place), materials.varied(rng, green, 0.3))
    return piece, 1


def palm(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Fronds with narrow leaflets that bend outwards, from the pot or a trunk."""
    piece, size = Assembly(), rng.uniform(0.6, 2.1)
    pot = _pot(rng, piece, size * rng.uniform(0.14, 0.24))
    trunk = pot + (size * rng.uniform(0.15, 0.4) if rng.random() < 0.4 else 0.0)
    if trunk > pot:
        piece.add(rod((0, pot * 0.8, 0), (0, trunk, 0), 0.02 * size, 0.015 * size), materials.wood(rng))
    green, reach = materials.leaf(rng), size - trunk
    for number in range(int(rng.integers(5, 10))):
        bend, length = rng.uniform(0.4, 1.6), reach * rng.uniform(0.7, 1.1)
        angles = bend * np.linspace(0.15, 1.0, 6) ** 1.3
        y = np.concatenate([[0], np.cumsum(length / 6 * np.cos(angles))])
        z = np.concatenate([[0], np.cumsum(length / 6 * np.sin(angles))])
        frond = Assembly()
        shade = materials.varied(rng, green, 0.25)
        frond.add(tube(np.stack([0 * y, y, z], 1), 0.005 * size, 4, 0.002 * size), shade)
        for k in range(1, 7):
            wide = length * 0.16 * np.sin(np.pi * (0.25 + 0.7 * k / 7))
            leaflet = _oval_leaf(wide * 1.6, wide * 0.22, 1.2, steps=3).turned("y", np.pi / 2)
            frond.add_pair(leaflet.moved(0, y[k], z[k]), shade)
        vertices, faces, _ = frond.joined()
        turned = Shape(vertices, faces).turned("y", 2.4 * number + rng.uniform(-0.3, 0.3))
        piece.add(turned.moved(y=trunk * 0.95), shade)
    return piece, 1


def sword_plant(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Stiff upright leaves, or the round body of a cactus with arms."""
    piece, size = Assembly(), rng.uniform(0.2, 1.0)
    pot = _pot(rng, piece, size * rng.uniform(0.25, 0.4))
    green = materials.leaf(rng)
    if rng.random() < 0.3:
        girth = size * rng.uniform(0.08, 0.2)
        piece.add(
            cushion(2 * girth, size - pot * 0.8, 2 * girth, 0.8, 12).moved(y=(size + pot * 0.8) / 2), green
        )
        for side in (-1, 1)[: int(rng.integers(0, 3))]:
            low, out = pot + (size - pot) * rng.uniform(0.2, 0.5), side * girth * rng.uniform(1.6, 2.4)
            arm = [(0, low, 0), (out, low + girth * 0.3, 0), (out, low + girth * rng.uniform(1.5, 3), 0)]
            piece.add(tube(arm, girth * 0.5, 8, girth * 0.35), green)
        return piece, 1
    for number in range(int(rng.integers(6, 20))):
        length = (size - pot * 0.8) * rng.uniform(0.6, 1.0)
        leaf = _oval_leaf(length, length * rng.uniform(0.07, 0.14), rng.uniform(0.0, 0.25))
        foot = rng.normal(0, 0.04, 2) * size
        turned = leaf.turned("y", 2.4 * number + rng.uniform(-0.4, 0.4))
        piece.add(turned.moved(foot[0], pot * 0.8, foot[1]), materials.varied(rng, green, 0.25))
    return piece, 1


def flowers(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A bunch of flowers or twigs in a vase."""
    piece, size = Assembly(), rng.uniform(0.2, 0.7)
    vase_height = size * rng.uniform(0.35, 0.6)
    _vase(rng, piece, vase_height)
    green, petal = materials.leaf(rng), materials.fabric(rng)
    for _ in range(int(rng.integers(4, 14))):
        spread = rng.normal(0, 0.16, 2) * size
        tip = (spread[0], size * rng.uniform(0.75, 1.0), spread[1])
        piece.add(rod((0, vase_height * 0.7, 0), tip, 0.004, 0.003, 4), green)
        bloom = size * rng.uniform(0.06, 0.14)
        piece.add(cushion(bloom, bloom * 0.8, bloom, 1.0, 6).moved(*tip), materials.varied(rng, petal, 0.25))
        if rng.random() < 0.7:
            leaf = _oval_leaf(size * 0.2, size * 0.07, rng.uniform(0.4, 1.3)).turned("y", rng.uniform(0, 6.3))
            piece.add(leaf.moved(tip[0] * 0.4, vase_height * 0.95, tip[2] * 0.4), green)
    return piece, 1


def vase(rng: np.random.Generator) -> tuple[Assembly, int]:
    """An empty vase, jug or urn."""
    piece = Assembly()
    _vase(rng, piece, rng.uniform(0.12, 0.8))
    return piece, 0


def bowl(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A bowl, plate or cup, at times with fruit."""
    piece, radius = Assembly(), rng.uniform(0.06, 0.2)
    height, foot, thin = radius * rng.uniform(0.25, 2.2), radius * rng.uniform(0.3, 0.9), radius * 0.06
    outline = [(foot, 0), (radius, height), (radius - thin, height), (max(foot - thin, thin), thin * 2)]
    piece.add(lathe(outline, 18, hollow=True), materials.paint(rng))
    if height < radius and rng.random() < 0.5:
        colour = materials.fabric(rng)
        for number in range(int(rng.integers(3, 7))):
            size = radius * rng.uniform(0.5, 0.7)
            angle, out = 2.4 * number, radius * rng.uniform(0.0, 0.45)
            place = (out * np.sin(angle), height * 0.7 + size * 0.3, out * np.cos(angle))
            piece.add(cushion(size, size, size, 1.0, 8).moved(*place), materials.varied(rng, colour, 0.3))
        return piece, 1
    return piece, 0


def books(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A pile or a row of books."""
    piece, count = Assembly(), int(rng.integers(2, 8))
    if rng.random() < 0.5:
        level = 0.0
        for _ in range(count):
            width, thick, depth = rng.uniform(0.18, 0.3), rng.uniform(0.01, 0.05), rng.uniform(0.13, 0.22)
            book = box(width, thick, depth).turned("y", rng.normal(0, 0.15))
            piece.add(book.moved(y=level + thick / 2), materials.paint(rng))
            level += thick
        return piece, 1
    x = 0.0
    for _ in range(count + 2):
        thick, height, depth = rng.uniform(0.012, 0.05), rng.uniform(0.17, 0.3), rng.uniform(0.12, 0.2)
        piece.add(box(thick, height, depth).moved(x + thick / 2, height / 2), materials.paint(rng))
        x += thick
    return piece, 1


def pillow(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A cushion that lies or leans."""
    piece, width = Assembly(), rng.uniform(0.3, 0.6)
    depth, thick = width * rng.uniform(0.6, 1.0), rng.uniform(0.09, 0.18)
    lean = rng.uniform(0.9, 1.35) if rng.random() < 0.5 else 0.0
    piece.add(
        cushion(width, thick, depth, rng.uniform(0.4, 0.7), 14).turned("x", lean), materials.fabric(rng)
    )
    return piece, 1


def basket(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A basket, bin or bucket, open at the top or with a lid."""
    piece, height = Assembly(), rng.uniform(0.2, 0.65)
    radius = height * rng.uniform(0.3, 0.7)
    foot, thin = radius * rng.uniform(0.6, 1.0), 0.012
    colour = materials.wood(rng) if rng.random() < 0.5 else materials.metal(rng)
    if rng.random() < 0.35:
        piece.add(lathe([(foot, 0), (radius, height)], 20), colour)
        piece.add(lathe([(radius * 1.04, 0), (radius * 0.9, height * 0.08)], 20).moved(y=height), colour)
        piece.add(cushion(0.06, 0.04, 0.06, 1.0, 8).moved(y=height * 1.1), materials.metal(rng))
        return piece, 0
    outline = [(foot, 0), (radius, height), (radius - thin, height), (foot - thin, thin)]
    piece.add(lathe(outline, 20, hollow=True), colour)
    for y in np.linspace(0.2, 0.95, int(rng.integers(0, 6))) * height:
        rim = foot + (radius - foot) * y / height
        ring = [(rim, y), (rim + 0.006, y + 0.01), (rim, y + 0.02)]
        piece.add(lathe([*ring, (rim - thin, y + 0.01)], 20, hollow=True), materials.varied(rng, colour, 0.3))
    return piece, 0


def bottle(rng: np.random.Generator) -> tuple[Assembly, int]:
    """A bottle, candle or figure turned on a lathe."""
    piece, height = Assembly(), rng.uniform(0.1, 0.4)
    radius = height * rng.uniform(0.1, 0.3)
    levels = np.sort(rng.uniform(0.1, 0.95, int(rng.integers(2, 6)))) * height
    profile = [
        (radius, 0.0),
        *((radius * rng.uniform(0.25, 1.1), level) for level in levels),
        (radius * 0.3, height),
    ]
    piece.add(lathe(profile, 16), materials.paint(rng))
    return piece, 0


def _pot(rng: np.random.Generator, piece: Assembly, height: float) -> float:
    """Add a plant pot, round or square, and return its height."""
    colour = materials.paint(rng) if rng.random() < 0.6 else materials.wood(rng)
    radius, earth = height * rng.uniform(0.4, 0.75), (70, 50, 38)
    if rng.random() < 0.2:
        piece.add(box(2 * radius, height, 2 * radius, 0.008).moved(y=height / 2), colour)
        piece.add(box(1.8 * radius, 0.01, 1.8 * radius).moved(y=height), earth)
        return height
    rim = radius * rng.uniform(1.0, 1.35)
    piece.add(
        lathe([(radius, 0), (rim, height), (rim * 0.92, height), (rim * 0.88, height * 0.85)], 16), colour
    )
    piece.add(prism(rim * 0.88, rim * 0.88, 0.01, 16).moved(y=height * 0.86), earth)
    return height


def _vase(rng: np.random.Generator, piece: Assembly, height: float) -> None:
    """Add a vase with a random belly and neck."""
    radius = height * rng.uniform(0.14, 0.38)
    neck = radius * rng.uniform(0.25, 0.9)
    belly = rng.uniform(0.25, 0.65)
    profile = [
        (radius * rng.uniform(0.4, 0.9), 0),
        (radius, height * belly),
        (neck, height * rng.uniform(belly + 0.1, 0.92)),
        (neck * rng.uniform(1.0, 1.4), height),
        (neck * 0.85, height),
        (neck * 0.8, height * 0.9),
    ]
    piece.add(lathe(profile, 18), materials.paint(rng) if rng.random() < 0.7 else materials.metal(rng))


def _oval_leaf(length: float, width: float, lean: float, steps: int = 6) -> Shape:
    """An oval leaf with a fold along its middle that starts at the origin and leans towards +z."""
    along = np.linspace(0, 1, steps)
    angles = lean * (0.5 + 0.7 * along)
    y = np.concatenate([[0], np.cumsum(length / (steps - 1) * np.cos(angles[1:]))])
    z = np.concatenate([[0], np.cumsum(length / (steps - 1) * np.sin(angles[1:]))])
    half = width / 2 * np.sin(np.pi * np.clip(0.1 + 0.86 * along, 0, 1)) ** 0.7
    thick = 0.0015
    ring = [(-1, 1, -thick), (-1, 1, thick), (0, 0, thick), (1, 1, thick), (1, 1, -thick), (0, 0, -thick)]
    vertices = [
        (side * half[i], y[i], z[i] - fold * 0.25 * half[i] + shift)
        for i in range(steps)
        for side, fold, shift in ring
    ]
    return Shape(np.array(vertices), ring_faces(steps, len(ring)))
