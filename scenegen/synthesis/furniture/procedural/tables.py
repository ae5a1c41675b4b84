"""Tables and desks."""

from __future__ import annotations

import numpy as np

from scenegen.synthesis.furniture.procedural import materials
from scenegen.synthesis.furniture.procedural.shapes import Assembly, Shape, box, lathe, prism, rod, tube


def dining_table(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Rectangular table at dining height."""
    width, depth = rng.uniform(0.9, 2.2), rng.uniform(0.65, 1.1)
    if rng.random() < 0.25:
        depth = width = rng.uniform(0.6, 1.1)
    return _table(rng, width, depth, height=rng.uniform(0.68, 0.8))


def coffee_table(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Low table, at times with a shelf under the top."""
    width, depth = rng.uniform(0.7, 1.4), rng.uniform(0.4, 0.8)
    if rng.random() < 0.3:
        depth = width = rng.uniform(0.45, 0.9)
    return _table(rng, width, depth, height=rng.uniform(0.3, 0.52), shelf_chance=0.45)


def round_table(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Round or oval top on a pedestal, crossed feet or four legs; dining, bar and side tables."""
    low, high, radii = ((0.4, 0.6, (0.2, 0.5)), (0.68, 0.8, (0.35, 0.75)), (0.95, 1.15, (0.25, 0.4)))[
        rng.integers(3)
    ]
    height, radius = rng.uniform(low, high), rng.uniform(*radii)
    is_oval = rng.random() < 0.25
    stretch = rng.uniform(1.25, 1.8) if is_oval else 1.0
    thickness = rng.uniform(0.015, 0.05)
    top_colour, leg_colour = materials.board(rng), materials.leg_material(rng)
    edge = thickness * rng.uniform(0.0, 0.4)
    top = lathe(
        [(radius - edge, 0), (radius, edge), (radius, thickness - edge / 2), (radius - edge, thickness)], 28
    )
    table = Assembly()
    table.add(_stretched(top, stretch).moved(y=height - thickness), top_colour)
    base = rng.integers(3)
    underside = height - thickness
    if base == 0:
        foot = radius * rng.uniform(0.5, 0.75)
        column = rng.uniform(0.02, 0.06)
        table.add(
            lathe([(foot, 0), (foot, 0.015), (column * 1.5, 0.05), (column, 0.12), (column, underside)], 20),
            leg_colour,
        )
        return table, 2 if is_oval else 0
    if base == 1:
        column, reach = rng.uniform(0.025, 0.06), radius * rng.uniform(0.55, 0.9)
        table.add(prism(column, column, underside, 12).moved(y=0.0), leg_colour)
        foot = rod((0, 0.12, 0), (reach, 0.02, 0), column * 0.7, 0.02, 6)
        for quarter in range(4):
            table.add(foot.turned("y", quarter * np.pi / 2 + np.pi / 4), leg_colour)
        return table, 2 if is_oval else 4
    top_x, splay = radius * 0.6, rng.uniform(0.0, 0.25)
    leg_radius = rng.uniform(0.015, 0.035)
    leg = rod(
        (top_x * (1 + splay), 0, top_x * (1 + splay)), (top_x, underside, top_x), leg_radius * 0.6, leg_radius
    )
    table.add_corners(_stretched(leg, stretch), leg_colour)
    return table, 2 if is_oval else 4


def desk(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Writing desk: panel sides or drawer blocks, mostly a modesty panel, at times a hutch."""
    width, depth, height = rng.uniform(0.9, 1.8), rng.uniform(0.5, 0.8), rng.uniform(0.7, 0.78)
    thickness = rng.uniform(0.018, 0.04)
    body, front, metal = materials.board(rng), materials.board(rng), materials.metal(rng)
    piece = Assembly()
    piece.add(box(width, thickness, depth, 0.004).moved(y=height - thickness / 2), body)
    underside = height - thickness
    blocks = rng.choice(["left", "right", "both", "none"], p=[0.3, 0.3, 0.2, 0.2])
    block_width = rng.uniform(0.32, 0.45)
    for name, side in (("left", -1), ("right", 1)):
        centre = side * (width / 2 - block_width / 2)
        if blocks in (name, "both"):
            drawer_block(rng, piece, (block_width, underside, depth * 0.92), centre, (body, front, metal))
        else:
            piece.add(
                box(0.03, underside, depth * 0.92).moved(x=side * (width / 2 - 0.015), y=underside / 2), body
            )
    if rng.random() < 0.7:
        piece.add(box(width - 0.06, underside * 0.5, 0.018).moved(y=underside * 0.72, z=-depth * 0.35), body)
    if rng.random() < 0.2:
        _hutch(rng, piece, (width, height, depth), body)
    return piece, 1


def drawer_block(
    rng: np.random.Generator,
    piece: Assembly,
    size: tuple[float, float, float],
    centre_x: float,
    colours: tuple[materials.Colour, materials.Colour, materials.Colour],
) -> None:
    """Add a block of drawers standing on the floor, front towards +z; colours of body, fronts and handles."""
    width, height, depth = size
    body, front, handle = colours
    piece.add(box(width, height, depth).moved(x=centre_x, y=height / 2), body)
    count = int(rng.integers(2, 5))
    pitch = height * 0.94 / count
    for row in range(count):
        y = height * 0.04 + (row + 0.5) * pitch
        piece.add(
            box(width - 0.02, pitch - 0.012, 0.02, 0.003).moved(x=centre_x, y=y, z=depth / 2 + 0.01), front
        )
        piece.add(
            box(width * 0.35, 0.015, 0.02).moved(x=centre_x, y=y + pitch * 0.2, z=depth / 2 + 0.03), handle
        )


def _table(
    rng: np.random.Generator, width: float, depth: float, height: float, shelf_chance: float = 0.08
) -> tuple[Assembly, int]:
    thickness = rng.uniform(0.015, 0.06)
    top_colour = materials.board(rng)
    leg_colour = top_colour if rng.random() < 0.4 else materials.leg_material(rng)
    table = Assembly()
    bevel = rng.uniform(0.0, 0.3) * thickness
    table.add(box(width, thickness, depth, bevel).moved(y=height - thickness / 2), top_colour)
    underside = height - thickness
    base = _TABLE_BASES[rng.integers(len(_TABLE_BASES))]
    base(rng, table, (width, underside, depth), leg_colour)
    if rng.random() < shelf_chance:
        shelf = box(width * 0.86, 0.02, depth * 0.86)
        table.add(shelf.moved(y=underside * rng.uniform(0.2, 0.5)), materials.varied(rng, top_colour))
    return table, 4 if width == depth and base is _four_legs else 2


def _four_legs(rng: np.random.Generator, table: Assembly, size: tuple, colour: materials.Colour) -> None:
    width, height, depth = size
    thick, inset = rng.uniform(0.03, 0.1), rng.uniform(0.0, 0.06)
    x, z = width / 2 - inset - thick / 2, depth / 2 - inset - thick / 2
    taper, splay = rng.uniform(0.5, 1.0), (rng.uniform(0, 0.06) if rng.random() < 0.4 else 0.0)
    if rng.random() < 0.5:
        leg = rod((x + splay, 0, z + splay), (x, height, z), thick / 2 * taper, thick / 2)
    else:
        leg = box(thick, height, thick, thick * 0.08).moved(x=x, y=height / 2, z=z)
    table.add_corners(leg, colour)
    if rng.random() < 0.6:
        apron = rng.uniform(0.05, 0.12)
        for side in (-1, 1):
            table.add(box(2 * x, apron, 0.02).moved(y=height - apron / 2, z=side * z), colour)
            table.add(box(0.02, apron, 2 * z).moved(x=side * x, y=height - apron / 2), colour)


def _side_panels(rng: np.random.Generator, table: Assembly, size: tuple, colour: materials.Colour) -> None:
    width, height, depth = size
    thick, inset = rng.uniform(0.02, 0.06), rng.uniform(0.0, 0.12)
    side = box(thick, height, depth * rng.uniform(0.7, 1.0)).moved(
        x=width / 2 - inset - thick / 2, y=height / 2
    )
    table.add_pair(side, colour)
    table.add(box(width - 2 * inset - thick, 0.08, 0.03).moved(y=height - 0.08), colour)


def _trestles(rng: np.random.Generator, table: Assembly, size: tuple, colour: materials.Colour) -> None:
    width, height, depth = size
    x, thick = width / 2 * rng.uniform(0.6, 0.85), rng.uniform(0.015, 0.035)
    reach, top = depth * 0.42, depth * rng.uniform(0.05, 0.3)
    for side in (-1, 1):
        table.add(tube([(side * x, 0, reach), (side * x, height, top)], thick), colour)
        table.add(tube([(side * x, 0, -reach), (side * x, height, -top)], thick), colour)
        table.add(
            tube(
                [(side * x, height * 0.3, reach * 0.8), (side * x, height * 0.3, -reach * 0.8)], thick * 0.8
            ),
            colour,
        )
    table.add(tube([(-x, height * 0.3, 0), (x, height * 0.3, 0)], thick * 0.8), colour)


def _frame(rng: np.random.Generator, table: Assembly, size: tuple, colour: materials.Colour) -> None:
    width, height, depth = size
    thick = rng.uniform(0.02, 0.05)
    x, z = width / 2 - thick / 2, depth / 2 - thick / 2
    table.add_corners(box(thick, height, thick).moved(x=x, y=height / 2, z=z), colour)
    for y in (thick / 2, height - thick / 2):
        table.add_pair(box(thick, thick, 2 * z).moved(x=x, y=y), colour)
    table.add(box(2 * x, thick, thick).moved(y=height - thick / 2, z=z), colour)
    table.add(box(2 * x, thick, thick).moved(y=height - thick / 2, z=-z), colour)


_TABLE_BASES = (_four_legs, _four_legs, _side_panels, _trestles, _frame)


def _hutch(rng: np.random.Generator, piece: Assembly, size: tuple, colour: materials.Colour) -> None:
    width, height, depth = size
    rise, shelf_depth = rng.uniform(0.25, 0.6), depth * rng.uniform(0.3, 0.4)
    z = -depth / 2 + shelf_depth / 2
    piece.add_pair(box(0.02, rise, shelf_depth).moved(x=width / 2 - 0.01, y=height + rise / 2, z=z), colour)
    for y in np.linspace(height + rise / 2, height + rise, int(rng.integers(1, 3))):
        piece.add(box(width, 0.02, shelf_depth).moved(y=y, z=z), colour)
    piece.add(box(width, rise, 0.012).moved(y=height + rise / 2, z=-depth / 2 + 0.006), colour)


def _stretched(shape: Shape, factor: float) -> Shape:
    return Shape(shape.vertices * (factor, 1, 1), shape.faces)
