"""One photo with masks in a folder to a scene: ``python examples/single_image.py``."""

from __future__ import annotations

from pathlib import Path

from scenegen.export.scene_files import write_scene
from scenegen.inputs.scene_folder import read_scene
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.settings import RunSettings
from scenegen.refinement.placement import refine_result


def main(
    checkpoint: Path | str = "checkpoints/scenegen-small",
    folder: Path = Path("assets/masked_images_test/test_0041"),
    output: Path = Path("outputs/examples/single_image"),
) -> list[Path]:
    """Generate the scene and return the files written."""
    pipeline = SceneGenPipeline.from_pretrained(checkpoint, device="cpu")
    scene = read_scene(folder)
    result = pipeline.run(scene, RunSettings(seed=42))
    result = refine_result(result, scene[0].masks)  # objects out of each other and onto the floor
    for item in result.objects:
        print(f"object {item.object_id}: pose {item.pose.tolist()}, {item.problem or item.mesh}")
    return write_scene(result, output, ["glb", "objects", "obj", "preview"])


if __name__ == "__main__":
    main()
