"""Shelves, cabinets, wardrobes, bedside tables and kitchen appliances."""

from __future__ import annotations

import numpy as np

from scenegen.synthesis.furniture.procedural import materials
from scenegen.synthesis.furniture.procedural.shapes import Assembly, box, prism, rod

Size = tuple[float, float, float]


def shelf(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Open bookcase: one to three columns of boards, with or without a back, at times with books."""
    width, height, depth = rng.uniform(0.4, 1.6), rng.uniform(0.7, 2.2), rng.uniform(0.22, 0.42)
    thick, colour = rng.uniform(0.015, 0.035), materials.board(rng)
    columns = max(1, int(round(width / rng.uniform(0.4, 0.9))))
    rows = max(2, int(round(height / rng.uniform(0.28, 0.45))))
    has_back = rng.random() < 0.65
    piece = Assembly()
    for x in np.linspace(-width / 2 + thick / 2, width / 2 - thick / 2, columns + 1):
        piece.add(box(thick, height, depth).moved(x=x, y=height / 2), colour)
    levels = np.linspace(thick / 2 + (0.05 if rng.random() < 0.5 else 0.0), height - thick / 2, rows + 1)
    for y in levels:
        piece.add(box(width - 0.002, thick, depth - 0.002).moved(y=y), colour)
    if has_back:
        piece.add(box(width, height, 0.008).moved(y=height / 2, z=-depth / 2), materials.varied(rng, colour))
    has_books = rng.random() < 0.45
    if has_books:
        for column in range(columns):
            left = -width / 2 + thick + column * (width - thick) / columns
            for low, high in zip(levels[:-1], levels[1:], strict=True):
                if rng.random() < 0.6:
                    clear = (width - thick) / columns - thick
                    _books(rng, piece, (left, low + thick / 2), (clear, high - low - thick, depth))
    return piece, 1 if has_back or has_books else 2


def cabinet(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Sideboard, dresser or kitchen unit: a grid of doors and drawers with handles, on feet or a plinth."""
    width, height, depth = rng.uniform(0.4, 1.9), rng.uniform(0.45, 1.15), rng.uniform(0.35, 0.62)
    body = materials.board(rng)
    front = body if rng.random() < 0.5 else materials.board(rng)
    piece = Assembly()
    feet = _feet(rng, piece, (width, height, depth), body)
    case = height - feet
    piece.add(box(width, case, depth, 0.004).moved(y=feet + case / 2), body)
    if rng.random() < 0.5:
        top = box(width + 0.03, 0.03, depth + 0.03, 0.006).moved(y=height + 0.015)
        piece.add(top, materials.board(rng))
    columns = max(1, int(round(width / rng.uniform(0.35, 0.6))))
    _fronts(rng, piece, (width, case, depth), feet, columns, front)
    return piece, 1


def wardrobe(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Tall cupboard with doors, perhaps drawers below and a cornice."""
    width, height, depth = rng.uniform(0.6, 2.4), rng.uniform(1.7, 2.3), rng.uniform(0.45, 0.65)
    body = materials.board(rng)
    front = body if rng.random() < 0.5 else materials.board(rng)
    piece = Assembly()
    feet = _feet(rng, piece, (width, height, depth), body)
    case = height - feet
    piece.add(box(width, case, depth, 0.005).moved(y=feet + case / 2), body)
    if rng.random() < 0.3:
        piece.add(box(width + 0.06, 0.06, depth + 0.04, 0.015).moved(y=height), body)
    doors = max(1, int(round(width / rng.uniform(0.4, 0.6))))
    drawers = rng.uniform(0.2, 0.3) if rng.random() < 0.35 else 0.0
    metal = materials.metal(rng)
    for number in range(doors):
        pitch = (width - 0.01) / doors
        x = (number - (doors - 1) / 2) * pitch
        low, high = feet + 0.02 + drawers * case, feet + case - 0.02
        _door(rng, piece, (x, low, high, depth / 2), pitch - 0.008, 1 if number % 2 else -1, (front, metal))
        if drawers:
            middle = feet + 0.02 + drawers * case / 2
            piece.add(
                box(pitch - 0.01, drawers * case - 0.02, 0.02, 0.003).moved(
                    x=x, y=middle, z=depth / 2 + 0.01
                ),
                front,
            )
            piece.add(box(pitch * 0.3, 0.015, 0.02).moved(x=x, y=middle, z=depth / 2 + 0.03), metal)
    return piece, 1


def nightstand(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Bedside table: drawers or an open compartment on legs or on the floor."""
    width, height, depth = rng.uniform(0.32, 0.6), rng.uniform(0.4, 0.65), rng.uniform(0.3, 0.45)
    body = materials.board(rng)
    front = body if rng.random() < 0.5 else materials.board(rng)
    legs = rng.uniform(0.05, 0.3)
    case = height - legs
    piece = Assembly()
    thick = rng.uniform(0.015, 0.025)
    piece.add_corners(
        rod((width * 0.44, 0, depth * 0.42), (width * 0.42, legs + 0.01, depth * 0.4), 0.012, 0.02, 6), body
    )
    if rng.random() < 0.35:  # open compartment
        piece.add_pair(box(thick, case, depth).moved(x=width / 2 - thick / 2, y=legs + case / 2), body)
        for y in (legs + thick / 2, height - thick / 2):
            piece.add(box(width, thick, depth).moved(y=y), body)
        piece.add(box(width, case, thick).moved(y=legs + case / 2, z=-depth / 2 + thick / 2), body)
        return piece, 1
    piece.add(box(width, case, depth, 0.004).moved(y=legs + case / 2), body)
    _drawers(
        piece, (0.0, legs, case, depth / 2), width, int(rng.integers(1, 4)), (front, materials.metal(rng))
    )
    return piece, 1


def fridge(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Refrigerator with one, two or three doors and bar handles."""
    width, height, depth = rng.uniform(0.5, 0.95), rng.uniform(0.85, 2.0), rng.uniform(0.55, 0.75)
    body, metal, piece = _appliance_colour(rng), materials.metal(rng), Assembly()
    piece.add(box(width, height, depth * 0.9, 0.008).moved(y=height / 2, z=-depth * 0.05), body)
    door = depth * 0.08
    splits = [0.0, rng.uniform(0.3, 0.7), 1.0] if rng.random() < 0.7 else [0.0, 1.0]
    is_wide = width > 0.8
    side = 1 if rng.random() < 0.5 else -1
    for low, high in zip(splits[:-1], splits[1:], strict=True):
        tall = (high - low) * height - 0.012
        y = (low + high) / 2 * height
        for leaf in (-1, 1) if is_wide else (0,):
            leaf_width = width / 2 - 0.004 if is_wide else width
            x = leaf * width / 4
            piece.add(box(leaf_width, tall, door, 0.01).moved(x=x, y=y, z=depth * 0.4 + door / 2), body)
            handle_x = -leaf * 0.04 if is_wide else side * (width / 2 - 0.05)
            handle = box(0.02, tall * rng.uniform(0.3, 0.7), 0.03).moved(x=handle_x, y=y)
            piece.add(handle.moved(z=depth * 0.4 + door + 0.015), metal)
    return piece, 1


def washing_machine(rng: np.random.Generator) -> tuple[Assembly, int]:
    """Front loader, or with a square window an oven or dishwasher."""
    width, height, depth = rng.uniform(0.52, 0.65), rng.uniform(0.8, 0.9), rng.uniform(0.5, 0.62)
    body, dark, piece = _appliance_colour(rng), (25, 25, 28), Assembly()
    piece.add(box(width, height, depth, 0.01).moved(y=height / 2), body)
    strip = height * rng.uniform(0.1, 0.16)
    front = depth / 2
    piece.add(
        box(width * 0.98, strip, 0.02).moved(y=height - strip / 2 - 0.01, z=front),
        materials.varied(rng, body, 0.3),
    )
    for x in np.linspace(-0.35, 0.35, int(rng.integers(2, 6))) * width:
        knob = prism(0.018, 0.016, 0.03, 10).turned("x", np.pi / 2)
        piece.add(knob.moved(x=x, y=height - strip / 2 - 0.01, z=front), dark)
    middle = (height - strip) * 0.52
    if rng.random() < 0.5:
        ring, radius = prism(1, 1, 0.04, 24), rng.uniform(0.14, 0.19)
        for scale, bulge, colour in ((1.0, 0.0, materials.metal(rng)), (0.78, 0.012, dark)):
            disc = type(ring)(ring.vertices * (radius * scale, 1, radius * scale), ring.faces)
            piece.add(disc.turned("x", np.pi / 2).moved(y=middle, z=front + bulge), colour)
    else:
        piece.add(box(width * 0.94, (height - strip) * 0.7, 0.03, 0.006).moved(y=middle, z=front), body)
        piece.add(box(width * 0.7, (height - strip) * 0.4, 0.034).moved(y=middle - 0.03, z=front), dark)
        piece.add(
            box(width * 0.8, 0.02, 0.03).moved(y=middle + (height - strip) * 0.29, z=front + 0.04),
            materials.metal(rng),
        )
    return piece, 1


def _appliance_colour(rng: np.random.Generator) -> materials.Colour:
    grey = rng.uniform(150, 250) if rng.random() < 0.85 else rng.uniform(25, 60)
    return materials.varied(rng, (grey, grey, grey), 0.02) if rng.random() < 0.85 else materials.paint(rng)


def _feet(rng: np.random.Generator, piece: Assembly, size: Size, colour: materials.Colour) -> float:
    """Add legs or a plinth and return their height."""
    width, height, depth = size
    kind = rng.integers(3)
    if kind == 0:
        return 0.0
    if kind == 1:
        plinth = rng.uniform(0.04, 0.1)
        piece.add(box(width * 0.97, plinth, depth * 0.92).moved(y=plinth / 2, z=-depth * 0.03), (40, 38, 36))
        return plinth
    legs = min(rng.uniform(0.08, 0.25), height * 0.3)
    leg = rod(
        (width / 2 - 0.05, 0, depth / 2 - 0.05),
        (width / 2 - 0.06, legs + 0.01, depth / 2 - 0.06),
        0.014,
        0.022,
        6,
    )
    piece.add_corners(leg, colour if rng.random() < 0.5 else materials.metal(rng))
    return legs


def _fronts(
    rng: np.random.Generator, piece: Assembly, size: Size, feet: float, columns: int, colour: materials.Colour
) -> None:
    """Fill the front with columns of drawers, doors, or a drawer above a door."""
    width, case, depth = size
    metal, pitch = materials.metal(rng), (width - 0.01) / columns
    kinds = rng.choice(["drawers", "door", "mixed"], size=(columns + 1) // 2)
    for number in range(columns):
        x = (number - (columns - 1) / 2) * pitch
        kind = kinds[min(number, columns - 1 - number)]  # symmetric layouts are the common ones
        low = feet + 0.015
        tall = case - 0.03
        hinge = 1 if number % 2 else -1
        if kind == "drawers":
            _drawers(
                piece, (x, low, tall, depth / 2), pitch - 0.004, max(2, int(tall / 0.22)), (colour, metal)
            )
        elif kind == "door":
            _door(rng, piece, (x, low, low + tall, depth / 2), pitch - 0.008, hinge, (colour, metal))
        else:
            share = rng.uniform(0.2, 0.35) * tall
            _drawers(piece, (x, low + tall - share, share, depth / 2), pitch - 0.004, 1, (colour, metal))
            _door(rng, piece, (x, low, low + tall - share, depth / 2), pitch - 0.008, hinge, (colour, metal))


def _drawers(
    piece: Assembly, place: tuple[float, float, float, float], width: float, count: int, colours: tuple
) -> None:
    """Drawer fronts with bar handles in a column; place = (x, lowest y, height, front z)."""
    x, low, tall, front_z = place
    colour, metal = colours
    pitch = tall / count
    for row in range(count):
        y = low + (row + 0.5) * pitch
        piece.add(box(width - 0.01, pitch - 0.012, 0.02, 0.003).moved(x=x, y=y, z=front_z + 0.01), colour)
        piece.add(
            box(min(width * 0.4, 0.25), 0.014, 0.02).moved(x=x, y=y + pitch * 0.15, z=front_z + 0.03), metal
        )


def _door(
    rng: np.random.Generator,
    piece: Assembly,
    place: tuple[float, float, float, float],
    width: float,
    hinge: int,
    colours: tuple,
) -> None:
    """Door leaf, plain or with a raised panel, and its handle; place = (x, lowest y, highest y, front z)."""
    x, low, high, front_z = place
    colour, metal = colours
    tall, y = high - low - 0.008, (low + high) / 2
    piece.add(box(width, tall, 0.02, 0.003).moved(x=x, y=y, z=front_z + 0.01), colour)
    if rng.random() < 0.3:
        inner = box(width * 0.7, tall * 0.82, 0.012, 0.005).moved(x=x, y=y, z=front_z + 0.022)
        piece.add(inner, materials.varied(rng, colour, 0.15))
    handle_x = x - hinge * (width / 2 - 0.04)
    length = rng.uniform(0.06, 0.25) if rng.random() < 0.7 else 0.025
    piece.add(box(0.014, min(length, tall * 0.5), 0.025).moved(x=handle_x, y=y, z=front_z + 0.033), metal)


def _books(rng: np.random.Generator, piece: Assembly, corner: tuple[float, float], size: Size) -> None:
    """A row of books standing on a board; corner = (left x, board y), size = the free compartment."""
    width, height, depth = size
    x = corner[0] + width * rng.uniform(0.0, 0.4)
    end = corner[0] + width
    while x < end - 0.06 and rng.random() < 0.93:
        thick, tall = rng.uniform(0.02, 0.06), height * rng.uniform(0.55, 0.9)
        book = box(thick, tall, depth * 0.65).moved(x=x + thick / 2, y=corner[1] + tall / 2, z=-depth * 0.05)
        piece.add(book, materials.paint(rng))
        x += thick
