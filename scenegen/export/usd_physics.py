"""What simulators read in a USD layer: rigid bodies with mass, convex parts as guides, a floor and gravity.

The world has z up, metres and kilograms. Masses and inertias are those of the MuJoCo model.

Source: OpenUSD, schema UsdPhysics.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from scenegen.export.usd_text import tuples_text
from scenegen.physics.bodies import RigidBody
from scenegen.physics.colliders import hull
from scenegen.physics.mujoco_model import FRICTION, GRAVITY
from trellis_modules.gltf import unit_normals
from trellis_modules.quaternions import matrix_to_quaternion

FRAME = "z up, in metres, the floor at height 0; masses in kilograms"

MASS_UNIT = "\n    kilogramsPerUnit = 1"
"""Metadata of the layer."""

SCHEMAS = """ (
        prepend apiSchemas = ["PhysicsRigidBodyAPI", "PhysicsMassAPI"]
    )"""
"""Of an object that is a rigid body."""

_ATTRIBUTES = """
        point3f physics:centerOfMass = {centre}
        float3 physics:diagonalInertia = {inertia}
        float physics:mass = {mass:.9g}
        quatf physics:principalAxes = {axes}
        bool physics:rigidBodyEnabled = 1
"""

_PART = """
        def Mesh "part_{row}" (
            prepend apiSchemas = ["PhysicsCollisionAPI", "PhysicsMeshCollisionAPI", "MaterialBindingAPI"]
        )
        {{
            float3[] extent = [{extent}]
            int[] faceVertexCounts = [{counts}]
            int[] faceVertexIndices = [{corners}]
            rel material:binding:physics = </Scene/surface> (
                bindMaterialAs = "weakerThanDescendants"
            )
            uniform token physics:approximation = "convexHull"
            bool physics:collisionEnabled = 1
            normal3f[] normals = [{normals}] (
                interpolation = "uniform"
            )
            point3f[] points = [{points}]
            uniform token purpose = "guide"
            uniform token subdivisionScheme = "none"
        }}
"""

_WORLD = """
    def PhysicsScene "physics"
    {{
        vector3f physics:gravityDirection = (0, 0, -1)
        float physics:gravityMagnitude = {gravity}
    }}

    def Material "surface" (
        prepend apiSchemas = ["PhysicsMaterialAPI"]
    )
    {{
        float physics:dynamicFriction = {friction}
        float physics:restitution = 0
        float physics:staticFriction = {friction}
    }}

    def Plane "floor" (
        prepend apiSchemas = ["PhysicsCollisionAPI", "MaterialBindingAPI"]
    )
    {{
        uniform token axis = "Z"
        float3[] extent = [(-50, -50, 0), (50, 50, 0)]
        double length = 100
        rel material:binding:physics = </Scene/surface> (
            bindMaterialAs = "weakerThanDescendants"
        )
        bool physics:collisionEnabled = 1
        uniform token purpose = "guide"
        double width = 100
    }}"""


def world() -> str:
    """Gravity, the material of all surfaces, and the floor."""
    return _WORLD.format(gravity=GRAVITY, friction=FRICTION)


def body_attributes(body: RigidBody) -> str:
    """Mass, centre of mass and inertia of an object."""
    moments, axes = np.linalg.eigh(body.inertia)
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
    return _ATTRIBUTES.format(
        centre=tuples_text([body.centre], "{:.9g}"),
        inertia=tuples_text([moments], "{:.9g}"),
        mass=body.mass,
        axes=tuples_text([matrix_to_quaternion(torch.from_numpy(axes)).numpy()], "{:.9g}"),
    )


def collider_meshes(body: RigidBody) -> str:
    """The convex parts of an object, which renderers leave out."""
    parts = []
    for row, part in enumerate(body.parts):
        points, faces = hull(part)
        points = points.astype(np.float32)  # as they are stored, so that the extent is theirs
        parts.append(
            _PART.format(
                row=row,
                extent=tuples_text([points.min(axis=0), points.max(axis=0)], "{:.9g}"),
                normals=tuples_text(_face_normals(points, faces), "{:.5g}"),
                counts=", ".join(["3"] * len(faces)),
                corners=", ".join(map(str, faces.ravel().tolist())),
                points=tuples_text(points, "{:.9g}"),
            )
        )
    return "".join(parts)


def _face_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    first, second, third = (points[faces[:, corner]].astype(np.float64) for corner in range(3))
    return unit_normals(np.cross(second - first, third - first))


def crate(text: str) -> bytes:
    """A layer in the binary form, which simulators ask for: text with many points is slow to read."""
    from pxr import Sdf

    layer = Sdf.Layer.CreateAnonymous(".usda")
    layer.ImportFromString(text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.usdc"
        layer.Export(str(path))
        return path.read_bytes()
