"""What the samples of single assets share: their settings, their base, and what they are conditioned on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol

import numpy as np
import torch
from torch import Tensor

from scenegen.conditioning.image_preparation import IMAGE_SIZE
from scenegen.datasets.asset_pictures import read_transforms
from scenegen.datasets.cond_tokens import read_view_tokens, view_tokens_path
from scenegen.datasets.metadata import AssetRow
from scenegen.datasets.roots import Asset, RowFilter, is_scored, read_root_assets
from scenegen.datasets.sample_files import SampleError, prepare_cutout, read_picture
from scenegen.datasets.source import SourceOptions
from scenegen.datasets.stored import B, S, StoredSamples
from trellis_modules.config import MAX_SEED, check_range

RENDERS, RENDERS_COND = "renders", "renders_cond"
_RENDERS_REMEDY = "render the asset again"
HAS_VIEWS: RowFilter[AssetRow] = RowFilter("with cond_rendered", lambda row: row.cond_rendered)


@dataclass(frozen=True, kw_only=True)
class AssetSetConfig:
    """Settings that all sets of assets have.

    Attributes:
        min_aesthetic_score: assets below it, or without a score, are left out; None takes all.
        validation_share: of the assets, that is held out and never learnt from.
        max_bad_samples: more assets that cannot be read end the run.
        seed: of the order and of what is drawn anew each time.
    """

    min_aesthetic_score: float | None = 5.0
    validation_share: float = 0.0
    max_bad_samples: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("validation_share", self.validation_share, 0, 1)
        check_range("max_bad_samples", self.max_bad_samples, 0)
        check_range("seed", self.seed, 0, MAX_SEED)


class AssetSamples(StoredSamples[S, B], Generic[S, B]):
    """One sample for each asset.

    Attributes:
        assets: of all roots.
        config: settings.
        loads: what each asset weighs in a batch; None for all the same.
    """

    loads: Sequence[int] | None = None

    def __init__(
        self, config: AssetSetConfig, options: SourceOptions, filters: Sequence[RowFilter[AssetRow]]
    ) -> None:
        """Read the tables of the data roots.

        Args:
            config: settings; ``min_aesthetic_score`` is the second filter, as published.
            options: roots and part.
            filters: of this set.

        Raises:
            ConfigError: no asset is left.
            MetadataError: a table is missing or has a bad line.
        """
        self.config = config
        ordered = [*filters[:1], *is_scored(config.min_aesthetic_score), *filters[1:]]
        self.assets, self.counts = read_root_assets(options, ordered, config.validation_share)

    def __len__(self) -> int:
        return len(self.assets)

    def name_of(self, number: int) -> str:
        """See `StoredSamples`."""
        asset = self.assets[number]
        return f"{asset.root}: asset {asset.row.sha256}"

    @abstractmethod
    def read(self, number: int, rng: np.random.Generator) -> S:
        """See `StoredSamples`."""


class SampleCondition(Protocol):
    """What a conditioned flow sees of an asset."""

    @property
    def filters(self) -> list[RowFilter[AssetRow]]:
        """Assets that have it."""
        ...

    def read(self, asset: Asset, rng: np.random.Generator) -> Any:
        """Draw one for an asset; raises SampleError where its file is missing or damaged."""
        ...

    def fields(self, conditions: Sequence[Any]) -> dict[str, Any]:
        """Fields of the batch of some assets."""
        ...


class NoCondition:
    """Nothing is seen."""

    filters: list[RowFilter[AssetRow]] = []

    def read(self, asset: Asset, rng: np.random.Generator) -> None:
        """Nothing."""

    def fields(self, conditions: Sequence[None]) -> dict[str, Any]:
        """No fields."""
        return {}


class Captions:
    """A random caption of each asset."""

    @property
    def filters(self) -> list[RowFilter[AssetRow]]:
        """Assets with captions."""
        return [RowFilter("with captions", lambda row: bool(row.caption_list))]

    def read(self, asset: Asset, rng: np.random.Generator) -> str:
        """A caption."""
        captions = asset.row.caption_list
        return captions[rng.integers(len(captions))]

    def fields(self, conditions: Sequence[str]) -> dict[str, Any]:
        """``captions``."""
        return {"captions": tuple(conditions)}


class CondViews:
    """A random picture of each asset from ``renders_cond/``, cropped to it, on black."""

    def __init__(self, image_size: int = IMAGE_SIZE) -> None:
        """``image_size``: pixels per side."""
        self.image_size = image_size

    @property
    def filters(self) -> list[RowFilter[AssetRow]]:
        """Assets with such pictures."""
        return [HAS_VIEWS]

    def read(self, asset: Asset, rng: np.random.Generator) -> Tensor:
        """(3, S, S) in [0, 1]."""
        files = cond_views(asset.root, asset.row.sha256)
        return read_cond_view(files[rng.integers(len(files))], self.image_size)

    def fields(self, conditions: Sequence[Tensor]) -> dict[str, Any]:
        """``image`` (B, 3, S, S)."""
        return {"image": torch.stack(list(conditions))}


def cond_views(root: Path, sha256: str) -> list[Path]:
    """The pictures of an asset in ``renders_cond/``.

    Raises:
        SampleError: their list is missing or damaged, or there is none.
    """
    folder = root / RENDERS_COND / sha256
    try:
        files = read_transforms(folder).files
    except ValueError as error:
        raise SampleError(str(error)) from error
    if not files:
        raise SampleError(f"{folder}: expected at least one picture; {_RENDERS_REMEDY}")
    return files


def read_cond_view(path: Path, size: int) -> Tensor:
    """A picture of an asset alone, cropped to it, on black: (3, size, size) in [0, 1].

    Raises:
        SampleError: it is missing, damaged or fully transparent.
    """
    return prepare_cutout(read_picture(path, _RENDERS_REMEDY), size, path)


class CondViewTokens:
    """The tokens of a random picture of each asset from ``renders_cond/``, as ``encode_cond`` made them."""

    def __init__(self, name: str) -> None:
        """``name``: of the image encoder, a folder in ``cond_tokens/``."""
        self.name = name

    @property
    def filters(self) -> list[RowFilter[AssetRow]]:
        """Assets with such pictures."""
        return [HAS_VIEWS]

    def read(self, asset: Asset, rng: np.random.Generator) -> Tensor:
        """(T, C) float16."""
        return read_view_tokens(view_tokens_path(asset.root, self.name, asset.row.sha256), rng)

    def fields(self, conditions: Sequence[Tensor]) -> dict[str, Any]:
        """``cond_tokens`` (B, T, C)."""
        return {"cond_tokens": stacked("cond_tokens", conditions)}


def views_of(image_size: int, cond_tokens: str | None) -> SampleCondition:
    """Pictures of assets, or their tokens by the encoder ``cond_tokens``."""
    return CondViews(image_size) if cond_tokens is None else CondViewTokens(cond_tokens)


def stacked(name: str, values: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape as one.

    Raises:
        SampleError: their shapes differ.
    """
    if len(shapes := {tuple(value.shape) for value in values}) > 1:
        raise SampleError(
            f"{name}: expected one shape in a batch, got {' and '.join(map(str, sorted(shapes)))}; make the "
            "files again with one encoder"
        )
    return torch.stack(list(values))
