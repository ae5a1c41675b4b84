"""What the scripts beside this file share; they run it by its path, as Blender does not know their folder."""

import bpy


def use_gpu():
    """Turn on the GPU where this Blender and this machine have one; returns the device of Cycles."""
    preferences = bpy.context.preferences.addons["cycles"].preferences
    for kind in ("OPTIX", "CUDA", "HIP", "METAL", "ONEAPI"):
        try:
            preferences.compute_device_type = kind
        except TypeError:  # not in this build
            continue
        preferences.get_devices()
        if any(device.type == kind for device in preferences.devices):
            for device in preferences.devices:
                device.use = device.type == kind
            return "GPU"
    return "CPU"


def use_denoiser(scene):
    """Denoise with what this build has; distributions leave the denoiser out."""
    for name in ("OPENIMAGEDENOISE", "OPTIX"):
        try:
            scene.cycles.denoiser = name
        except TypeError:
            continue
        scene.cycles.use_denoising = True
        return
    scene.cycles.use_denoising = False
