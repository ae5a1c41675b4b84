"""A furniture library of few boxes, written as Sweet Home 3D writes its own; with ids of the split."""

from __future__ import annotations

import zipfile
from pathlib import Path

import trimesh

MODELS = {
    "bed1": (200, 100, 50),
    "chair": (40, 80, 40),
    "tray": (40, 10, 30),
    "coffee_table": (90, 40, 60),
    "wine_bottle": (8, 30, 8),
    "sushi_tray": (30, 5, 20),
}
"""Name -> width, height, depth in centimetres: two train models, one of validation, three of test."""


def write_library(folder: Path) -> Path:
    """Write ``Scopia.sh3f`` into a folder, and return its path."""
    lines = ["name=Scopia catalog"]
    for number, (name, (width, height, depth)) in enumerate(MODELS.items(), start=1):
        values = {
            "id": f"Scopia#{name}", "name": name, "category": "Living room", "creator": "Scopia",
            "model": f"/scopia/{name}/{name}.obj", "width": width, "height": height, "depth": depth,
        }  # fmt: skip
        lines += [f"{key}#{number}={value}" for key, value in values.items()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "Scopia.sh3f"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", "\n".join(lines).encode("latin-1"))
        archive.writestr("LICENSE.TXT", "Creative Commons Attribution 3.0 Unported")
        for name, sides in MODELS.items():
            archive.writestr(f"scopia/{name}/{name}.obj", trimesh.creation.box(sides).export(file_type="obj"))
    return path
