"""What `SceneGenPipeline.run` refuses before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.settings import RunSettings

_FORM = "pipeline.run([SceneImages(photo, cutouts, masks)], RunSettings(seed=42), on_progress=None)"


def refuse_old_call(
    views: object, settings: object, arguments: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """Tell callers that pass a photo and lists, or settings as keywords, what the form is now.

    Raises:
        TypeError: the call has another form than views and settings.
    """
    are_views = isinstance(views, Sequence) and all(isinstance(view, SceneImages) for view in views)
    are_settings = settings is None or isinstance(settings, RunSettings)
    if are_views and are_settings and not arguments and not options:
        return
    if options:
        got = f"the keyword {next(iter(options))!r}"
    elif not are_views:
        got = f"{type(views).__name__} as views"
    else:
        got = "further arguments" if arguments else f"{type(settings).__name__} as settings"
    raise TypeError(
        f"run: expected a list of SceneImages and RunSettings, got {got}; call {_FORM}, where settings such "
        "as seed, sampling or texture are fields of RunSettings"
    )


def check_views(views: Sequence[SceneImages]) -> None:
    """Check that all photos show the same number of objects, each with a mask of its photo's size.

    Raises:
        ValueError: they do not, ids repeat, or there is no photo or no object.
    """
    if not views:
        raise ValueError("run: expected at least one photo with its objects, got none")
    ids, count = views[0].object_ids, len(views[0].cutouts)
    if not count or not count == len(views[0].masks) == len(ids):
        raise ValueError(
            "run: expected asset images and as many masks and ids, "
            f"got {count} images, {len(views[0].masks)} masks, {len(ids)} ids"
        )
    if len(set(ids)) != len(ids):
        raise ValueError(f"run: expected different object ids, got {list(ids)}")
    for number, view in enumerate(views[1:], start=1):
        if not len(view.cutouts) == len(view.masks) == count:
            raise ValueError(
                f"run: expected the {count} objects of the photo in view {number} too, "
                f"got {len(view.cutouts)} images and {len(view.masks)} masks"
            )
    for number, view in enumerate(views):
        _check_masks(view, number)


def _check_masks(view: SceneImages, number: int) -> None:
    shape = (view.photo.height, view.photo.width)
    for index, mask in enumerate(view.masks):
        if np.shape(mask) != shape or not np.any(mask):
            raise ValueError(
                f"run: expected masks of {shape} like photo {number}, with pixels above 0, got shape "
                f"{np.shape(mask)} with {np.count_nonzero(mask)} such pixels for object {index}"
            )


def check_structure(structure: Tensor | None, count: int) -> None:
    """Check given occupancy logits of ``count`` objects.

    Raises:
        ValueError: another shape than (count, R, R, R).
    """
    if structure is None:
        return
    if structure.ndim != 4 or len(structure) != count or len(set(structure.shape[1:])) != 1:
        raise ValueError(
            f"run: structure: expected ({count}, R, R, R) occupancy logits, got {tuple(structure.shape)}"
        )
