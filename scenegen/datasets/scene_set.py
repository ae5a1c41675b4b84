"""The set of scenes: every object of every photo once as the query, the others around it.

Source: SceneGen, arXiv:2508.15769, sec. 3; the name of the set is that of its released training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from safe_files.limits import MAX_IMAGE_SIDE_PX
from scenegen.conditioning.image_preparation import IMAGE_SIZE
from scenegen.conditioning.parts import assemble_cond
from scenegen.datasets.asset_samples import stacked
from scenegen.datasets.batch import SceneCaseBatch
from scenegen.datasets.cond_tokens import read_tokens, tokens_path
from scenegen.datasets.furniture_ids import TRAIN, check_rows
from scenegen.datasets.metadata import SCENE, SceneRow, read_scenes
from scenegen.datasets.normalization import Normalization, normalised_latents
from scenegen.datasets.poses import (
    ENCODINGS,
    QUATERNION,
    asset_order,
    encode_poses,
    training_poses,
    turned_latents,
)
from scenegen.datasets.roots import (
    RowFilter,
    batch_size,
    check_not_empty,
    has_status,
    is_of_part,
    is_scored,
    narrowed,
    root_folders,
)
from scenegen.datasets.sample_files import (
    SampleError,
    prepare_cutout,
    read_feature,
    read_latent,
    read_mask,
    read_photo,
    read_picture,
)
from scenegen.datasets.source import SourceOptions
from scenegen.datasets.stored import StoredSamples
from scenegen.datasets.structure_sets import PUBLISHED_SS_DECODER
from scenegen.geometry import identity_pose
from trellis_modules.config import MAX_SEED, check_range

QUARTER_TURNS = (90, 180, 270)


@dataclass(frozen=True, kw_only=True)
class SceneSetConfig:
    """Which scenes are read, and how; names and defaults of the first block are the published ones.

    Attributes:
        latent_model: folder in ``ss_latents/``.
        data_file_name: table of the scenes, without its ending.
        max_batch_size: scenes with more objects are left out.
        max_gpu_batch_size: objects of a sample: the query and so many others, less one.
        min_aesthetic_score: objects below it, or without a score, are left out; None takes all.
        image_size: pixels per side of all pictures.
        use_single_asset: also assets alone.
        pose_encoding_type: see `scenegen.datasets.poses`.
        use_mask_cond: whether samples have masks.
        normalization: of the latents' channels.
        pretrained_ss_dec: the decoder that shows what latents are; for pictures of samples only.
        ss_dec_path, ss_dec_ckpt: that decoder from a training run instead: its folder, and which weights.

        centred: poses of the centres of boxes; published training takes the origins of the model files.
        query_yaws: degrees, of 90, 180 and 270, by which the frame of the query may be turned about its up
            axis, as often as not at all; needs latents that ``encode_ss_latent --yaw`` made.
        use_scene_image_cond, use_vggt_feature_cond: whether samples have the photo and its feature.
        cond_tokens: folder in ``cond_tokens/`` with tokens of all pictures, which samples then have in place
            of the pictures; None gives pictures.
        validation_share: of the scenes, that is held out and never learnt from.
        validation_file_name: a table of other scenes that are held out, in place of a share.
        max_bad_samples: more scenes that cannot be read end the run.
        seed: of the orders.
    """

    latent_model: str
    data_file_name: str = "metadata_scene"
    max_batch_size: int = 4
    max_gpu_batch_size: int = 4
    min_aesthetic_score: float | None = 5.0
    image_size: int = IMAGE_SIZE
    use_single_asset: bool = True
    pose_encoding_type: str = QUATERNION
    use_mask_cond: bool = True
    normalization: Normalization | None = None
    pretrained_ss_dec: str = PUBLISHED_SS_DECODER
    ss_dec_path: str | None = None
    ss_dec_ckpt: str | None = None

    centred: bool = False
    query_yaws: tuple[int, ...] = ()
    use_scene_image_cond: bool = True
    use_vggt_feature_cond: bool = True
    cond_tokens: str | None = None
    validation_share: float = 0.0
    validation_file_name: str | None = None
    max_bad_samples: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_gpu_batch_size"):
            check_range(name, getattr(self, name), 1)
        check_range("image_size", self.image_size, 1, MAX_IMAGE_SIDE_PX)
        check_range("validation_share", self.validation_share, 0, 1)
        check_range("max_bad_samples", self.max_bad_samples, 0)
        check_range("seed", self.seed, 0, MAX_SEED)
        if self.pose_encoding_type not in ENCODINGS:
            raise ValueError(
                f"pose_encoding_type: expected {' or '.join(ENCODINGS)}, got {self.pose_encoding_type!r}"
            )
        if set(self.query_yaws) - set(QUARTER_TURNS):
            raise ValueError(f"query_yaws: expected some of {QUARTER_TURNS}, got {list(self.query_yaws)}")


@dataclass(frozen=True)
class SceneCase:
    """A scene of a root with one of its objects as the query."""

    root: Path
    rows: tuple[SceneRow, ...]
    query: int


class SceneCases(StoredSamples[SceneCaseBatch, SceneCaseBatch]):
    """Every object of every scene once as the query; a sample is a batch of its own.

    Attributes:
        cases: of all roots.
        groups: numbers of the cases with as many objects in a sample, by how many these are.
    """

    def __init__(self, config: SceneSetConfig, options: SourceOptions) -> None:
        """Read the tables of the data roots.

        Args:
            config: settings.
            options: roots, part, and the most objects that a scene may have.

        Raises:
            ConfigError: no scene is left.
            MetadataError: a table is missing or has a bad line.
            SplitError: a table to learn from has furniture of another split.
        """
        self.config = config
        most = min(config.max_batch_size, batch_size(options))
        self.cases: list[SceneCase] = []
        counts = []
        for root in root_folders(options):
            scenes, line = self._scenes(root, most, options.validation)
            self.cases += [SceneCase(root, rows, q) for rows in scenes for q in range(len(rows))]
            counts.append(line)
        check_not_empty(len(self.cases), counts)
        self.counts = tuple(counts)
        groups = defaultdict(list)
        for number, case in enumerate(self.cases):
            groups[min(len(case.rows), config.max_gpu_batch_size)].append(number)
        self.groups: Mapping[int, Sequence[int]] = dict(groups)

    def __len__(self) -> int:
        return len(self.cases)

    def alike(self, number: int) -> Sequence[int]:
        """The cases whose samples have as many objects."""
        return self.groups[min(len(self.cases[number].rows), self.config.max_gpu_batch_size)]

    def name_of(self, number: int) -> str:
        """See `StoredSamples`; the cases of a scene share its name."""
        case = self.cases[number]
        return f"{case.root}: scene {case.rows[0].scene_id}"

    def read(self, number: int, rng: np.random.Generator) -> SceneCaseBatch:
        """See `StoredSamples`."""
        case, config = self.cases[number], self.config
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        order = asset_order(len(case.rows), case.query, config.max_gpu_batch_size, generator)
        yaw = int(rng.choice([0, *config.query_yaws])) if config.query_yaws else 0
        rows = [case.rows[place] for place in order]
        seen = self._pictures if config.cond_tokens is None else self._tokens
        return SceneCaseBatch(
            x_0=self._latents(case.root, rows, yaw),
            positions=self._positions(rows, yaw),
            **seen(case.root, rows),
        )

    def collate(self, samples: Sequence[SceneCaseBatch]) -> SceneCaseBatch:
        """The one sample of a batch."""
        (sample,) = samples
        return sample

    def _scenes(self, root: Path, most: int, validation: bool) -> tuple[list[tuple[SceneRow, ...]], str]:
        """Rows of a root by scene, and how many were left after each filter."""
        config = self.config
        if validation and config.validation_file_name:
            name, part = config.validation_file_name, []
        else:
            name, part = config.data_file_name, is_of_part(validation, config.validation_share, _scene_id)
        table = root / f"{name}.csv"
        latents = [config.latent_model, *(turned_latents(config.latent_model, y) for y in config.query_yaws)]
        filters = [
            *part,
            *(has_status(f"ss_latent_{model}") for model in latents),
            *is_scored(config.min_aesthetic_score),
            RowFilter("with vggt_feature", lambda row: bool(row.vggt_feature)),
            RowFilter("with cond_rendered", lambda row: row.cond_rendered),
            RowFilter("with masked_image_path", lambda row: bool(row.masked_image_path)),
            RowFilter("with scene_image_path", lambda row: bool(row.scene_image_path)),
        ]
        rows, line = narrowed(read_scenes(table), filters, table)
        sizes = defaultdict(int)
        for row in rows:
            sizes[row.scene_id] += 1
        shared = [RowFilter(f"in scenes of at most {most} objects", lambda row: sizes[row.scene_id] <= most)]
        if not config.use_single_asset:
            shared.append(RowFilter("in photos of scenes", lambda row: row.kind == SCENE))
        rows, last = narrowed(rows, shared, table)
        if not validation:
            check_rows(rows, TRAIN)
        scenes = defaultdict(list)
        for row in rows:
            scenes[row.scene_id].append(row)
        counted = last.partition(" rows, ")[2]
        return [tuple(group) for group in scenes.values()], f"{line}, {counted}, {len(scenes)} scenes"

    def _latents(self, root: Path, rows: Sequence[SceneRow], yaw: int) -> Tensor:
        """(N, C, r, r, r), those of the query turned by ``yaw``."""
        model, folder = self.config.latent_model, root / "ss_latents"
        names = [turned_latents(model, yaw), *[model] * (len(rows) - 1)]
        latents = [read_latent(folder / name / f"{row.sha256}.npz") for name, row in zip(names, rows)]
        return normalised_latents(stacked("x_0", latents), self.config.normalization, 1)

    def _positions(self, rows: Sequence[SceneRow], yaw: int) -> Tensor:
        """(N, 8) or (N, 7)."""
        config = self.config
        if rows[0].kind != SCENE:
            return encode_poses(identity_pose(1), config.pose_encoding_type)
        poses = training_poses(
            rows,
            range(len(rows)),
            centred=config.centred,
            encoding=config.pose_encoding_type,
            query_yaw_deg=yaw,
        )
        return poses.float()

    def _pictures(self, root: Path, rows: Sequence[SceneRow]) -> dict[str, Tensor]:
        """Pictures of the objects and of the whole photo, and its geometry feature."""
        config = self.config
        seen: dict[str, list[Tensor]] = {"cond": [], "mask_cond": []}
        for row in rows:
            path = root / row.masked_image_path
            cutout = read_picture(path)
            seen["cond"].append(prepare_cutout(cutout, config.image_size, path))
            if config.use_mask_cond:
                seen["mask_cond"].append(read_mask(path, cutout, config.image_size))
        tensors = {"cond": torch.stack(seen["cond"])}
        if config.use_mask_cond:
            tensors["mask_cond"] = torch.stack(seen["mask_cond"])[:, None].expand(-1, 3, -1, -1)
        if config.use_scene_image_cond:
            tensors["scene_image"] = read_photo(root / rows[0].scene_image_path, config.image_size)
        if config.use_vggt_feature_cond:
            tensors["vggt_feature"] = read_feature(root / rows[0].vggt_feature)
        return tensors

    def _tokens(self, root: Path, rows: Sequence[SceneRow]) -> dict[str, Tensor | int]:
        """The ready condition, and how many of its tokens show the object itself."""
        config = self.config
        path = tokens_path(root, config.cond_tokens, rows[0].scene_id)
        tokens = read_tokens(path, rows, config.use_mask_cond, config.use_scene_image_cond)
        feature = read_feature(root / rows[0].vggt_feature) if config.use_vggt_feature_cond else None
        try:
            ready = assemble_cond(tokens.cond, tokens.mask_cond, tokens.scene, feature)
        except ValueError as error:
            raise SampleError(f"{path}: {error}") from error
        return {"cond_tokens": ready, "num_object_tokens": tokens.cond.shape[1]}


def _scene_id(row: SceneRow) -> str:
    return row.scene_id
