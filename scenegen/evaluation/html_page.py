"""A page that shows every scene of a report: photo, truth, prediction and turntables, the worst ones first.

The page is a folder with ``index.html`` and pictures; it opens without a server and fetches nothing.
"""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from scenegen.evaluation.appearance import guess_sources, on_white, scene_camera
from scenegen.evaluation.html_template import TEMPLATE
from scenegen.evaluation.loading import (
    EvaluationError,
    SceneFiles,
    find_scene_files,
    load_scene,
    scene_normalisation,
)
from scenegen.evaluation.pictures.cameras import SceneCamera
from scenegen.evaluation.pictures.embeddings import NetworkPaths
from scenegen.evaluation.pictures.ray_casting import ColouredTriangles, cast, load_triangles
from scenegen.evaluation.registration import Similarity
from scenegen.evaluation.report import scene_means, with_colours
from scenegen.evaluation.settings import CORRECTED
from scenegen.evaluation.tables import LOWER_IS_BETTER, format_report
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.scene_folder import read_scene
from trellis_modules.files import atomic_write, atomic_write_text
from trellis_modules.renderers.cameras import fov_intrinsics, orbit_extrinsics

FRAMES, FRAME_SIZE, VIEW_SIZE = 8, 192, 320
_FOV, _DISTANCE, _PITCH = np.deg2rad(40.0), 4.8, np.deg2rad(25.0)  # shows every corner of the box
_YUP_TO_ZUP = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


@dataclass(frozen=True)
class _Shown:
    """What the pictures of one scene are made of."""

    truth: SceneFiles
    prediction: SceneFiles | None
    record: dict[str, Any]
    images: Path | None
    render_config: Path | None
    folder: Path


def write_page(folder: Path, report: dict[str, Any], workers: int = 2) -> Path:
    """Write the page of a report.

    Args:
        folder: of the page; made where it is missing.
        report: from `build_report`, whose inputs are still where they were.
        workers: processes that draw.

    Returns:
        The page.

    Raises:
        EvaluationError: an input folder is gone, or a process was killed.
    """
    truth, prediction = Path(report["inputs"]["truth"]), Path(report["inputs"]["prediction"])
    images = report["inputs"].get("images")
    sources = guess_sources(truth, folder, Path(images) if images else None, NetworkPaths())
    true, predicted = find_scene_files(truth), find_scene_files(prediction)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    shown = [
        _Shown(
            true[record["id"]],
            predicted.get(record["id"]),
            record,
            sources.images,
            sources.render_config,
            folder / "pictures",
        )
        for record in report["scenes"]
        if record["id"] in true
    ]
    names = [each.truth.scene_id for each in shown]
    try:
        pictures = dict(zip(names, _drawn(shown, workers), strict=True))
    except BrokenProcessPool as error:
        raise EvaluationError(
            f"--html {folder}: a process that draws the page was killed, as a rule for lack of memory; run "
            "again with fewer --workers, scenes are not measured again"
        ) from error
    page = folder / "index.html"
    atomic_write_text(page, _page(report, pictures))
    return page


def _drawn(shown: list[_Shown], workers: int) -> list[dict[str, str]]:
    if workers == 1:
        return list(map(_draw_scene, shown))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(_draw_scene, shown))


def _page(report: dict[str, Any], pictures: dict[str, dict[str, str]]) -> str:
    scenes = [
        {
            "id": record["id"],
            "status": record["status"],
            "note": "; ".join(filter(None, [record["error"], *record["warnings"]])),
            "objects": record["n_truth"],
            "figures": figures,
            "pictures": pictures.get(record["id"], {}),
        }
        for record, figures in zip(report["scenes"], _figures(report), strict=True)
    ]
    names = sorted({name for scene in scenes for name in scene["figures"]})
    lower = [name for name in names if any(part in name for part in LOWER_IS_BETTER)]
    first = "corrected.scene_fscore" if "corrected.scene_fscore" in names else names[0] if names else ""
    data = {"scenes": scenes, "names": names, "lower": lower, "first": first}
    # "</" would end the script; Infinity is a word of JavaScript too.
    return (
        TEMPLATE.replace("@TITLE@", escape(report["inputs"]["prediction"]))
        .replace("@TABLES@", escape(format_report(report)))
        .replace("@DATA@", json.dumps(data).replace("</", "<\\/"))
    )


def _figures(report: dict[str, Any]) -> list[dict[str, float]]:
    """Figures of each scene by ``<protocol>.<name>``; those of objects are means over the scene."""
    figures: list[dict[str, float]] = [{} for _ in report["scenes"]]
    for protocol in report["protocols"]:
        parts = with_colours([record["protocols"][protocol] for record in report["scenes"]])
        for found, part in zip(figures, parts, strict=True):
            found |= {f"{protocol}.{name}": value for name, value in scene_means(part).items()}
    return figures


def _draw_scene(shown: _Shown) -> dict[str, str]:
    """Draw what the page shows of one scene; return the names of the pictures."""
    made: dict[str, Image.Image] = {}
    photo = _photo(shown)
    if photo is not None:
        made["photo"] = photo
    try:
        camera = scene_camera(shown.truth, photo.size if photo else None, shown.render_config)
    except EvaluationError:
        camera = None
    made |= _views("truth", shown.truth.scene, Similarity(), camera)
    if shown.prediction is not None:
        try:
            made |= _views("prediction", shown.prediction.scene, _move(shown), camera)
        except (EvaluationError, ValueError):
            pass  # the record of the scene says what is wrong with it
    return {name: _saved(shown, name, picture) for name, picture in made.items()}


def _photo(shown: _Shown) -> Image.Image | None:
    if shown.images is None:
        return None
    try:
        return read_scene(shown.images / shown.truth.scene_id)[0].photo.convert("RGB")
    except SceneInputError:
        return None


def _move(shown: _Shown) -> Similarity:
    """Takes the predicted scene file to the true one, with the alignment of the record."""
    protocols = shown.record["protocols"]
    name = CORRECTED if CORRECTED in protocols else next(iter(protocols))
    found = protocols[name]["alignment"]
    if found is None:
        return Similarity()
    aligned = Similarity(np.array(found["rotation"]), np.array(found["translation"]), found["scale"])
    if name != CORRECTED:
        return aligned
    from_box = scene_normalisation(load_scene(shown.truth.scene)).inverse()
    return from_box.after(aligned.after(scene_normalisation(load_scene(shown.prediction.scene))))


def _views(name: str, path: Path, move: Similarity, camera: SceneCamera | None) -> dict[str, Image.Image]:
    """A scene through the photo's camera, where it is known, and its turntable in one strip."""
    triangles = load_triangles(path).moved(move)
    made = {f"{name}_turntable": _strip(triangles)}
    if camera is not None:
        made[name] = Image.fromarray(on_white(cast(triangles, camera, samples=1)))
    return made


def _strip(triangles: ColouredTriangles) -> Image.Image:
    """Frames of a full turn side by side, around the middle of the box [-1, 1]^3 of scene files."""
    strip = Image.new("RGB", (FRAMES * FRAME_SIZE, FRAME_SIZE))
    focal = float(fov_intrinsics(_FOV)[0, 0]) * FRAME_SIZE
    yaws = np.linspace(0, 2 * np.pi, FRAMES, endpoint=False)
    for index, extrinsics in enumerate(_orbit(yaws)):
        middle = (FRAME_SIZE / 2, FRAME_SIZE / 2)
        camera = SceneCamera(extrinsics, (focal, focal), middle, FRAME_SIZE, FRAME_SIZE)
        frame = Image.fromarray(on_white(cast(triangles, camera, samples=1)))
        strip.paste(frame, (index * FRAME_SIZE, 0))
    return strip


def _orbit(yaws: np.ndarray) -> np.ndarray:
    """Extrinsics (V, 4, 4) of cameras around a scene with y up."""
    turned = torch.tensor(yaws, dtype=torch.float64)
    zup = orbit_extrinsics(turned, torch.full_like(turned, float(_PITCH)), _DISTANCE).numpy()
    return zup @ _YUP_TO_ZUP


def _saved(shown: _Shown, name: str, picture: Image.Image) -> str:
    if not name.endswith("_turntable"):
        picture = picture.copy()
        picture.thumbnail((VIEW_SIZE, VIEW_SIZE))
    file = f"{shown.truth.scene_id}_{name}.jpg"
    with atomic_write(shown.folder / file, shared=True) as temporary:
        picture.save(temporary, format="JPEG", quality=85)
    return f"pictures/{file}"
