"""Parametric furniture: every class yields endless variants with the same records as the real models.

`generate("sofa", rng)` draws a variant; its id "procedural/sofa/<seed>" makes the same one again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scenegen.synthesis.furniture.procedural import household, seating, storage, tables
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
        tier: floor or small.
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


def generate(
    class_name: str, rng: np.random.Generator, *, remove_hidden: bool = True
) -> tuple[FurnitureMesh, ModelInfo]:
    """Draw one variant of a class.

    Args:
        class_name: key of `CLASSES`.
        rng: gives the variant's seed, and nothing else is taken from it.
        remove_hidden: drop faces that no outside camera can see, as is done for the real models; this takes
            some ten times longer than the drawing (3 to 40 ms).

    Raises:
        ValueError: unknown class.
    """
    return generate_seeded(class_name, int(rng.integers(_MAX_SEED)), remove_hidden=remove_hidden)


def generate_any(rng: np.random.Generator, *, remove_hidden: bool = True) -> tuple[FurnitureMesh, ModelInfo]:
    """Draw a variant of a class chosen by the classes' weights."""
    names = list(CLASSES)
    weights = np.array([CLASSES[name].weight for name in names])
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
    if class_name not in CLASSES:
        raise ValueError(f"generate: unknown class {class_name!r}; known: {sorted(CLASSES)}")
    kind = CLASSES[class_name]
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
