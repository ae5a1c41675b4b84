"""A scene as a MuJoCo model (MJCF): free bodies on a floor, visual and collision geoms in groups.

Source: MuJoCo, XML reference. Bodies have explicit inertia, so that collision parts, which overlap,
do not change it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import torch

from scenegen.physics.bodies import RigidBody
from trellis_modules.quaternions import matrix_to_quaternion

VISUAL_GROUP, COLLISION_GROUP = 2, 3
"""Groups of geoms; viewers of MuJoCo show the first and hide the second at their start."""

TIMESTEP = 0.002
"""Seconds."""

GRAVITY = 9.81
"""Metres a second squared, downwards."""

FRICTION = 0.8
"""Of furniture on a floor; the same in both formats."""


@dataclass(frozen=True)
class VisualFiles:
    """What is shown of an object: a mesh file in its own frame and units, and the picture on it."""

    mesh: str
    picture: str


def mjcf(
    bodies: Sequence[RigidBody],
    visuals: Mapping[str, VisualFiles] | None = None,
    fixed: Collection[str] = (),
) -> str:
    """The model as XML.

    Args:
        bodies: objects, the floor at height 0.
        visuals: files by name of the body; without them only collision geoms are there.
        fixed: names of bodies that do not move.
    """
    root = ElementTree.Element("mujoco", model="scene")
    _add(root, "compiler", angle="radian", meshdir=".", texturedir=".")
    _add(root, "option", timestep=TIMESTEP, gravity=(0, 0, -GRAVITY), integrator="implicitfast")
    default = _add(root, "default")
    _class(default, "visual", group=VISUAL_GROUP, contype=0, conaffinity=0, mass=0)
    _class(default, "collision", group=COLLISION_GROUP, friction=(FRICTION, 0.005, 0.0001), mass=0)
    assets = _add(root, "asset")
    world = _add(root, "worldbody")
    _add(world, "light", pos=(0, 0, 10), dir=(0, 0, -1), directional="true")
    _add(world, "geom", {"class": "collision"}, name="floor", type="plane", size=(0, 0, 1))
    for body in bodies:
        files = None if visuals is None else visuals[body.name]
        _add_body(world, assets, body, files, is_free=body.name not in fixed)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_body(
    world: ElementTree.Element,
    assets: ElementTree.Element,
    body: RigidBody,
    visual: VisualFiles | None,
    *,
    is_free: bool,
) -> None:
    turn = matrix_to_quaternion(torch.from_numpy(body.rotation)).numpy()
    element = _add(world, "body", name=body.name, pos=body.position, quat=turn)
    if is_free:
        _add(element, "freejoint", name=body.name)
    values = body.inertia[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    _add(element, "inertial", pos=body.centre, mass=body.mass, fullinertia=values)
    if visual is not None:
        mesh, material = f"{body.name}_visual", f"{body.name}_material"
        _add(assets, "texture", name=material, type="2d", file=visual.picture)
        _add(assets, "material", name=material, texture=material, specular=0)
        _add(assets, "mesh", name=mesh, file=visual.mesh, scale=(body.size,) * 3, inertia="shell")
        _add(element, "geom", {"class": "visual"}, type="mesh", mesh=mesh, material=material)
    for row, part in enumerate(body.parts):
        mesh = f"{body.name}_part_{row}"
        _add(assets, "mesh", name=mesh, vertex=part.ravel(), inertia="convex")
        _add(element, "geom", {"class": "collision"}, type="mesh", mesh=mesh)


def _class(parent: ElementTree.Element, name: str, **geom: object) -> None:
    _add(_add(parent, "default", {"class": name}), "geom", **geom)


def _add(
    parent: ElementTree.Element, tag: str, words: Mapping[str, str] | None = None, **values: object
) -> ElementTree.Element:
    texts = {key: _text(value) for key, value in values.items()}
    return ElementTree.SubElement(parent, tag, {**(words or {}), **texts})


def _text(value: object) -> str:
    if isinstance(value, (tuple, list, np.ndarray)):
        return " ".join(map(_number, _flat(value)))
    return value if isinstance(value, str) else _number(value)


def _flat(values: Iterable[float]) -> list[float]:
    return np.asarray(values, np.float64).ravel().tolist()


def _number(value: object) -> str:
    return f"{value:.9g}"
