"""Colour error of textured objects: masked PSNR of four views against the true models.

    python -m benchmarks.colour_error --prediction DIR --truth DIR --output colours.json [--workers 2]

Both folders are those of evaluate.py, as inference.py and the scene writer fill them: meshes in their own
frames (y up, front +z), placed by the transforms of their nodes ``obj_<n>``; colours in textures or at
vertices. Every object is brought to a box centred at 0 with longest side 1 and drawn without light from four
sides, alone: placement does not count. PSNR is that of sRGB colours in the pixels that show both objects.

* ``psnr``: of the predicted colours;
* ``psnr_flat``: of the same meshes, each in the mean of its own predicted colours in those pixels;
* ``psnr_mean_colour``: of the same meshes, all in one colour, the mean over the true objects;
* ``silhouette_iou``: of the pixels that show either object, the share that shows both.

An object that is missing, or shares no pixel with the true one, counts 0 in every figure. Finished scenes are
kept in ``<output>.records.jsonl`` under a fingerprint of settings and files, so that a run can be resumed.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from scenegen.cli.parser import CommandParser
from scenegen.evaluation.comparison import EvaluationSettings
from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.report import bootstrap_interval
from scenegen.evaluation.runner import RecordStore, plan_evaluation
from scenegen.evaluation.scene import ScenePair, fingerprint
from scenegen.geometry import yup_to_zup
from trellis_modules.renderers import render_mesh
from trellis_modules.renderers.cameras import fov_intrinsics, orbit_extrinsics

Record = dict[str, Any]

FIGURES = ("psnr", "psnr_flat", "psnr_mean_colour", "silhouette_iou")
MAX_PSNR = 60.0
YAWS_DEG, PITCH_DEG, RADIUS, FOV_DEG = (30.0, 120.0, 210.0, 300.0), 20.0, 2.0, 40.0


@dataclass(frozen=True)
class ColourSettings:
    """What a record depends on beside the files.

    Attributes:
        size: pixels per edge of a view.
        version: counted up when figures change their meaning.
    """

    size: int = 256
    version: str = "colour error 1"


@dataclass(frozen=True)
class Views:
    """Four pictures of one object: colours (4, S, S, 3) sRGB in [0, 1], and where it is seen (4, S, S)."""

    colour: Tensor
    seen: Tensor


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        plan = plan_evaluation(options.prediction, options.truth, EvaluationSettings(), options.limit)
    except EvaluationError as error:
        logging.error("%s", error)
        return 2
    settings = ColourSettings(options.size)
    store = RecordStore(options.output.with_suffix(".records.jsonl"))
    records = list(tqdm(iterate_records(plan.pairs, settings, store, options.workers), total=len(plan.pairs)))
    report = summarise(records)
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(format_report(report))
    return 0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--prediction", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--size", type=int, default=ColourSettings.size, help="pixels per edge of a view")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--limit", type=int, help="only the first scenes")
    return parser.parse_args(arguments)


def iterate_records(
    pairs: tuple[ScenePair, ...], settings: ColourSettings, store: RecordStore, workers: int
) -> Iterator[Record]:
    """The record of every scene; those that the store knows come first and are not made again."""
    todo = {}
    for pair in pairs:
        key = fingerprint(pair, settings)
        if (record := store.get(key)) is not None:
            yield record
        else:
            todo[key] = pair
    with ExitStack() as stack:
        apply = map
        if workers > 1:
            pool = ProcessPoolExecutor(
                workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
            )
            apply = stack.enter_context(pool).map
        for key, record in zip(todo, apply(partial(compare_scene, settings=settings), todo.values())):
            store.add(key, record)
            yield record


# --- one scene -------------------------------------------------------------------------------------------


def compare_scene(pair: ScenePair, settings: ColourSettings) -> Record:
    """Figures of all true objects of a scene, by the names of their nodes."""
    truth = objects_of(pair.truth.scene)
    predicted = {} if pair.prediction is None else objects_of(pair.prediction.scene)
    figures = {}
    for node, mesh in sorted(truth.items()):
        true_views = draw(mesh, settings.size)
        views = draw(predicted[node], settings.size) if node in predicted else None
        figures[node] = compare(views, true_views)
    return {"scene_id": pair.scene_id, "objects": figures}


def objects_of(path: Path) -> dict[str, trimesh.Trimesh]:
    """The meshes of a scene in their own frames, by the names of their nodes."""
    scene = trimesh.load(path, process=False, force="scene")
    return {node: scene.geometry[scene.graph[node][1]] for node in scene.graph.nodes_geometry}


def draw(mesh: trimesh.Trimesh, size: int) -> Views:
    """Four views of an object (y up), brought to a box centred at 0 with longest side 1."""
    points = torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32)
    low, high = points.amin(dim=0), points.amax(dim=0)
    points = (points - (low + high) / 2) / (high - low).max().clamp_min(1e-12)
    texture, attributes = _colours(mesh)
    yaws = torch.deg2rad(torch.tensor(YAWS_DEG))
    extrinsics = orbit_extrinsics(yaws, torch.full_like(yaws, math.radians(PITCH_DEG)), RADIUS)
    pictures = render_mesh(
        yup_to_zup(points),
        torch.tensor(np.asarray(mesh.faces)),
        extrinsics,
        fov_intrinsics(math.radians(FOV_DEG)),
        size,
        vertex_attributes=attributes,
        near=0.5,
    )
    values = pictures.attributes
    colour = linear_to_srgb(values) if texture is None else sample_texture(texture, values)
    return Views(colour, pictures.alpha > 0.5)


def _colours(mesh: trimesh.Trimesh) -> tuple[Tensor | None, Tensor]:
    """A texture (H, W, 3) sRGB and UVs (V, 2); or None and linear vertex colours (V, 3), as glTF has them."""
    visual = mesh.visual
    if visual.kind != "texture":
        return None, _unit_rgb(visual.vertex_colors)
    if visual.uv is None or visual.material.baseColorTexture is None:  # colours beside a plain material
        return None, _unit_rgb(visual.vertex_attributes.get("color", np.full((len(mesh.vertices), 3), 255)))
    texture = _unit_rgb(visual.material.baseColorTexture.convert("RGB"))
    return texture, torch.tensor(np.asarray(visual.uv), dtype=torch.float32)


def _unit_rgb(colours: np.ndarray | Image.Image) -> Tensor:
    """Colours (..., 3 or 4) in [0, 255] as (..., 3) float32 in [0, 1]."""
    return torch.tensor(np.asarray(colours)[..., :3], dtype=torch.float32) / 255


def sample_texture(texture: Tensor, uv: Tensor) -> Tensor:
    """Colours (..., 3) of a texture (H, W, 3) at UVs (..., 2), whose origin is its lower left corner."""
    grid = torch.stack([uv[..., 0], 1 - uv[..., 1]], dim=-1) * 2 - 1
    colours = torch.nn.functional.grid_sample(
        texture.permute(2, 0, 1)[None],
        grid.reshape(1, 1, -1, 2),
        padding_mode="border",
        align_corners=False,
    )
    return colours[0, :, 0].T.reshape(*uv.shape[:-1], 3)


def linear_to_srgb(colours: Tensor) -> Tensor:
    """Map linear light in [0, 1] to sRGB. Source: IEC 61966-2-1."""
    return torch.where(
        colours <= 0.0031308, colours * 12.92, 1.055 * colours.clamp_min(1e-8) ** (1 / 2.4) - 0.055
    )


def compare(views: Views | None, truth: Views) -> Record:
    """Errors of one object.

    Args:
        views: as predicted; None for a missing object.
        truth: the same views of the true object.

    Returns:
        Mean squared errors of the predicted colours ("error") and of their mean ("error_flat"), mean ("mean",
        3 numbers) and variance ("variance", over pixels, averaged over channels) of the true colours, all in
        the pixels that show both; and "silhouette_iou". All 0 but "mean", which is of all true pixels, where
        "matched" is false.
    """
    both = truth.seen & views.seen if views is not None else torch.zeros_like(truth.seen)
    if not both.any():
        mean = truth.colour[truth.seen].double().mean(dim=0).tolist() if truth.seen.any() else [0.5] * 3
        nothing = dict.fromkeys(("error", "error_flat", "variance", "silhouette_iou"), 0.0)
        return {"matched": False, "mean": mean, **nothing}
    goal, colour = truth.colour[both].double(), views.colour[both].double()
    return {
        "matched": True,
        "mean": goal.mean(dim=0).tolist(),
        "error": float((colour - goal).square().mean()),
        "error_flat": float((colour.mean(dim=0) - goal).square().mean()),
        "variance": float(goal.var(dim=0, correction=0).mean()),
        "silhouette_iou": float(both.sum() / (truth.seen | views.seen).sum()),
    }


# --- all scenes ------------------------------------------------------------------------------------------


def psnr(error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of colours in [0, 1], at most `MAX_PSNR`."""
    return min(-10 * math.log10(max(error, 1e-12)), MAX_PSNR)


def summarise(records: list[Record]) -> Record:
    """Mean, median and 95 % interval over scenes of each figure, and how many objects there were."""
    entries = [list(record["objects"].values()) for record in records]
    everything = [entry for scene in entries for entry in scene]
    mean_colour = np.mean([entry["mean"] for entry in everything], axis=0)
    figures = [[_figures(entry, mean_colour) for entry in scene] for scene in entries]
    return {
        "scenes": len(records),
        "objects": len(everything),
        "matched": sum(entry["matched"] for entry in everything),
        "mean_colour": mean_colour.tolist(),
        "figures": {
            name: _statistics([[each[name] for each in scene] for scene in figures]) for name in FIGURES
        },
    }


def _figures(entry: Record, mean_colour: np.ndarray) -> dict[str, float]:
    if not entry["matched"]:
        return dict.fromkeys(FIGURES, 0.0)
    error_of_mean = entry["variance"] + float(np.square(entry["mean"] - mean_colour).mean())
    return {
        "psnr": psnr(entry["error"]),
        "psnr_flat": psnr(entry["error_flat"]),
        "psnr_mean_colour": psnr(error_of_mean),
        "silhouette_iou": entry["silhouette_iou"],
    }


def _statistics(values: list[list[float]]) -> Record:
    flat = np.concatenate(values)
    return {"mean": float(flat.mean()), "median": float(np.median(flat)), "ci95": bootstrap_interval(values)}


def format_report(report: Record) -> str:
    """A Markdown table."""
    lines = [
        f"{report['scenes']} scenes, {report['objects']} objects, {report['matched']} matched\n",
        "| figure | mean | 95 % interval | median |",
        "|---|---:|---|---:|",
    ]
    for name, figure in report["figures"].items():
        interval = " to ".join(f"{end:.3f}" for end in figure["ci95"])
        lines.append(f"| `{name}` | {figure['mean']:.3f} | {interval} | {figure['median']:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
