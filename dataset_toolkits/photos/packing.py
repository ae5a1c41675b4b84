"""From the table of scenes and its files to shards that training reads."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

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
    LATENTS,
    SCENES,
    ShardHeader,
    ShardSample,
    read_header,
    shard_name,
    write_shard,
)
from trellis_modules.files import atomic_write_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackSettings:
    """What shards are made of: the root, the model of the latents, pixels per edge, samples of a shard."""

    root: Path
    set_name: str
    latent_model: str
    image_size: int = IMAGE_SIZE
    samples_per_shard: int = 64

    def latent_path(self, sha256: str) -> Path:
        """The structure latent of an asset."""
        return self.root / "ss_latents" / self.latent_model / f"{sha256}.npz"


@dataclass
class Packer:
    """Writes shards one after the other, and counts what could not be packed.

    Attributes:
        settings: of all shards.
        folder: where the shards go.
        failed: reasons by row or scene.
        num_samples: packed in all shards.
    """

    settings: PackSettings
    folder: Path
    failed: dict[str, str] = field(default_factory=dict)
    num_samples: int = 0
    _shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)

    def scenes(self, scenes: Sequence[Sequence[SceneRow]], number: int) -> Path:
        """Write the shard of some scenes, each given by its rows, unless it is there.

        Raises:
            OSError: the disk refuses.
            SplitError: a row has furniture of another split than the set.
        """
        files = [path for rows in scenes for row in rows for path in self._files(row)]
        source = self._source([[asdict(row) for row in rows] for rows in scenes], files)
        path = self.folder / shard_name(SCENES, self.settings.set_name, number)
        if self._is_there(path, source):
            return path
        samples, tensors, failed = [], {}, {}
        latents = self._latents(row.sha256 for rows in scenes for row in rows)
        for rows in scenes:
            packed = self._scene(rows, latents, failed)
            if packed is None:
                continue
            kept, content = packed
            tensors |= {f"{len(samples)}.{name}": tensor for name, tensor in content.items()}
            samples.append(_scene_sample(kept))
        self._write(path, SCENES, source, samples, tensors, failed)
        return path

    def latents(self, assets: Sequence[AssetRow], number: int) -> Path:
        """Write the shard of the latents of some assets unless it is there; errors as `scenes`."""
        files = [self.settings.latent_path(asset.sha256) for asset in assets]
        source = self._source([asdict(asset) for asset in assets], files)
        path = self.folder / shard_name(LATENTS, self.settings.set_name, number)
        if self._is_there(path, source):
            return path
        found = self._latents(asset.sha256 for asset in assets)
        failed = {key: str(latent) for key, latent in found.items() if isinstance(latent, SampleError)}
        kept = [asset for asset in assets if asset.sha256 not in failed]
        tensors = {"x_0": torch.stack([found[asset.sha256] for asset in kept])} if kept else {}
        self._write(path, LATENTS, source, [_asset_sample(asset) for asset in kept], tensors, failed)
        return path

    def _latents(self, keys: Iterable[str]) -> dict[str, Tensor | SampleError]:
        """The latent of each asset, or why it cannot be packed; all have the shape that most have."""
        found: dict[str, Tensor | SampleError] = {}
        for key in dict.fromkeys(keys):
            try:
                found[key] = read_latent(self.settings.latent_path(key))
            except SampleError as error:
                found[key] = error
        self._shapes.update(tuple(latent.shape) for latent in found.values() if isinstance(latent, Tensor))
        usual = self._shapes.most_common(1)[0][0] if self._shapes else ()
        for key, latent in found.items():
            if isinstance(latent, Tensor) and latent.shape != usual:
                found[key] = SampleError(
                    f"{self.settings.latent_path(key)}: expected the shape {usual} of the other latents, got "
                    f"{tuple(latent.shape)}; encode it again"
                )
        return found

    def _scene(
        self, rows: Sequence[SceneRow], found: Mapping[str, Tensor | SampleError], failed: dict[str, str]
    ) -> tuple[list[SceneRow], dict[str, Tensor]] | None:
        """The rows of a scene that can be packed, and their tensors; None when none can."""
        size, root = self.settings.image_size, self.settings.root
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

    def _write(
        self,
        path: Path,
        kind: str,
        source: str,
        samples: Sequence[ShardSample],
        tensors: dict[str, Tensor],
        failed: Mapping[str, str],
    ) -> None:
        self.failed |= failed
        for item, reason in failed.items():
            logger.warning("%s: %s", item, reason)
        if not samples:
            logger.warning("%s: none of its samples can be packed; not written", path)
            path.unlink(missing_ok=True)
            return
        settings = self.settings
        header = ShardHeader(kind, settings.set_name, settings.latent_model, tuple(samples), dict(failed))
        write_shard(path, header, tensors)
        atomic_write_text(_source_path(path), source)
        self.num_samples += len(samples)

    def _is_there(self, path: Path, source: str) -> bool:
        """Whether an earlier run packed the same; a file beside the shard, which names times, tells."""
        try:
            if _source_path(path).read_text(encoding="utf-8") != source:
                return False
            header = read_header(path)
        except (OSError, ValueError):
            return False
        self.num_samples += len(header.samples)
        self.failed |= header.failed
        return True

    def _source(self, rows: object, files: Iterable[Path]) -> str:
        """Hash of rows, settings, and the sizes of all files and when they were changed."""
        found = [path.stat() if path.is_file() else None for path in files]
        states = [state and [state.st_size, state.st_mtime_ns] for state in found]
        text = json.dumps(
            [rows, states, self.settings.latent_model, self.settings.image_size], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def _files(self, row: SceneRow) -> list[Path]:
        crop = self.settings.root / row.masked_image_path
        names = (row.vggt_feature, row.scene_image_path)
        return [
            self.settings.latent_path(row.sha256),
            crop,
            mask_path(crop),
            *(self.settings.root / n for n in names),
        ]


def _source_path(shard: Path) -> Path:
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
