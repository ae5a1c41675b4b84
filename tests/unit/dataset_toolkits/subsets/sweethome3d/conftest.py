"""A furniture library of two tiny models, written as Sweet Home 3D writes its own."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Ids that the split file knows; the geometry and colours are made up.
CATALOGUE = r"""
# PluginFurnitureCatalog.properties
name=Scopia catalog
id#1=Scopia#bed1
name#1=Bed \u20ac5
category#1=Bedroom
model#1=/scopia/bed1/bed1.obj
width#1=200.0
depth#1=50
height#1=100.0
modelRotation#1=0 0 1 0 1 0 -1 0 0
elevation#1=12
creator#1=Scopia
id#2=Scopia#chair
name#2=Chair
category#2=Living room
model#2=/scopia/chair/chair.obj
width#2=40
depth#2=40
height#2=80
creator#2=Scopia
id#3=Scopia#notFurniture
name#3=Street
category#3=Exterior
model#3=/scopia/notFurniture/notFurniture.obj
width#3=1
depth#3=1
height#3=1
"""
# A step of 1 x 2 x 4: rotated by the catalogue, its z becomes x. A wall faces +z in a blue material.
BED_OBJ = """
mtllib bed1.mtl
v 0 0 0
v 1 0 0
v 1 2 0
v 0 2 0
v 0 0 4
v 1 0 4
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl painted
f 1/1 2/2 3/3
f 1/1 3/3 4/4
usemtl blue
f 1 5 6
f 1 6 2
"""
BED_MTL = """
newmtl painted
Kd 0 0 0
map_Kd paint.png
newmtl blue
Kd 0.2 0.4 0.8
"""
CHAIR_OBJ = "v 0 0 0\nv 1 0 0\nv 1 1 1\nv 0 1 0\nf 1 2 3\nf 1 3 4\nf 1 2 4\n"


def _paint() -> bytes:
    """Left half red, right half green."""
    texels = np.zeros((8, 8, 3), np.uint8)
    texels[:, :4, 0], texels[:, 4:, 1] = 200, 100
    buffer = io.BytesIO()
    Image.fromarray(texels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Path of a Scopia.sh3f with models "bed1" and "chair"."""
    path = tmp_path / "source" / "Scopia.sh3f"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", CATALOGUE.encode("latin-1"))
        archive.writestr("LICENSE.TXT", "Creative Commons Attribution 3.0 Unported")
        archive.writestr("scopia/bed1/bed1.obj", BED_OBJ)
        archive.writestr("scopia/bed1/bed1.mtl", BED_MTL)
        archive.writestr("scopia/bed1/paint.png", _paint())
        archive.writestr("scopia/chair/chair.obj", CHAIR_OBJ)
        archive.writestr("scopia/notFurniture/notFurniture.obj", CHAIR_OBJ)
    return path
