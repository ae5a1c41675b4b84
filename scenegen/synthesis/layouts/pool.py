"""The models that scenes are composed of, by the part that they can play."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

SEAT_CATEGORIES = ("Chair", "Pier/Stool")
TABLETOP_CATEGORIES = (
    "Appliance",
    "Electronics",
    "Lighting",
    "Music/sport/toy",
    "Other large",
    "Other small",
    "Plant/vase/decor",
)
HANGING_WORDS = ("hanging", "pendant", "chandelier", "ceiling", "fluorescent", "track")
_DEEPEST_ON_WALL_M = 0.7
_TABLETOP_ONLY_M = 0.42  # such things below this size look lost on a floor


class Model(Protocol):
    """What the composer needs to know of a furniture model."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def super_category(self) -> str: ...

    @property
    def tier(self) -> str:
        """floor, small, mounted or flat."""

    @property
    def size_m(self) -> Sequence[float]:
        """Width, height, depth in metres (x, y, z of the y-up mesh)."""

    @property
    def symmetry(self) -> int:
        """Order of the yaw symmetry: 1 none, 2, 4, ..., 0 continuous."""


class ModelPool:
    """Models indexed by the part they can play in a scene; build it once, compose many scenes."""

    def __init__(self, models: Iterable[Model]) -> None:
        """Index the models.

        Raises:
            ValueError: none of them stands on the floor (tier floor, and no small thing for a table).
        """
        self.floor: list[Model] = []
        self.tabletop: list[Model] = []
        self.mounted: list[Model] = []
        self.hanging: list[Model] = []
        self.seats: list[Model] = []
        self.sofas: list[Model] = []
        self.beds: list[Model] = []
        self.dining_tables: list[Model] = []
        self.coffee_tables: list[Model] = []
        self.desks: list[Model] = []
        self.night_stands: list[Model] = []
        for model in models:
            self._add(model)
        if not self.floor:
            raise ValueError("ModelPool: expected models that stand on the floor, got none; check the split")

    def _add(self, model: Model) -> None:
        width, height, depth = model.size_m
        category = model.super_category
        if can_stand_on_support(model):
            self.tabletop.append(model)
            if max(model.size_m) < _TABLETOP_ONLY_M:
                return
        if model.tier == "mounted":
            if hangs_from_ceiling(model):
                self.hanging.append(model)
            elif depth <= _DEEPEST_ON_WALL_M:
                self.mounted.append(model)
        if model.tier != "floor":
            return
        self.floor.append(model)
        if category in SEAT_CATEGORIES:
            self.seats.append(model)
        elif category == "Sofa":
            self.sofas.append(model)
        elif category == "Bed":
            self.beds.append(model)
        elif category == "Table":
            (self.dining_tables if height > 0.6 else self.coffee_tables).append(model)
        elif category == "Cabinet/Shelf/Desk":
            if 0.6 < height < 0.95 and width > 0.9 and depth > 0.45:
                self.desks.append(model)
            elif height < 0.8 and width < 0.75:
                self.night_stands.append(model)


def hangs_from_ceiling(model: Model) -> bool:
    """True for lamps and fans of the tier "mounted" whose name says that they are not for a wall."""
    name = model.name.lower()
    return model.tier == "mounted" and any(word in name for word in HANGING_WORDS) and "clothes" not in name


def can_stand_on_support(model: Model) -> bool:
    """True for small items and for lamps, plants and the like that fit on a table."""
    if model.tier == "small":
        return True
    width, height, depth = model.size_m
    fits = height < 0.75 and max(width, depth) < 0.6
    return model.tier == "floor" and model.super_category in TABLETOP_CATEGORIES and fits


def can_carry(model: Model) -> bool:
    """True for tables, desks and low cabinets, whose box top is a usable surface."""
    height = model.size_m[1]
    if model.tier != "floor":
        return False
    return (model.super_category == "Table" and height < 1.15) or (
        model.super_category == "Cabinet/Shelf/Desk" and height < 1.0
    )
