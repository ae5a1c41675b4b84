"""Beds, lamps, plants, screens and bathroom pieces."""

from __future__ import annotations

import numpy as np

from scenegen.synthesis.furniture.procedural import materials
from scenegen.synthesis.furniture.procedural.shapes import (
    Assembly,
    Shape,
    box,
    cushion,
    lathe,
    panel,
    prism,
    rod,
    tube,
)


def bed(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Single or double bed: frame, mattress, blanket, pillows, headboard; head at -z."""
    is_double = rng.random() < 0.6
    width = rng.uniform(1.35, 1.9) if is_double else rng.uniform(0.8, 1.2)
    length, rise = rng.uniform(1.85, 2.15), rng.uniform(0.12, 0.35)
    frame, sheet, blanket = materials.board(rng), materials.paint(rng), materials.fabric(rng)
    if rng.random() < 0.35:
        frame = materials.fabric(rng)
    piece = Assembly()
    mattress = rng.uniform(0.14, 0.28)
    rail = rng.uniform(0.1, 0.22)
    piece.add(box(width, rail, length, 0.01).moved(y=rise + rail / 2), frame)
    top = rise + rail * 0.6 + mattress
    piece.add(cushion(width * 0.97, mattress, length * 0.97, 0.1, 16).moved(y=top - mattress / 2), sheet)
    cover = rng.uniform(0.55, 0.8) * length
    overhang = rng.uniform(-0.02, 0.04)
    spread = box(width + overhang, mattress * rng.uniform(0.5, 0.95), cover, 0.04)
    piece.add(spread.moved(y=top - mattress * 0.25, z=(length - cover) / 2 + 0.01), blanket)
    pillow_width = min(0.7, width * (0.44 if is_double else 0.75))
    pillow_colour = materials.varied(rng, sheet)
    for x in (-width * 0.24, width * 0.24) if is_double else (0.0,):
        pillow = cushion(pillow_width, 0.14, rng.uniform(0.35, 0.48), 0.5).turned("x", rng.uniform(0.0, 0.5))
        piece.add(pillow.moved(x=x, y=top + 0.06, z=-length / 2 + 0.28), pillow_colour)
    _headboard(rng, piece, (width, length), top + rng.uniform(0.2, 0.7), frame)
    if rng.random() < 0.3:
        foot = top + rng.uniform(-0.05, 0.25)
        piece.add(box(width, foot, 0.05, 0.01).moved(y=foot / 2, z=length / 2), frame)
    piece.add_corners(
        box(0.07, rise + 0.01, 0.07).moved(x=width / 2 - 0.05, y=rise / 2, z=length / 2 - 0.06), frame
    )
    return piece, 1


def _headboard(
    rng: np.random.Generator, piece: Assembly, size: tuple, height: float, colour: materials.Colour
) -> None:
    width, length = size
    kind, z = rng.integers(4), -length / 2
    if kind == 0:
        piece.add(box(width, height, rng.uniform(0.04, 0.12), 0.015).moved(y=height / 2, z=z), colour)
    elif kind == 1:
        back = cushion(width + rng.uniform(0, 0.15), height * 0.75, 0.14, 0.12, 16)
        piece.add(back.moved(y=height * 0.625, z=z - 0.02), materials.fabric(rng))
    elif kind == 2:
        piece.add_pair(box(0.06, height, 0.06).moved(x=width / 2 - 0.03, y=height / 2, z=z), colour)
        for y in np.linspace(height * 0.6, height - 0.06, int(rng.integers(2, 4))):
            piece.add(box(width - 0.1, 0.09, 0.025).moved(y=y, z=z), colour)
    else:
        piece.add_pair(tube([(width / 2, 0, z), (width / 2, height, z)], 0.025), colour)
        piece.add(tube([(-width / 2, height * 0.97, z), (width / 2, height * 0.97, z)], 0.02), colour)
        for x in np.linspace(-width / 2, width / 2, int(rng.integers(5, 12)))[1:-1]:
            piece.add(tube([(x, height * 0.4, z), (x, height * 0.97, z)], 0.01, 6), colour)


def desk_lamp(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Table lamp: a shade on a turned or plain stem, or a jointed work lamp."""
    metal, piece = materials.metal(rng), Assembly()
    if rng.random() < 0.35:
        return _work_lamp(rng, piece, metal)
    height = rng.uniform(0.3, 0.7)
    shade_height, radius = height * rng.uniform(0.3, 0.5), height * rng.uniform(0.22, 0.38)
    foot, thin = radius * rng.uniform(0.5, 0.9), rng.uniform(0.01, 0.02)
    stem = height - shade_height * 0.8
    bulge = rng.uniform(thin, radius * 0.65) if rng.random() < 0.6 else thin
    profile = [
        (foot, 0),
        (foot, 0.015),
        (thin * 1.5, 0.03),
        (bulge, stem * 0.35),
        (bulge * 0.8, stem * 0.6),
        (thin, stem),
    ]
    piece.add(lathe(profile, 16), materials.paint(rng) if bulge > thin else metal)
    _shade(rng, piece, radius, shade_height, height - shade_height)
    return piece, 0


def floor_lamp(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Standing lamp: pole or tripod under a shade, or an arc lamp."""
    metal, piece = materials.metal(rng), Assembly()
    height = rng.uniform(1.3, 1.85)
    radius, shade_height = rng.uniform(0.14, 0.28), rng.uniform(0.18, 0.38)
    base = height - shade_height
    kind = rng.integers(3)
    if kind == 0:
        foot = rng.uniform(0.11, 0.19)
        piece.add(
            lathe([(foot, 0), (foot, 0.02), (0.02, 0.035), (0.013, 0.06), (0.013, base + 0.1)], 16), metal
        )
    elif kind == 1:
        colour, reach = materials.wood(rng), rng.uniform(0.22, 0.35)
        leg = rod((0, 0, reach), (0, base + 0.05, 0.02), 0.014, 0.018, 6)
        for number in range(3):
            piece.add(leg.turned("y", 2 * np.pi * number / 3), colour)
    else:
        reach = rng.uniform(0.4, 0.9)
        angles = np.linspace(0, np.pi * 0.8, 9)
        arc = [
            (reach / 2 * (1 - np.cos(angle)) - reach / 2, base * 0.55 + base * 0.5 * np.sin(angle), 0)
            for angle in angles
        ]
        piece.add(tube([(-reach / 2, 0.02, 0), *arc], 0.013, 6), metal)
        piece.add(prism(0.16, 0.16, 0.03, 18).moved(x=-reach / 2), metal)
        lamp = Assembly()
        _shade(rng, lamp, radius * 0.9, shade_height * 0.7, 0.0)
        piece.add_assembly(lamp, x=arc[-1][0], y=arc[-1][1] - shade_height * 0.65)
        return piece, 1
    _shade(rng, piece, radius, shade_height, base)
    return piece, 1 if kind == 1 else 0


def _shade(rng: np.random.Generator, piece: Assembly, radius: float, height: float, low: float) -> None:
    """Lamp shade open at both ends, as a thin turned shell, with its bulb."""
    top = radius * rng.uniform(0.45, 1.0)
    thin = 0.006
    outline = [(radius, low), (top, low + height), (top - thin, low + height), (radius - thin, low)]
    piece.add(
        lathe(outline, 20, hollow=True), materials.paint(rng) if rng.random() < 0.5 else (238, 226, 200)
    )
    bulb = radius * 0.3
    piece.add(cushion(bulb, bulb * 1.3, bulb, 1.0, 8).moved(y=low + height * 0.45), (255, 248, 220))
    piece.add(box(2 * top - thin, 0.006, 0.008).moved(y=low + height * 0.8), (60, 60, 60))


def _work_lamp(rng: np.random.Generator, piece: Assembly, metal: materials.Colour) -> tuple[Assembly, int]:
    lower, upper = rng.uniform(0.18, 0.32), rng.uniform(0.15, 0.3)
    lean, bend = rng.uniform(0.05, 0.5), rng.uniform(0.5, 1.2)
    elbow = np.array([0, 0.03 + lower * np.cos(lean), -lower * np.sin(lean)])
    head = elbow + (0, upper * np.cos(bend), upper * np.sin(bend))
    colour = materials.paint(rng)
    foot = rng.uniform(0.06, 0.1)
    piece.add(prism(foot, foot * 0.95, 0.025, 18), colour)
    piece.add(tube([(0, 0.02, 0), elbow], 0.008, 6), metal)
    piece.add(tube([elbow, head], 0.008, 6), metal)
    piece.add(cushion(0.03, 0.03, 0.03, 1.0, 8).moved(*elbow), metal)
    radius, height = rng.uniform(0.05, 0.09), rng.uniform(0.07, 0.12)
    outline = [
        (radius, 0),
        (radius * 0.3, height),
        (0.003, height),
        (radius * 0.25, height - 0.006),
        (radius - 0.004, 0),
    ]
    piece.add(
        lathe(outline, 16, hollow=True)
        .moved(y=-height * 0.5)
        .turned("x", -rng.uniform(0.2, 0.9))
        .moved(*head),
        colour,
    )
    return piece, 1


def plant(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Pot with a bush of long leaves, a leafy crown on stems, or a small tree."""
    piece = Assembly()
    size = rng.uniform(0.4, 1.8)
    pot = size * rng.uniform(0.18, 0.3)
    radius = pot * rng.uniform(0.45, 0.7)
    rim = radius * rng.uniform(1.0, 1.35)
    outline = [(radius, 0), (rim, pot), (rim - 0.012, pot), (rim - 0.02, pot * 0.85)]
    piece.add(lathe(outline, 16), materials.paint(rng) if rng.random() < 0.5 else materials.wood(rng))
    green, kind = materials.leaf(rng), rng.integers(3)
    crown = size - pot
    if kind == 0:
        for number in range(int(rng.integers(14, 40))):
            blade = _blade(
                rng, crown * rng.uniform(0.6, 1.0), crown * rng.uniform(0.04, 0.09), rng.uniform(0.1, 1.3)
            )
            piece.add(
                blade.turned("y", number * 2.4 + rng.uniform(-0.3, 0.3)).moved(y=pot * 0.85),
                materials.varied(rng, green, 0.3),
            )
        return piece, 1
    trunk = crown * rng.uniform(0.35, 0.6)
    bark, spread = materials.wood(rng), crown * rng.uniform(0.28, 0.42)
    piece.add(
        rod(
            (0, pot * 0.8, 0),
            (rng.uniform(-0.05, 0.05), pot + trunk, 0),
            0.02 * size + 0.005,
            0.01 * size + 0.003,
        ),
        bark,
    )
    if kind == 1:
        for _ in range(int(rng.integers(5, 14))):
            offset = np.clip(rng.normal(size=3), -1, 1) * spread * 0.45  # tufts that touch the crown
            blob = spread * rng.uniform(0.45, 0.9)
            tuft = cushion(blob, blob * rng.uniform(0.6, 1.0), blob, 1.0, 8).turned("y", rng.uniform(0, 3))
            piece.add(
                tuft.moved(offset[0], pot + trunk + spread * 0.5 + offset[1] * 0.7, offset[2]),
                materials.varied(rng, green, 0.3),
            )
        return piece, 1
    for number in range(int(rng.integers(18, 45))):
        blade = _blade(
            rng, spread * rng.uniform(0.7, 1.3), spread * rng.uniform(0.1, 0.25), rng.uniform(0.3, 1.9)
        )
        height = pot + trunk * rng.uniform(0.5, 1.0)
        piece.add(
            blade.turned("y", number * 2.4 + rng.uniform(-0.3, 0.3)).moved(y=height),
            materials.varied(rng, green, 0.3),
        )
    return piece, 1


def _blade(rng: np.random.Generator, length: float, width: float, lean: float) -> Shape:
    """A leaf that starts upwards at the origin, bends `lean` radians towards +z and tapers at both ends."""
    steps = np.linspace(0, 1, 5)
    bend = lean * (0.4 + 0.6 * steps)
    step = length / (len(steps) - 1)
    y = np.concatenate([[0], np.cumsum(step * np.cos(bend[1:]))])
    z = np.concatenate([[0], np.cumsum(step * np.sin(bend[1:]))])
    half = width / 2 * np.sin(np.pi * np.clip(steps * 0.85 + 0.12, 0, 1))
    thick = 0.003
    corners = [(-1, -thick), (-1, thick), (1, thick), (1, -thick)]
    vertices = [(sign * half[i], y[i], z[i] + lift) for i in range(len(steps)) for sign, lift in corners]
    template = panel(1, 1, 1, 0, len(steps) - 1).faces
    return Shape(np.array(vertices), template)


def television(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Flat screen on a foot."""
    width = rng.uniform(0.45, 1.3)
    height, thick = width * rng.uniform(0.55, 0.64), rng.uniform(0.02, 0.07)
    shell = rng.uniform(15, 60) if rng.random() < 0.85 else 200
    lift, piece = rng.uniform(0.04, 0.12), Assembly()
    piece.add(box(width, height, thick, 0.006).moved(y=lift + height / 2), (shell,) * 3)
    screen = (10, 12, 18) if rng.random() < 0.7 else materials.paint(rng)
    piece.add(box(width * 0.94, height * 0.9, 0.004).moved(y=lift + height * 0.51, z=thick / 2), screen)
    piece.add(box(0.06, lift + 0.05, 0.03).moved(y=lift / 2 + 0.02, z=-thick * 0.3), (shell,) * 3)
    piece.add(
        box(width * rng.uniform(0.3, 0.6), 0.015, rng.uniform(0.15, 0.28), 0.004).moved(y=0.0075),
        (shell,) * 3,
    )
    return piece, 1


def bathtub(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Bathtub or trough sink block: an open basin with thick walls and a tap at one end."""
    width, depth, height = rng.uniform(1.4, 1.9), rng.uniform(0.65, 0.85), rng.uniform(0.5, 0.65)
    white = materials.varied(rng, (240, 240, 238), 0.05)
    piece, wall, floor = Assembly(), rng.uniform(0.05, 0.1), rng.uniform(0.08, 0.18)
    piece.add(box(width, floor, depth, 0.01).moved(y=floor / 2), white)
    for side in (-1, 1):
        piece.add(box(width, height, wall, 0.015).moved(y=height / 2, z=side * (depth - wall) / 2), white)
        piece.add(
            box(wall * 1.4, height, depth, 0.015).moved(x=side * (width - wall * 1.4) / 2, y=height / 2),
            white,
        )
    _tap(piece, (-width / 2 + wall * 0.7, height, 0.0), materials.metal(rng), turn=0.0)
    return piece, 1


def washbasin(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Basin on a pedestal or on a cabinet with two doors."""
    width, depth, height = rng.uniform(0.45, 0.9), rng.uniform(0.38, 0.52), rng.uniform(0.8, 0.9)
    white, metal, piece = materials.varied(rng, (240, 240, 238), 0.05), materials.metal(rng), Assembly()
    bowl, wall = rng.uniform(0.1, 0.18), 0.04
    low = height - bowl
    piece.add(box(width, 0.03, depth).moved(y=low + 0.015), white)
    for side in (-1, 1):
        piece.add(box(width, bowl, wall, 0.008).moved(y=low + bowl / 2, z=side * (depth - wall) / 2), white)
        piece.add(box(wall, bowl, depth, 0.008).moved(x=side * (width - wall) / 2, y=low + bowl / 2), white)
    _tap(piece, (0, height, -depth / 2 + 0.03), metal, turn=-np.pi / 2)
    if rng.random() < 0.5:
        piece.add(
            lathe([(0.13, 0), (0.08, low * 0.4), (0.09, low * 0.8), (0.16, low)], 16).moved(z=-depth * 0.1),
            white,
        )
        return piece, 1
    body = materials.board(rng)
    piece.add(box(width * 0.96, low, depth * 0.92, 0.004).moved(y=low / 2, z=-depth * 0.03), body)
    for side in (-1, 1):
        door = box(width * 0.46, low * 0.9, 0.02, 0.003).moved(
            x=side * width * 0.235, y=low / 2, z=depth * 0.44
        )
        piece.add(door, materials.varied(rng, body, 0.02))
        piece.add(box(0.014, 0.12, 0.02).moved(x=side * 0.04, y=low * 0.7, z=depth * 0.44 + 0.02), metal)
    return piece, 1


def toilet(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Toilet with bowl, lid and cistern."""
    white, piece = materials.varied(rng, (242, 242, 240), 0.04), Assembly()
    seat, width, length = rng.uniform(0.38, 0.44), rng.uniform(0.34, 0.4), rng.uniform(0.42, 0.5)
    bowl = lathe([(0.62, 0), (0.6, 0.25), (0.75, 0.6), (1.0, 0.92), (1.0, 1.0)], 20)
    piece.add(Shape(bowl.vertices * (width / 2, seat, length / 2), bowl.faces), white)
    lid = lathe([(1.0, 0), (1.0, 0.6), (0.93, 1.0)], 20)
    piece.add(
        Shape(lid.vertices * (width / 2, 0.04, length / 2), lid.faces).moved(y=seat),
        materials.varied(rng, white, 0.08),
    )
    piece.add(box(width * 0.6, seat, length * 0.4, 0.02).moved(y=seat / 2, z=-length * 0.4), white)
    tank = rng.uniform(0.3, 0.42)
    piece.add(
        box(width * 1.05, tank, 0.18, 0.02).moved(y=seat + tank / 2 - 0.02, z=-length / 2 - 0.06), white
    )
    piece.add(
        prism(0.022, 0.022, 0.015, 10).moved(y=seat + tank - 0.02, z=-length / 2 - 0.06), materials.metal(rng)
    )
    return piece, 1


def _tap(piece: Assembly, place: tuple[float, float, float], colour: materials.Colour, turn: float) -> None:
    """A bent tap standing at `place`, its spout towards +x turned by `turn` about y."""
    spout = tube([(0, -0.02, 0), (0, 0.14, 0), (0.05, 0.18, 0), (0.12, 0.17, 0), (0.14, 0.13, 0)], 0.012, 6)
    piece.add(spout.turned("y", turn).moved(*place), colour)
