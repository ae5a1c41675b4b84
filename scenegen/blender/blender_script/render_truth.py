"""Runs inside Blender: blender -b --factory-startup --python render_truth.py -- job.json

Draws a scene as a GLB from the camera of its photo, before nothing: {"glb", "picture", "camera_pos",
"camera_rotation" (degrees, fixed axes), "fov", "width", "height", "samples"}, in Blender's frame (z up). It
may also have "camera_shift" (2), Blender's shift of the lens, and "matrix" (4 x 4), which moves the scene.
Lights and settings are those of the published pictures of true scenes.
"""

import json
import math
import os
import runpy
import sys

import bpy
import mathutils
import numpy

if not hasattr(numpy, "bool"):
    numpy.bool = bool  # Blender 3.4's glTF importer still uses the name that NumPy 1.24 took away

DEVICES = runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "devices.py"))
LIGHTS = (
    ((4, -4, 4), 2000),
    ((-4, -4, 4), 2000),
    ((4, 4, 4), 1500),
    ((-4, 4, 4), 1500),
    ((0, 0, -5), 1000),
)
BOUNCES = {
    "max_bounces": 4,
    "diffuse_bounces": 2,
    "glossy_bounces": 2,
    "transparent_max_bounces": 2,
    "transmission_bounces": 2,
    "volume_bounces": 0,
}


def move(scene, matrix):
    for item in scene.objects:
        if item.parent is None:
            item.matrix_world = matrix @ item.matrix_world


def add_lights(scene):
    for number, (place, watts) in enumerate(LIGHTS):
        data = bpy.data.lights.new(f"light_{number}", "POINT")
        data.energy = watts
        light = bpy.data.objects.new(data.name, data)
        light.location = place
        scene.collection.objects.link(light)


def add_camera(scene, job):
    data = bpy.data.cameras.new("camera")
    data.angle = job["fov"]
    data.clip_start = 0.001
    data.shift_x, data.shift_y = job.get("camera_shift", (0, 0))
    camera = bpy.data.objects.new("camera", data)
    camera.location = job["camera_pos"]
    camera.rotation_mode = "XYZ"
    camera.rotation_euler = [math.radians(angle) for angle in job["camera_rotation"]]
    scene.collection.objects.link(camera)
    scene.camera = camera


def set_up_render(scene, job):
    scene.render.engine = "CYCLES"
    scene.cycles.device = DEVICES["use_gpu"]()
    scene.cycles.samples = job["samples"]
    for name, value in BOUNCES.items():
        setattr(scene.cycles, name, value)
    DEVICES["use_denoiser"](scene)
    scene.render.resolution_x, scene.render.resolution_y = job["width"], job["height"]
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.view_settings.view_transform = "Filmic"  # later Blenders have another default
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.filepath = job["picture"]


def main():
    with open(sys.argv[sys.argv.index("--") + 1], encoding="utf-8") as file:
        job = json.load(file)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=job["glb"])
    scene = bpy.context.scene
    if "matrix" in job:
        move(scene, mathutils.Matrix(job["matrix"]))
    add_lights(scene)
    add_camera(scene, job)
    set_up_render(scene, job)
    bpy.ops.render.render(write_still=True)


main()
