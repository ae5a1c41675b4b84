"""Many scene folders, a report for each: ``python examples/batch.py``."""

from __future__ import annotations

from pathlib import Path

from scenegen.batch.scenes import BatchOptions, SceneReport, is_pending, make_scene
from scenegen.inputs.layout import detect_scene, find_scene_folders
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.settings import RunSettings


def main(
    checkpoint: Path | str = "checkpoints/scenegen-small",
    folders: Path = Path("assets/masked_images_test"),
    output: Path = Path("outputs/examples/batch"),
) -> list[SceneReport]:
    """Make the scenes that are not there yet; one that fails does not stop the others."""
    pipeline = SceneGenPipeline.from_pretrained(checkpoint)
    options = BatchOptions(output, ["glb", "poses"], RunSettings(seed=1))
    todo = [folder for folder in find_scene_folders(folders) if is_pending(folder, options)]
    reports = [make_scene(pipeline, detect_scene(folder), options) for folder in todo]
    for report in reports:
        print(f"{report.scene_id}: {report.status} {report.error or ''} {sum(report.seconds.values()):.1f} s")
    return reports


if __name__ == "__main__":
    main()
