"""What every page shows of a scene: the 3D view, the table of poses and the download of its file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safe_files.json_reader import read_json

if TYPE_CHECKING:
    import gradio

logger = logging.getLogger(__name__)

PANEL_HEIGHT = 500
POSE_COLUMNS = ("object", "x", "y", "z", "w", "x (rotation)", "y (rotation)", "z (rotation)", "scale")
POSES_LABEL = "Poses in the frame of the query object"


def scene_panel(label: str, elem_id: str | None = None) -> gradio.Model3D:
    """The 3D view of a GLB file."""
    import gradio as gr

    return gr.Model3D(label=label, height=PANEL_HEIGHT, interactive=False, elem_id=elem_id)


def pose_table(elem_id: str | None = None) -> gradio.Dataframe:
    """The table that `pose_rows` fills."""
    import gradio as gr

    return gr.Dataframe(headers=list(POSE_COLUMNS), label=POSES_LABEL, interactive=False, elem_id=elem_id)


def glb_button(label: str, elem_id: str | None = None) -> gradio.DownloadButton:
    """The button that downloads a GLB file."""
    import gradio as gr

    return gr.DownloadButton(label, elem_id=elem_id)


def pose_rows(poses: Path | None) -> list[list[Any]]:
    """Rows of the pose table (`POSE_COLUMNS`); none where a scene has no pose file."""
    if poses is None:
        return []
    try:
        return [_pose_row(entry) for entry in read_json(poses)["objects"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        logger.warning("%s: expected the poses of objects, got others (%s); none are shown", poses, error)
        return []


def _pose_row(entry: dict[str, Any]) -> list[Any]:
    values = (*entry["translation"], *entry["rotation_wxyz"], entry["scale"])
    return [_shown_id(entry), *(round(value, 3) for value in values)]


def _shown_id(entry: dict[str, Any]) -> Any:
    """The number of an object, with its name where somebody gave it one."""
    number, name = entry["id"], entry.get("name", "")
    return f"{number}: {name}" if name not in ("", f"object {number}") else number
