"""Sets of data roots by name, as experiments are configured with them.

The names are those of released training, but for ``SceneShards``, which reads the same scenes from the files
of ``pack_scenes.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scenegen.datasets.asset_samples import AssetSamples, AssetSetConfig, Captions, NoCondition, views_of
from scenegen.datasets.batch import (
    Batch,
    LatentBatch,
    SceneCaseBatch,
    ShapeBatch,
    SparseLatentBatch,
    SparseViewBatch,
)
from scenegen.datasets.roots import batch_size
from scenegen.datasets.sampling import EndlessRounds, EqualGroups
from scenegen.datasets.scene_set import SceneCases, SceneSetConfig
from scenegen.datasets.scene_shards import SceneShardConfig, ShardCases
from scenegen.datasets.source import SourceKind, SourceOptions
from scenegen.datasets.stored import StoredSource
from scenegen.datasets.structure_sets import (
    ImageStructureLatentConfig,
    SparseStructure,
    SparseStructureConfig,
    SparseStructureLatent,
    StructureLatentConfig,
)
from scenegen.datasets.structured_latent_sets import ImageSLatConfig, SLat, SLatConfig
from scenegen.datasets.view_sets import (
    SLat2RenderConfig,
    SparseFeat2RenderConfig,
    slat_2_render,
    slat_2_render_geo,
    sparse_feat_2_render,
)


def _asset_set(
    makes: type[Batch], config: type, samples_of: Callable[[Any, SourceOptions], AssetSamples]
) -> SourceKind:
    """A set of single assets, of which every batch has equally many."""

    def make(config: AssetSetConfig, options: SourceOptions) -> StoredSource:
        samples = samples_of(config, options)
        plan = EndlessRounds(len(samples), batch_size(options), config.seed, samples.loads)
        return StoredSource(samples, plan, options, config.seed, config.max_bad_samples)

    return SourceKind(makes, config, make, takes_packs=False, takes_data=True)


def _scene_set(makes: type[Batch], config: type, cases_of: Callable[[Any, SourceOptions], Any]) -> SourceKind:
    """A set of scenes, of which every batch has one and those of a step have as many objects."""

    def make(config: Any, options: SourceOptions) -> StoredSource:
        samples = cases_of(config, options)
        plan = EqualGroups(samples.groups, options.slots, config.seed, "objects")
        return StoredSource(samples, plan, options, config.seed, config.max_bad_samples)

    return SourceKind(makes, config, make, takes_packs=False, takes_data=True)


DATASETS: Mapping[str, SourceKind] = {
    "SparseStructure": _asset_set(ShapeBatch, SparseStructureConfig, SparseStructure),
    "SparseStructureLatent": _asset_set(
        LatentBatch, StructureLatentConfig, lambda c, o: SparseStructureLatent(c, o, NoCondition())
    ),
    "TextConditionedSparseStructureLatent": _asset_set(
        LatentBatch, StructureLatentConfig, lambda c, o: SparseStructureLatent(c, o, Captions())
    ),
    "ImageConditionedSparseStructureLatent": _asset_set(
        LatentBatch,
        ImageStructureLatentConfig,
        lambda c, o: SparseStructureLatent(c, o, views_of(c.image_size, c.cond_tokens)),
    ),
    "SLat": _asset_set(SparseLatentBatch, SLatConfig, lambda c, o: SLat(c, o, NoCondition())),
    "TextConditionedSLat": _asset_set(SparseLatentBatch, SLatConfig, lambda c, o: SLat(c, o, Captions())),
    "ImageConditionedSLat": _asset_set(
        SparseLatentBatch, ImageSLatConfig, lambda c, o: SLat(c, o, views_of(c.image_size, c.cond_tokens))
    ),
    "SparseFeat2Render": _asset_set(SparseViewBatch, SparseFeat2RenderConfig, sparse_feat_2_render),
    "SLat2Render": _asset_set(SparseViewBatch, SLat2RenderConfig, slat_2_render),
    "Slat2RenderGeo": _asset_set(SparseViewBatch, SLat2RenderConfig, slat_2_render_geo),
    "ImageConditionedSparseStructureLatentVGGT": _scene_set(SceneCaseBatch, SceneSetConfig, SceneCases),
    "SceneShards": _scene_set(SceneCaseBatch, SceneShardConfig, ShardCases),
}
"""Name of a set -> what its batches are, its settings, and what makes its source."""
