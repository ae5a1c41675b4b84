"""A photo with masks from your own code: ``python examples/custom_masks.py``.

Masks are arrays as large as the photo, above 0 on the object, one for each object; here they are read from
the label image of a segmentation. Results also come as tensors and trimesh meshes, without any file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from scenegen.export.meshes import build_scene
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.settings import RunSettings


def main(
    checkpoint: Path | str = "checkpoints/scenegen-small",
    folder: Path = Path("assets/masked_images_test/test_0041"),
) -> trimesh.Scene:
    """Generate the scene of the first two objects, with other settings than the checkpoint's."""
    photo = Image.open(folder / "scene.jpg").convert("RGB")
    masks = [np.asarray(Image.open(folder / f"{index}_mask.png").convert("L")) for index in range(2)]
    images = SceneImages.from_masks(photo, masks)
    pipeline = SceneGenPipeline.from_pretrained(checkpoint)
    settings = RunSettings(seed=7, sampling={"steps": 8, "cfg_strength": 2.0})
    result = pipeline.run([images], settings)
    scene = build_scene(result)
    print(scene, result.settings)
    return scene


if __name__ == "__main__":
    main()
