"""Parametric furniture: every class yields endless variants with the same records as the real models.

`generate("sofa", rng)` draws a variant; its id "procedural/sofa/<seed>" makes the same one again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from scenegen.synthesis.furniture.procedural import decor, fixtures, household, seating, storage, tables
from scenegen.synthesis.furniture.procedural.shapes import Assembly
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo, normalise
from scenegen.synthesis.furniture.visibility import remove_hidden_faces

_MAX_SEED = 2**40
# Fewer than for real models: these have no narrow openings, and time counts when training generates them.
_VISIBILITY_DIRECTIONS = 24


@dataclass(frozen=True)
class FurnitureClass:
    """How to build one class.

    Attributes:
        build: draws an assembly in metres (y up, front +z) and its yaw symmetry order.
        super_category: class name shared with the real models.
        tier: floor, small or mounted (on a wall, or hanging).
        weight: share among `generate_any` draws, relative.
    """

    build: Callable[[np.random.Generator], tuple[Assembly, int]]
    super_category: str
    tier: str = "floor"
    weight: float = 1.0


CLASSES: dict[str, FurnitureClass] = {
    "dining_table": FurnitureClass(tables.dining_table, "Table", weight=2.0),
    "coffee_table": FurnitureClass(tables.coffee_table, "Table"),
    "round_table": FurnitureClass(tables.round_table, "Table"),
    "desk": FurnitureClass(tables.desk, "Cabinet/Shelf/Desk", weight=1.5),
    "dining_chair": FurnitureClass(seating.dining_chair, "Chair", weight=4.0),
    "armchair": FurnitureClass(seating.armchair, "Chair", weight=1.5),
    "office_chair": FurnitureClass(seating.office_chair, "Chair", weight=1.5),
    "stool": FurnitureClass(seating.stool, "Pier/Stool"),
    "pouf": FurnitureClass(seating.pouf, "Pier/Stool", weight=0.5),
    "sofa": FurnitureClass(seating.sofa, "Sofa", weight=2.0),
    "corner_sofa": FurnitureClass(seating.corner_sofa, "Sofa"),
    "shelf": FurnitureClass(storage.shelf, "Cabinet/Shelf/Desk", weight=1.5),
    "cabinet": FurnitureClass(storage.cabinet, "Cabinet/Shelf/Desk", weight=2.0),
    "wardrobe": FurnitureClass(storage.wardrobe, "Cabinet/Shelf/Desk"),
    "nightstand": FurnitureClass(storage.nightstand, "Cabinet/Shelf/Desk"),
    "fridge": FurnitureClass(storage.fridge, "Appliance"),
    "washing_machine": FurnitureClass(storage.washing_machine, "Appliance"),
    "bed": FurnitureClass(household.bed, "Bed", weight=2.0),
    "desk_lamp": FurnitureClass(household.desk_lamp, "Lighting", tier="small"),
    "floor_lamp": FurnitureClass(household.floor_lamp, "Lighting"),
    "plant": FurnitureClass(household.plant, "Plant/vase/decor"),
    "television": FurnitureClass(household.television, "Electronics", tier="small", weight=0.5),
    "bathtub": FurnitureClass(household.bathtub, "Bathroom fixture", weight=0.4),
    "washbasin": FurnitureClass(household.washbasin, "Bathroom fixture", weight=0.4),
    "toilet": FurnitureClass(household.toilet, "Bathroom fixture", weight=0.4),
}

"""Furniture."""

DECOR: dict[str, FurnitureClass] = {
    "pendant_lamp": FurnitureClass(fixtures.pendant_lamp, "Lighting", tier="mounted", weight=3.0),
    "chandelier": FurnitureClass(fixtures.chandelier, "Lighting", tier="mounted", weight=3.0),
    "ceiling_lamp": FurnitureClass(fixtures.ceiling_lamp, "Lighting", tier="mounted"),
    "picture": FurnitureClass(fixtures.picture, "Plant/vase/decor", tier="mounted", weight=2.0),
    "mirror": FurnitureClass(fixtures.mirror, "Plant/vase/decor", tier="mounted"),
    "wall_shelf": FurnitureClass(fixtures.wall_shelf, "Cabinet/Shelf/Desk", tier="mounted"),
    "wall_cabinet": FurnitureClass(fixtures.wall_cabinet, "Cabinet/Shelf/Desk", tier="mounted"),
    "wall_clock": FurnitureClass(fixtures.wall_clock, "Plant/vase/decor", tier="mounted", weight=0.5),
    "wall_lamp": FurnitureClass(fixtures.wall_lamp, "Lighting", tier="mounted"),
    "radiator": FurnitureClass(fixtures.radiator, "Other large", tier="mounted", weight=0.5),
    "curtain": FurnitureClass(fixtures.curtain, "Rug/curtain/screen", tier="mounted", weight=0.5),
    "wall_television": FurnitureClass(fixtures.wall_television, "Electronics", tier="mounted", weight=0.5),
    "broad_plant": FurnitureClass(decor.broad_plant, "Plant/vase/decor", weight=2.0),
    "palm": FurnitureClass(decor.palm, "Plant/vase/decor", weight=2.0),
    "sword_plant": FurnitureClass(decor.sword_plant, "Plant/vase/decor", weight=1.5),
    "flowers": FurnitureClass(decor.flowers, "Plant/vase/decor", tier="small", weight=1.5),
    "vase": FurnitureClass(decor.vase, "Plant/vase/decor", weight=1.0),
    "bowl": FurnitureClass(decor.bowl, "Other small", tier="small", weight=1.0),
    "books": FurnitureClass(decor.books, "Other small", tier="small", weight=1.0),
    "pillow": FurnitureClass(decor.pillow, "Other small", tier="small", weight=1.0),
    "basket": FurnitureClass(decor.basket, "Other large", weight=1.0),
    "bottle": FurnitureClass(decor.bottle, "Other small", tier="small", weight=0.5),
}
"""What hangs, is fixed to walls, grows, and lies about."""


def generate(
    class_name: str, rng: np.random.Generator, *, remove_hidden: bool = True
) -> tuple[FurnitureMesh, ModelInfo]:
    """Draw one variant of a class.

    Args:
        class_name: key of `CLASSES` or `DECOR`.
        rng: gives the variant's seed, and nothing else is taken from it.
        remove_hidden: drop faces that no outside camera can see, as is done for the real models; this takes
            some ten times longer than the drawing (3 to 40 ms).

    Raises:
        ValueError: unknown class.
    """
    return generate_seeded(class_name, int(rng.integers(_MAX_SEED)), remove_hidden=remove_hidden)


def generate_any(
    rng: np.random.Generator,
    classes: Mapping[str, FurnitureClass] = CLASSES,
    *,
    remove_hidden: bool = True,
) -> tuple[FurnitureMesh, ModelInfo]:
    """Draw a variant of one of the classes, `CLASSES` or `DECOR`, chosen by their weights."""
    names = list(classes)
    weights = np.array([classes[name].weight for name in names])
    return generate(
        names[rng.choice(len(names), p=weights / weights.sum())], rng, remove_hidden=remove_hidden
    )


def generate_seeded(
    class_name: str, seed: int, *, remove_hidden: bool = True
) -> tuple[FurnitureMesh, ModelInfo]:
    """Build the variant with the id "procedural/<class_name>/<seed>".

    Raises:
        ValueError: unknown class.
    """
    known = CLASSES | DECOR
    if class_name not in known:
        raise ValueError(f"generate: unknown class {class_name!r}; known: {sorted(known)}")
    kind = known[class_name]
    assembly, symmetry = kind.build(np.random.default_rng(seed))
    vertices, faces, colours = assembly.joined()
    unit, size_m = normalise(vertices)
    mesh = FurnitureMesh(unit, faces, colours)
    info = ModelInfo(
        id=f"procedural/{class_name}/{seed}",
        name=class_name.replace("_", " "),
        super_category=kind.super_category,
        tier=kind.tier,
        split="train",
        size_m=tuple(float(side) for side in size_m),
        symmetry=symmetry,
        licence="MIT",
        creator="SceneGen contributors",
    )
    return remove_hidden_faces(mesh, _VISIBILITY_DIRECTIONS) if remove_hidden else mesh, info
