"""What of a data root each data set reads, so that no more of a stored root has to be copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scenegen.datasets.metadata import ASSETS_NAME
from trellis_modules.config import NamedConfig, build

_RENDERS, _VIEWS = "renders", "renders_cond"


def root_places(dataset: NamedConfig, config: type) -> tuple[str, ...]:
    """Files and folders below a data root that a data set reads.

    Args:
        dataset: a name of `scenegen.datasets.registry.DATASETS` and its arguments.
        config: class of the arguments.

    Raises:
        ConfigError: an argument is unknown or wrong.
    """
    return PLACES[dataset.name](build(config, dataset.args, f"dataset {dataset.name}"))


def _structures(config: Any) -> tuple[str, ...]:
    return ASSETS_NAME, f"ss_latents/{config.latent_model}"


def _latents(config: Any) -> tuple[str, ...]:
    return ASSETS_NAME, f"latents/{config.latent_model}"


def _views(config: Any) -> tuple[str, ...]:
    return (f"cond_tokens/{config.cond_tokens}/assets",) if config.cond_tokens else (_VIEWS,)


def _scenes(config: Any) -> tuple[str, ...]:
    """Tables and files of scenes; those of another table have its ending, as ``masked_images_test``."""
    tables = [name for name in (config.data_file_name, config.validation_file_name) if name]
    endings = [name.removeprefix("metadata_scene") for name in tables]
    places = [f"{name}.csv" for name in tables] + ["ss_latents"]
    if config.use_vggt_feature_cond:
        places += [f"vggt_features{ending}" for ending in endings]
    if config.cond_tokens:
        return *places, f"cond_tokens/{config.cond_tokens}"
    places += [f"masked_images{ending}" for ending in endings]
    return *places, *((_VIEWS,) if config.use_single_asset else ())


PLACES: Mapping[str, Callable[[Any], tuple[str, ...]]] = {
    "SparseStructure": lambda config: (ASSETS_NAME, "voxels"),
    "SparseStructureLatent": _structures,
    "TextConditionedSparseStructureLatent": _structures,
    "ImageConditionedSparseStructureLatent": lambda config: (*_structures(config), *_views(config)),
    "SLat": _latents,
    "TextConditionedSLat": _latents,
    "ImageConditionedSLat": lambda config: (*_latents(config), *_views(config)),
    "SparseFeat2Render": lambda config: (ASSETS_NAME, f"features/{config.model}", _RENDERS),
    "SLat2Render": lambda config: (*_latents(config), _RENDERS),
    "Slat2RenderGeo": lambda config: (*_latents(config), _RENDERS),
    "ImageConditionedSparseStructureLatentVGGT": _scenes,
    "SceneShards": lambda config: (config.folder,),
}
"""Name of a set -> what it reads with its settings."""
