"""Chairs, stools and sofas."""

from __future__ import annotations

import numpy as np

from scenegen.synthesis.furniture.procedural import materials
from scenegen.synthesis.furniture.procedural.shapes import (
    Assembly,
    box,
    cushion,
    lathe,
    panel,
    prism,
    rod,
    tube,
)


def dining_chair(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Four-legged chair with a slatted, barred or solid back; some have armrests."""
    width, depth, seat = rng.uniform(0.38, 0.52), rng.uniform(0.38, 0.52), rng.uniform(0.42, 0.48)
    back = rng.uniform(0.32, 0.62)
    frame = materials.leg_material(rng)
    seat_colour = frame if rng.random() < 0.3 else materials.fabric(rng)
    thickness = rng.uniform(0.02, 0.08)
    chair = Assembly()
    _seat(rng, chair, (width, thickness, depth), seat, seat_colour)
    _chair_legs(rng, chair, (width, seat - thickness, depth), frame)
    _chair_back(rng, chair, (width, back, depth), seat, (frame, seat_colour))
    if rng.random() < 0.25:
        _armrests(rng, chair, (width, depth), seat, frame)
    return chair, 1


def armchair(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Upholstered chair: a sofa of one seat, or a shell on thin legs."""
    if rng.random() < 0.6:
        return _sofa(rng, seats=1)
    width, depth, seat = rng.uniform(0.55, 0.75), rng.uniform(0.5, 0.65), rng.uniform(0.36, 0.44)
    colour, frame = materials.fabric(rng), materials.leg_material(rng)
    chair = Assembly()
    thickness = rng.uniform(0.08, 0.16)
    chair.add(cushion(width, thickness, depth, 0.3).moved(y=seat - thickness / 2), colour)
    height, recline = rng.uniform(0.35, 0.6), rng.uniform(0.1, 0.35)
    back = panel(width, height, rng.uniform(0.05, 0.12), bow=rng.uniform(0.03, 0.15), segments=8)
    chair.add(
        back.moved(y=height / 2).turned("x", -recline).moved(y=seat - 0.05, z=-depth / 2 + 0.08), colour
    )
    arm = cushion(0.07, 0.07, depth * 0.9, 0.4).moved(x=width / 2, y=seat + rng.uniform(0.14, 0.2))
    chair.add_pair(arm, frame if rng.random() < 0.4 else colour)
    chair.add_pair(
        rod((width / 2, seat - 0.04, depth * 0.3), (width / 2, seat + 0.16, depth * 0.3), 0.015), frame
    )
    _chair_legs(rng, chair, (width, seat - thickness * 0.6, depth), frame)
    return chair, 1


def office_chair(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Swivel chair: star base with castors, gas lift, seat, curved back, mostly with armrests."""
    seat, width, depth = rng.uniform(0.42, 0.55), rng.uniform(0.44, 0.54), rng.uniform(0.42, 0.52)
    colour, base = materials.fabric(rng), materials.metal(rng)
    dark = materials.metal(rng) if rng.random() < 0.3 else (30, 30, 32)
    chair = Assembly()
    arms, reach = (5 if rng.random() < 0.8 else 4), rng.uniform(0.27, 0.35)
    for number in range(arms):
        angle = 2 * np.pi * number / arms
        chair.add(rod((0, 0.11, 0), (0, 0.07, reach), 0.025, 0.018, 6).turned("y", angle), base)
        castor = prism(0.028, 0.028, 0.035, 10).turned("z", np.pi / 2).moved(x=0.017, y=0.028, z=reach)
        chair.add(castor.turned("y", angle), dark)
    chair.add(prism(0.03, 0.022, seat - 0.15, 10).moved(y=0.08), base)
    thickness = rng.uniform(0.05, 0.1)
    chair.add(cushion(width, thickness, depth, 0.3).moved(y=seat - thickness / 2), colour)
    height = rng.uniform(0.4, 0.75)
    recline, gap = rng.uniform(0.05, 0.25), rng.uniform(0.0, 0.12)
    back = panel(width * rng.uniform(0.8, 1.0), height, rng.uniform(0.03, 0.08), rng.uniform(0.02, 0.07))
    chair.add(back.moved(y=height / 2 + gap).turned("x", -recline).moved(y=seat, z=-depth / 2), colour)
    if gap > 0.03:
        spine = box(0.06, gap + 0.12, 0.02).moved(y=gap / 2).turned("x", -recline)
        chair.add(spine.moved(y=seat, z=-depth / 2 - 0.04), dark)
    if rng.random() < 0.75:
        _armrests(rng, chair, (width + 0.06, depth), seat, dark)
    return chair, 1


def stool(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Stool or bar stool, round or square, on legs or a pedestal, at times with a low back."""
    is_bar = rng.random() < 0.5
    seat = rng.uniform(0.6, 0.82) if is_bar else rng.uniform(0.38, 0.5)
    radius, thickness = rng.uniform(0.15, 0.21), rng.uniform(0.02, 0.09)
    colour, frame = materials.fabric(rng), materials.leg_material(rng)
    is_round, on_pedestal, has_back = rng.random() < 0.6, rng.random() < 0.35, is_bar and rng.random() < 0.35
    piece = Assembly()
    if is_round:
        edge = thickness * 0.25
        profile = [(radius - edge, 0), (radius, edge), (radius, thickness - edge), (radius - edge, thickness)]
        piece.add(lathe(profile, 20).moved(y=seat - thickness), colour)
    else:
        piece.add(
            box(2 * radius, thickness, 2 * radius, 0.2 * thickness).moved(y=seat - thickness / 2), colour
        )
    if on_pedestal:
        foot = radius * rng.uniform(0.9, 1.3)
        piece.add(lathe([(foot, 0), (foot, 0.012), (0.03, 0.05), (0.025, seat - thickness)], 20), frame)
    else:
        _stool_legs(rng, piece, radius, seat - thickness, frame)
    if has_back:
        piece.add(
            panel(2 * radius, rng.uniform(0.12, 0.25), 0.03, 0.05).moved(y=seat + 0.2, z=-radius + 0.03),
            colour,
        )
        piece.add_pair(
            rod((radius * 0.5, seat - 0.02, -radius + 0.03), (radius * 0.5, seat + 0.2, -radius), 0.012),
            frame,
        )
        return piece, 1
    return piece, 0 if is_round and on_pedestal else 4


def pouf(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Upholstered footstool, round or rectangular, or an upholstered bench."""
    colour, piece = materials.fabric(rng), Assembly()
    height = rng.uniform(0.32, 0.48)
    if rng.random() < 0.4:
        radius, edge = rng.uniform(0.2, 0.4), rng.uniform(0.01, 0.06)
        profile = [(radius - edge, 0), (radius, edge), (radius, height - edge), (radius - edge, height)]
        piece.add(lathe(profile, 24), colour)
        return piece, 0
    depth = rng.uniform(0.35, 0.6)
    width = depth if rng.random() < 0.3 else rng.uniform(0.6, 1.5)
    legs = rng.uniform(0.05, 0.25)
    piece.add(cushion(width, height - legs, depth, 0.15, 16).moved(y=(height + legs) / 2), colour)
    foot = (width / 2 - 0.05, 0, depth / 2 - 0.05)
    leg = rod(foot, (width / 2 - 0.07, legs + 0.03, depth / 2 - 0.07), 0.015, 0.025, 6)
    piece.add_corners(leg, materials.leg_material(rng))
    return piece, 2 if width != depth else 4


def sofa(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Sofa of two to four seats."""
    return _sofa(rng, seats=int(rng.integers(2, 5)))


def corner_sofa(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Sofa with a chaise or a second wing on one side."""
    piece, _ = _sofa(rng, seats=int(rng.integers(2, 4)), wing=rng.uniform(0.5, 1.2))
    if rng.random() < 0.5:
        piece.vertices = [vertices * (-1, 1, 1) for vertices in piece.vertices]
        piece.faces = [faces[:, ::-1] for faces in piece.faces]
    return piece, 1


def _sofa(rng: np.random.Generator, seats: int, wing: float = 0.0) -> tuple[Assembly, int]:
    """Base, seat and back cushions, arms and feet; `wing` metres of extra depth at the right end (+x)."""
    seat_width, depth, seat = rng.uniform(0.52, 0.75), rng.uniform(0.75, 1.0), rng.uniform(0.36, 0.46)
    total = rng.uniform(0.65, 0.95)
    arm, back = rng.uniform(0.08, 0.25), rng.uniform(0.12, 0.25)
    feet = rng.uniform(0.02, 0.16)
    colour = materials.fabric(rng)
    pillow = materials.varied(rng, colour, 0.2) if rng.random() < 0.8 else materials.fabric(rng)
    thickness, roundness = rng.uniform(0.1, 0.18), rng.uniform(0.12, 0.35)
    inner, front = seats * seat_width, depth / 2
    piece = Assembly()
    base_height = seat - thickness - feet
    bevel = rng.uniform(0.01, 0.04)
    piece.add(box(inner + arm, base_height, depth, bevel).moved(y=feet + base_height / 2), colour)
    piece.add(
        box(inner, total - feet, back * 0.6, bevel).moved(y=(total + feet) / 2, z=-front + back * 0.3), colour
    )
    seat_depth, pitch = depth - back, seat_width
    for number in range(seats):
        x = (number - (seats - 1) / 2) * pitch
        extra = wing if wing and number == seats - 1 else 0.0
        where = {"x": x, "z": -front + back + (seat_depth + extra) / 2}
        piece.add(
            cushion(pitch, thickness * 1.15, seat_depth + extra, roundness, 16).moved(
                y=seat - thickness / 2, **where
            ),
            pillow,
        )
        height = total - seat
        lean = cushion(pitch * 0.97, height * 1.1, back, roundness + 0.1).turned(
            "x", -rng.uniform(0.05, 0.25)
        )
        piece.add(lean.moved(x=x, y=seat + height * 0.5, z=-front + back * 0.95), pillow)
    if wing:
        x = (seats - 1) / 2 * pitch
        piece.add(
            box(pitch, base_height, wing, bevel).moved(x=x, y=feet + base_height / 2, z=front + wing / 2),
            colour,
        )
    _sofa_arms(rng, piece, (inner, arm, depth, seat, total, feet), colour, wing)
    foot = prism(0.018, 0.028, feet + 0.01, 8).moved(x=inner / 2 - 0.03, z=front - 0.08)
    leg_colour = materials.leg_material(rng)
    piece.add_corners(foot, leg_colour)
    if wing:
        piece.add(
            prism(0.018, 0.028, feet + 0.01, 8).moved(x=inner / 2 - 0.06, z=front + wing - 0.08), leg_colour
        )
    if rng.random() < 0.35:
        side = 0.4 * rng.uniform(0.8, 1.1)
        throw = (
            cushion(side, side, 0.13, 0.5)
            .turned("x", -0.35)
            .moved(x=inner / 2 - side * 0.55, y=seat + side * 0.45)
        )
        piece.add(throw.moved(z=-front + back + 0.18), materials.fabric(rng))
    return piece, 1


def _sofa_arms(
    rng: np.random.Generator, piece: Assembly, size: tuple, colour: materials.Colour, wing: float
) -> None:
    inner, arm, depth, seat, total, feet = size
    if rng.random() < (0.1 if wing else 0.12):
        return
    top = seat + (total - seat) * rng.uniform(0.3, 0.8)
    height = top - feet
    x, y = inner / 2 + arm / 2, feet + height / 2
    if rng.random() < 0.35:
        roll = prism(arm * 0.62, arm * 0.62, depth, 12).turned("x", np.pi / 2).moved(x=x, y=top, z=-depth / 2)
        piece.add_pair(roll, colour)
    if rng.random() < 0.5:
        shape = cushion(arm, height, depth, 0.12, 16).moved(x=x, y=y)
    else:
        shape = box(arm, height, depth, 0.02).moved(x=x, y=y)
    piece.add_pair(shape, colour)
    if wing and rng.random() < 0.5:  # a back along the wing instead of an open chaise
        piece.add(
            box(arm, total - feet, depth + wing, 0.02).moved(x=x, y=(total + feet) / 2, z=wing / 2), colour
        )


def _seat(
    rng: np.random.Generator, chair: Assembly, size: tuple, top: float, colour: materials.Colour
) -> None:
    width, thickness, depth = size
    if rng.random() < 0.4:
        chair.add(cushion(width, thickness * 1.2, depth, 0.25).moved(y=top - thickness / 2), colour)
    else:
        chair.add(box(width, thickness, depth, thickness * 0.2).moved(y=top - thickness / 2), colour)


def _chair_legs(rng: np.random.Generator, chair: Assembly, size: tuple, colour: materials.Colour) -> None:
    width, height, depth = size
    thick = rng.uniform(0.015, 0.025)
    x, z = width / 2 - thick, depth / 2 - thick
    kind = rng.integers(4)
    if kind == 0:  # sledge of bent tube
        path = [(x, height, -z), (x, 0.015, -z), (x, 0.015, z), (x, height, z)]
        chair.add_pair(tube(path, 0.012, 6), colour)
        chair.add(tube([(-x, 0.015, -z), (x, 0.015, -z)], 0.012, 6), colour)
        return
    splay = rng.uniform(0.0, 0.06) if kind == 1 else 0.0
    if kind == 3:
        leg = box(2 * thick, height, 2 * thick, 0.003).moved(x=x, y=height / 2, z=z)
    else:
        leg = rod((x + splay, 0, z + splay), (x - splay, height, z - splay), thick * 0.7, thick)
    chair.add_corners(leg, colour)
    if rng.random() < 0.4:
        y = height * rng.uniform(0.25, 0.5)
        chair.add_pair(tube([(x, y, -z), (x, y, z)], thick * 0.6, 6), colour)
        chair.add(tube([(-x, y, 0), (x, y, 0)], thick * 0.6, 6), colour)


def _chair_back(
    rng: np.random.Generator,
    chair: Assembly,
    size: tuple,
    seat: float,
    colours: tuple[materials.Colour, materials.Colour],
) -> None:
    width, height, depth = size
    frame, cover = colours
    lean = rng.uniform(0.02, 0.12)
    z = -depth / 2 + 0.02
    post = rod((width / 2 - 0.02, seat - 0.02, z), (width / 2 - 0.02, seat + height, z - lean), 0.018, 0.013)
    tilt = -np.arctan2(lean, height)
    kind = rng.integers(4)
    if kind == 0:  # solid, without posts
        back = panel(width, height * 0.95, 0.025, rng.uniform(0.0, 0.06)).moved(y=height / 2)
        chair.add(back.turned("x", tilt).moved(y=seat - 0.01, z=z), cover)
        return
    chair.add_pair(post, frame)
    inner = width - 0.06
    if kind == 1:  # cushion between the posts
        pad = cushion(inner, height * rng.uniform(0.4, 0.75), 0.05, 0.2).moved(y=height * 0.6)
        chair.add(pad.turned("x", tilt).moved(y=seat, z=z), cover)
    elif kind == 2:  # ladder back
        for y in np.linspace(height * rng.uniform(0.2, 0.5), height * 0.93, int(rng.integers(2, 5))):
            rail = panel(inner + 0.03, height * 0.1, 0.015, rng.uniform(0, 0.03), 4).moved(y=y)
            chair.add(rail.turned("x", tilt).moved(y=seat, z=z), frame)
    else:  # spindles under a top rail
        chair.add(
            box(width, 0.06, 0.025, 0.004).moved(y=height - 0.02).turned("x", tilt).moved(y=seat, z=z), frame
        )
        for x in np.linspace(-inner / 2, inner / 2, int(rng.integers(3, 8)))[1:-1]:
            chair.add(rod((x, seat - 0.02, z), (x, seat + height - 0.02, z - lean), 0.009, segments=6), frame)


def _armrests(
    rng: np.random.Generator, chair: Assembly, size: tuple, seat: float, colour: materials.Colour
) -> None:
    width, depth = size
    height = rng.uniform(0.17, 0.25)
    x = width / 2 + 0.01
    chair.add_pair(box(0.05, 0.03, depth * 0.75, 0.006).moved(x=x, y=seat + height), colour)
    chair.add_pair(
        rod((x, seat - 0.05, depth * 0.2), (x, seat + height, depth * 0.2), 0.014, segments=6), colour
    )


def _stool_legs(
    rng: np.random.Generator, piece: Assembly, radius: float, height: float, colour: materials.Colour
) -> None:
    top, splay, thick = radius * 0.62, rng.uniform(0.0, 0.07), rng.uniform(0.011, 0.022)
    bottom = top + splay
    piece.add_corners(rod((bottom, 0, bottom), (top, height, top), thick * 0.8, thick, 6), colour)
    if rng.random() < 0.7:
        level = rng.uniform(0.25, 0.4)
        reach = bottom + (top - bottom) * level
        y = height * level
        for quarter in range(4):
            bar = tube([(-reach, y, reach), (reach, y, reach)], thick * 0.7, 6)
            piece.add(bar.turned("y", quarter * np.pi / 2), colour)
