"""Typed batches: what the loop does with their tensors, nested ones included."""

from dataclasses import fields, replace

import pytest
import torch

from scenegen.datasets.batch import Batch, ShapeBatch
from scenegen.datasets.latest import Latest
from scenegen.synthesis.sources import batch as batches
from scenegen.synthesis.sources.batch import PhotoBatch, ScenePairBatch


@pytest.fixture
def pair() -> ScenePairBatch:
    """Pictures full of ones and full of twos."""
    sizes = [(1, 3, 4, 4), (1, 4, 4), (1, 4, 4), (1,)]
    return ScenePairBatch(*(PhotoBatch(*(torch.full(size, value) for size in sizes)) for value in (1.0, 2.0)))


def test_all_tensors_are_found_and_changed(pair: ScenePairBatch) -> None:
    assert [int(value.mean()) for value in pair.tensors()] == [1] * 4 + [2] * 4
    tripled = pair.map(lambda value: 3 * value)
    assert isinstance(tripled.second, PhotoBatch)
    assert [int(value.mean()) for value in tripled.tensors()] == [3] * 4 + [6] * 4
    assert int(pair.second.focal) == 2


def test_a_batch_is_moved_as_a_whole(pair: ScenePairBatch) -> None:
    moved = pair.to(torch.device("meta"))
    assert {value.device.type for value in moved.tensors()} == {"meta"}
    assert moved.shapes() == pair.shapes()


def test_batches_of_the_same_shapes_are_copied_into_each_other(pair: ScenePairBatch) -> None:
    kept = pair.map(torch.zeros_like)
    assert kept.shapes() == pair.shapes()
    image = kept.first.image
    kept.copy_(pair)
    assert kept.first.image is image and all(map(torch.equal, kept.tensors(), pair.tensors()))


def test_kind_size_and_dtype_tell_batches_apart(pair: ScenePairBatch) -> None:
    larger = replace(pair, first=replace(pair.first, focal=torch.ones(2)))
    halved = replace(pair, first=replace(pair.first, focal=torch.ones(1).half()))
    other = ShapeBatch(torch.ones(1))
    keys = {value.shapes() for value in (pair, larger, halved, other)}
    assert len(keys) == 4


def test_every_kind_of_batch_holds_nothing_but_tensors() -> None:
    kinds = [kind for kind in vars(batches).values() if isinstance(kind, type) and issubclass(kind, Batch)]
    assert len(kinds) > 5
    for kind in kinds:
        parts = {field.type for field in fields(kind)}
        assert parts <= {"Tensor", "PhotoBatch", "PaintedFields"}, kind


def test_what_was_made_last_is_kept_and_nothing_else() -> None:
    latest, made = Latest(), []

    def get(number: int) -> int:
        return latest.get(number, lambda: made.append(number) or -number)

    assert [get(number) for number in (0, 0, 1, 1, 0)] == [0, 0, -1, -1, 0]
    assert made == [0, 1, 0]
