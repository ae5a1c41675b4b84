"""Runs inside Blender: blender -b --factory-startup --python render_glb.py -- job.json

Draws a scene, ``glb`` of the job, as Blender reads it, to the PNG file ``picture``. Back faces are culled, so
that an opening in a surface shows as a hole. The camera is the node ``photo`` of the GLB where it has one.
"""

import json
import math
import sys

import bpy
import numpy
from mathutils import Vector

if not hasattr(numpy, "bool"):
    numpy.bool = bool  # the glTF importer of Blender 3.4 was written for NumPy before 1.24

WIDTH, SAMPLES = 360, 48
LIGHT = 1.1


def cull_back_faces(material):
    """Make a material transparent where a face is seen from behind."""
    tree = material.node_tree
    output = next(node for node in tree.nodes if node.type == "OUTPUT_MATERIAL")
    surface = output.inputs["Surface"].links[0].from_socket
    geometry, clear, mix = (
        tree.nodes.new(kind)
        for kind in ("ShaderNodeNewGeometry", "ShaderNodeBsdfTransparent", "ShaderNodeMixShader")
    )
    tree.links.new(geometry.outputs["Backfacing"], mix.inputs[0])
    tree.links.new(surface, mix.inputs[1])
    tree.links.new(clear.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], output.inputs["Surface"])


def camera_of(scene):
    """The photo's camera; else one that looks at the scene from above its front."""
    for item in scene.objects:
        if item.type == "CAMERA":
            return item
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    camera.location = (1.6, -2.9, 1.9)
    camera.rotation_euler = (-Vector(camera.location)).to_track_quat("-Z", "Y").to_euler()
    return camera


def main(glb, picture):
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.object.delete()
    bpy.ops.import_scene.gltf(filepath=glb)
    scene = bpy.context.scene
    for material in bpy.data.materials:
        if material.use_nodes:
            cull_back_faces(material)
    scene.camera = camera_of(scene)
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs[0].default_value = (1, 1, 1, 1)
    world.node_tree.nodes["Background"].inputs[1].default_value = LIGHT
    scene.world = world
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 1.5, (math.radians(40), 0, math.radians(30))
    scene.collection.objects.link(sun)
    scene.render.engine, scene.cycles.samples = "CYCLES", SAMPLES
    scene.cycles.use_denoising = False  # Debian builds Blender without a denoiser
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x = scene.render.resolution_y = WIDTH
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = picture
    bpy.ops.render.render(write_still=True)


with open(sys.argv[sys.argv.index("--") + 1], encoding="utf-8") as job:
    main(**json.load(job))
