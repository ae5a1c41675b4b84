"""What a data root has, what it lacks, and what in it is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dataset_toolkits.photos.rows import grouped, statistics_text
from dataset_toolkits.photos.set_paths import RENDERS_COND, SETS, SetPaths
from scenegen.datasets.annotations import AnnotationError, Fault, kept_objects, read_annotations
from scenegen.datasets.furniture_ids import check_rows
from scenegen.datasets.metadata import ASSETS_NAME, SCENE, AssetRow, SceneRow, read_assets, read_scenes
from scenegen.datasets.model_boxes import ModelBoxes, ModelFileError
from scenegen.datasets.pose_checks import PoseCheck, check_poses
from scenegen.synthesis.furniture.split import SplitError

MISSING, CUT_OFF, BROKEN = "missing files", "files cut off", "broken rows"
_STATUS_FOLDERS = {"feature_": "features", "latent_": "latents", "ss_latent_": "ss_latents"}
_TAILS = {".png": (b"IEND", 8, 8), ".npz": (b"PK\x05\x06", 22, 22), ".jpg": (b"\xff\xd9", 2, 16)}
"""Ending of a file name -> bytes that a whole file has near its end, and how far from it at least and at most
they begin. Some cameras write a little behind a JPEG."""


@dataclass
class Inspection:
    """What was found.

    Attributes:
        root: the data root.
        lines: counts, to be read.
        problems: what is broken, by kind; each names a file and what it belongs to.
        scenes: rows of the photos of each set.
        poses: figures of the photos' poses, by set and photo.
    """

    root: Path
    lines: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)
    scenes: dict[str, dict[str, list[SceneRow]]] = field(default_factory=dict)
    poses: dict[tuple[str, str], PoseCheck] = field(default_factory=dict)

    def add(self, kind: str, problem: str) -> None:
        """Count a problem."""
        self.problems.setdefault(kind, []).append(problem)

    def check_file(self, path: Path, owner: str) -> None:
        """Count a file that is not there, or ends in the middle."""
        if not path.is_file():
            self.add(MISSING, f"{path} of {owner}")
        elif not is_whole(path):
            self.add(CUT_OFF, f"{path} of {owner}")


def is_whole(path: Path) -> bool:
    """Whether a file ends as its kind does; others than pictures and arrays are only not empty."""
    size = path.stat().st_size
    tail, nearest, farthest = _TAILS.get(path.suffix, (b"", 0, 0))
    with path.open("rb") as file:
        file.seek(max(0, size - farthest))
        end = file.read()
    return size > 0 and tail in end[: len(end) - nearest + len(tail)]


def inspect_root(root: Path, progress: Callable[[Iterable], Iterable] = iter) -> Inspection:
    """Look at everything below a data root.

    Args:
        root: the data root.
        progress: wraps what is gone through, to show how far it has come.

    Raises:
        MetadataError: there is no table of assets.
    """
    found = Inspection(root)
    assets = read_assets(root / ASSETS_NAME, lambda error: found.add(BROKEN, str(error)))
    found.lines += _asset_counts(assets)
    for asset in progress(assets):
        for path in _asset_files(root, asset):
            found.check_file(path, f"asset {asset.sha256}")
    boxes = ModelBoxes(root)
    for name in SETS:
        paths = SetPaths(root, name)
        if paths.annotations.is_file() or paths.table.is_file():
            _inspect_set(found, paths, boxes, progress)
    return found


def _asset_counts(assets: Sequence[AssetRow]) -> list[str]:
    flags = ("rendered", "voxelized", "cond_rendered")
    counts = Counter(name for asset in assets for name in flags if getattr(asset, name))
    counts.update(name for asset in assets for name, done in asset.status.items() if done)
    names = [*flags, *sorted({name for asset in assets for name in asset.status})]
    has_model = sum(bool(asset.local_path) for asset in assets)
    return [
        f"assets: {len(assets)}, with a model: {has_model}",
        *(f"  {name}: {counts[name]}" for name in names),
    ]


def _asset_files(root: Path, asset: AssetRow) -> Iterator[Path]:
    """The files that a row of the table says are there."""
    if asset.local_path:
        yield root / asset.local_path
    if asset.rendered:
        yield root / "renders" / asset.sha256 / "transforms.json"
        yield root / "renders" / asset.sha256 / "mesh.ply"
    if asset.voxelized:
        yield root / "voxels" / f"{asset.sha256}.ply"
    if asset.cond_rendered:
        yield root / RENDERS_COND / asset.sha256 / "transforms.json"
    for name, done in asset.status.items():
        prefix = next(prefix for prefix in _STATUS_FOLDERS if name.startswith(prefix))
        if done:
            yield root / _STATUS_FOLDERS[prefix] / name.removeprefix(prefix) / f"{asset.sha256}.npz"


def _inspect_set(
    found: Inspection, paths: SetPaths, boxes: ModelBoxes, progress: Callable[[Iterable], Iterable]
) -> None:
    rows: list[SceneRow] = []
    if paths.table.is_file():
        rows = read_scenes(paths.table, lambda error: found.add(BROKEN, str(error)))
    try:
        check_rows(rows, paths.name)
    except SplitError as error:
        found.add(BROKEN, f"{paths.table}: {error}")
    found.lines += [f"{paths.name} set:", *(f"  {line}" for line in statistics_text(rows).splitlines())]
    for row in progress(rows):
        for name in (row.vggt_feature, row.masked_image_path, row.scene_image_path):
            found.check_file(found.root / name, f"{row.scene_id} object {row.instance_id}")
    scenes = {name: group for name, group in grouped(rows).items() if group[0].kind == SCENE}
    found.scenes[paths.name] = scenes
    if paths.annotations.is_file():
        _compare_with_annotations(found, paths, scenes, boxes, progress)
    for name, group in scenes.items():
        _check_scene_poses(found, paths, name, group, boxes)
    found.lines += _pose_counts(
        check for (set_name, _), check in found.poses.items() if set_name == paths.name
    )


def _compare_with_annotations(
    found: Inspection,
    paths: SetPaths,
    scenes: dict[str, list[SceneRow]],
    boxes: ModelBoxes,
    progress: Callable[[Iterable], Iterable],
) -> None:
    """Count wrong annotations, photos that are missing, and rows that the annotations do not have."""

    def add(fault: Fault) -> None:
        found.add(BROKEN, f"{paths.annotations}: {fault.item}: {fault.reason}")

    try:
        photos = read_annotations(paths.annotations, add)
    except AnnotationError as error:
        found.add(BROKEN, str(error))
        return
    for photo in progress(photos):
        found.check_file(paths.photo(photo.file_name), f"photo {photo.file_name}")
        kept = kept_objects(photo, boxes.box)
        for fault in kept.faults:
            add(fault)
        try:
            photo.fov()
        except AnnotationError as error:
            found.add(BROKEN, str(error))
        models = {item.instance_id: item.model_id for item in kept.objects}
        for row in scenes.get(photo.file_name, []):
            if models.get(row.instance_id) != row.model_id:
                found.add(
                    BROKEN,
                    f"{paths.table}: {row.scene_id} object {row.instance_id} is not in the annotations; "
                    "run build_metadata_scene.py again",
                )


def _check_scene_poses(
    found: Inspection, paths: SetPaths, name: str, rows: list[SceneRow], boxes: ModelBoxes
) -> None:
    try:
        found.poses[paths.name, name] = check_poses(rows, [boxes.box(row.model_id) for row in rows])
    except ModelFileError as error:
        found.add(BROKEN, f"{paths.table}: {name}: {error}")


def _pose_counts(checks: Iterable[PoseCheck]) -> list[str]:
    checks = list(checks)
    objects = sum(len(check.tilt_deg) for check in checks)
    pairs = sum(len(check.overlap) for check in checks)
    return [
        f"  poses of {objects} objects: {sum(check.tilted for check in checks)} tilted, "
        f"{sum(check.raised for check in checks)} not on the floor; of {pairs} pairs "
        f"{sum(check.overlapping for check in checks)} overlap"
    ]


def doubtful_scenes(found: Inspection) -> list[str]:
    """A line for each photo whose objects are tilted or overlap, the worst first."""
    worst = sorted(
        found.poses.items(), key=lambda item: -(item[1].tilted + max(item[1].overlap.values(), default=0))
    )
    return [
        f"{set_name} {name}: {check.tilted} tilted, {check.raised} not on the floor, {check.overlapping} "
        f"pairs overlap (most {max(check.overlap.values(), default=0):.0%})"
        for (set_name, name), check in worst
        if check.tilted or check.overlapping
    ]
