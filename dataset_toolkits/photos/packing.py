"""From the table of scenes and its files to shards that training reads."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from safe_files.json_reader import read_json
from scenegen.batch.engines.tasks import TaskResult
from scenegen.conditioning.image_preparation import IMAGE_SIZE
from scenegen.datasets.furniture_ids import FURNITURE_ID
from scenegen.datasets.metadata import SCENE, AssetRow, SceneRow
from scenegen.datasets.sample_files import (
    SampleError,
    mask_path,
    prepare_cutout,
    read_feature,
    read_latent,
    read_mask,
    read_photo,
    read_picture,
)
from scenegen.datasets.shards import (
    SCENES,
    ShardHeader,
    ShardSample,
    read_header,
    shard_name,
    write_shard,
)
from scenegen.stores.root_files import RootFiles
from trellis_modules.files import atomic_write_text

SHARDS = "shards"
"""Folder of shards below a data root."""


@dataclass(frozen=True)
class PackSettings:
    """What shards are made of, and where they go; can be pickled.

    Attributes:
        set_name: set of photos.
        latent_model: model of the latents.
        image_size: pixels per edge.
        folder: of the shards: a path, or a name below the data root.
    """

    set_name: str
    latent_model: str
    image_size: int = IMAGE_SIZE
    folder: Path | str = SHARDS

    def latent_name(self, sha256: str) -> str:
        """The structure latent of an asset, from the data root on."""
        return f"ss_latents/{self.latent_model}/{sha256}.npz"


@dataclass(frozen=True)
class ShardJob:
    """A shard to write; can be pickled.

    Attributes:
        kind: one of `scenegen.datasets.shards.KINDS`.
        number: of the shard.
        samples: the rows of each scene, or assets.
    """

    kind: str
    number: int
    samples: Sequence[Sequence[SceneRow]] | Sequence[AssetRow]


@dataclass(frozen=True)
class Packed:
    """What came of a shard; can be pickled.

    Attributes:
        num_samples: that it holds.
        failed: what could not be packed: reasons by row or scene.
    """

    num_samples: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)


class Packer:
    """Writes shards."""

    def __init__(self, settings: PackSettings) -> None:
        """Prepare."""
        self._settings = settings

    def __call__(self, files: RootFiles, job: ShardJob) -> TaskResult:
        """Write a shard unless it is there, and tell what came of it, as `Packed`.

        Raises:
            OSError: the disk refuses.
            SplitError: a row has furniture of another split than the set.
        """
        settings = self._settings
        path = files.root / settings.folder / shard_name(job.kind, settings.set_name, job.number)
        names = list(dict.fromkeys(self._names(job)))
        source = self._source(job, files.states(*names))
        noted = source_path(path)
        if isinstance(settings.folder, Path):  # elsewhere on the disk
            outputs = []
        else:
            outputs = [each.relative_to(files.root).as_posix() for each in (path, noted)]
        if (known := self._earlier(files, path, source, outputs)) is not None:
            return TaskResult(known)
        with files.here(names, outputs):
            noted.unlink(missing_ok=True)  # while it is written, nothing tells of the shard before it
            packed = self._scenes(files, job) if job.kind == SCENES else self._latents_alone(files, job)
            samples, tensors, failed = packed
            found = Packed(len(samples), {item: files.told(reason) for item, reason in failed.items()})
            if samples:
                write_shard(path, self._header(job, samples, found), tensors)
                notes = {"source": source, "samples": found.num_samples, "failed": dict(found.failed)}
                atomic_write_text(noted, json.dumps(notes))
            else:
                path.unlink(missing_ok=True)
        return TaskResult(found)

    def _header(self, job: ShardJob, samples: Sequence[ShardSample], found: Packed) -> ShardHeader:
        settings = self._settings
        return ShardHeader(
            job.kind, settings.set_name, settings.latent_model, tuple(samples), dict(found.failed)
        )

    def _scenes(
        self, files: RootFiles, job: ShardJob
    ) -> tuple[list[ShardSample], dict[str, Tensor], dict[str, str]]:
        samples, tensors, failed = [], {}, {}
        latents = self._latents(files, (row.sha256 for rows in job.samples for row in rows))
        for rows in job.samples:
            packed = self._scene(files, rows, latents, failed)
            if packed is None:
                continue
            kept, content = packed
            tensors |= {f"{len(samples)}.{name}": tensor for name, tensor in content.items()}
            samples.append(_scene_sample(kept))
        return samples, tensors, failed

    def _latents_alone(
        self, files: RootFiles, job: ShardJob
    ) -> tuple[list[ShardSample], dict[str, Tensor], dict[str, str]]:
        found = self._latents(files, (asset.sha256 for asset in job.samples))
        failed = {key: str(latent) for key, latent in found.items() if isinstance(latent, SampleError)}
        kept = [asset for asset in job.samples if asset.sha256 not in failed]
        tensors = {"x_0": torch.stack([found[asset.sha256] for asset in kept])} if kept else {}
        return [_asset_sample(asset) for asset in kept], tensors, failed

    def _latents(self, files: RootFiles, keys: Iterable[str]) -> dict[str, Tensor | SampleError]:
        """The latent of each asset, or why it cannot be packed; all have the shape that most have."""
        found: dict[str, Tensor | SampleError] = {}
        for key in dict.fromkeys(keys):
            try:
                found[key] = read_latent(files.root / self._settings.latent_name(key))
            except SampleError as error:
                found[key] = error
        shapes = Counter(tuple(latent.shape) for latent in found.values() if isinstance(latent, Tensor))
        usual = shapes.most_common(1)[0][0] if shapes else ()
        for key, latent in found.items():
            if isinstance(latent, Tensor) and latent.shape != usual:
                path = files.root / self._settings.latent_name(key)
                found[key] = SampleError(
                    f"{path}: expected the shape {usual} of the other latents, got {tuple(latent.shape)}; "
                    "encode it again"
                )
        return found

    def _scene(
        self,
        files: RootFiles,
        rows: Sequence[SceneRow],
        found: Mapping[str, Tensor | SampleError],
        failed: dict[str, str],
    ) -> tuple[list[SceneRow], dict[str, Tensor]] | None:
        """The rows of a scene that can be packed, and their tensors; None when none can."""
        size, root = self._settings.image_size, files.root
        kept, latents, crops, masks = [], [], [], []
        try:
            feature = read_feature(root / rows[0].vggt_feature)
            scene_image = _stored(read_photo(root / rows[0].scene_image_path, size))
        except SampleError as error:
            failed[rows[0].scene_id] = str(error)
            return None
        for row in rows:
            try:
                if isinstance(latent := found[row.sha256], SampleError):
                    raise latent
                path = root / row.masked_image_path
                crop = read_picture(path)
                mask = _stored(read_mask(path, crop, size))
                prepared = _stored(prepare_cutout(crop, size, path))
            except SampleError as error:
                failed[f"{row.scene_id} object {row.instance_id}"] = str(error)
                continue
            kept.append(row)
            latents.append(latent)
            crops.append(prepared)
            masks.append(mask)
        if not kept:
            return None
        tensors = {
            "x_0": torch.stack(latents),
            "cond": torch.stack(crops),
            "mask_cond": torch.stack(masks),
            "scene_image": scene_image,
            "vggt_feature": feature,
        }
        return kept, tensors | (_placements(kept) if kept[0].kind == SCENE else {})

    @staticmethod
    def _earlier(files: RootFiles, path: Path, source: str, outputs: Sequence[str]) -> Packed | None:
        """What an earlier run packed, if it is the same; a file beside the shard tells of what it is."""
        if files.is_stored and len(files.states(*outputs)) < len(outputs):
            return None
        try:
            with files.here(outputs[1:]):
                notes = read_json(source_path(path))
            if notes["source"] != source:
                return None
            if not files.is_stored:  # a store has whole files alone
                read_header(path)
            return Packed(int(notes["samples"]), dict(notes["failed"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _source(self, job: ShardJob, states: Mapping[str, tuple[int, str]]) -> str:
        """Hash of rows, settings, and of what tells all files from others."""
        if job.kind == SCENES:
            rows = [[asdict(row) for row in rows] for rows in job.samples]
        else:
            rows = [asdict(asset) for asset in job.samples]
        found = [states.get(name) for name in self._names(job)]
        made_of = [rows, found, self._settings.latent_model, self._settings.image_size]
        text = json.dumps(made_of, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _names(self, job: ShardJob) -> Iterator[str]:
        """Names of the files that a shard is made of."""
        if job.kind != SCENES:
            yield from (self._settings.latent_name(asset.sha256) for asset in job.samples)
            return
        for row in (row for rows in job.samples for row in rows):
            yield self._settings.latent_name(row.sha256)
            yield from (row.masked_image_path, mask_path(Path(row.masked_image_path)).as_posix())
            yield from (row.vggt_feature, row.scene_image_path)


def source_path(shard: Path) -> Path:
    """Where it is kept of what a shard was made: not in it, so that its bytes depend on its content alone."""
    return shard.with_name(f".{shard.stem}.source")


def _stored(values: Tensor) -> Tensor:
    """Values in [0, 1] as bytes."""
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)


def _placements(rows: Sequence[SceneRow]) -> dict[str, Tensor]:
    """The annotated poses of objects, float64."""
    centers = [row.center or (float("nan"),) * 3 for row in rows]
    return {
        "translation": torch.tensor([row.translation for row in rows], dtype=torch.float64),
        "rotation": torch.tensor([row.rotation for row in rows], dtype=torch.float64),
        "scale": torch.tensor([row.scale for row in rows], dtype=torch.float64),
        "center": torch.tensor(centers, dtype=torch.float64),
    }


def _scene_sample(rows: Sequence[SceneRow]) -> ShardSample:
    return ShardSample(
        id=rows[0].scene_id,
        is_scene=rows[0].kind == SCENE,
        sha256=tuple(row.sha256 for row in rows),
        furniture=tuple(row.extra.get(FURNITURE_ID, "") for row in rows),
        aesthetic_score=tuple(row.aesthetic_score for row in rows),
        cond_rendered=tuple(row.cond_rendered for row in rows),
        has_center=all(row.center is not None for row in rows),
    )


def _asset_sample(asset: AssetRow) -> ShardSample:
    furniture = (asset.extra.get(FURNITURE_ID, ""),)
    key, score = (asset.sha256,), (asset.aesthetic_score,)
    return ShardSample(asset.sha256, False, key, furniture, score, (asset.cond_rendered,))
