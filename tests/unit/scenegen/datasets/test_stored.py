"""Reading while training: all processes see the same; what cannot be read is named, replaced and limited."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from scenegen.datasets.arrays import write_arrays
from scenegen.datasets.batch import Batch
from scenegen.datasets.sample_files import SampleError
from tests.lookalike_root import SLAT, SS_LATENT
from tests.unit.scenegen.datasets.conftest import SCENES

LATENTS = "SparseStructureLatent"
SMALL = {"latent_model": SS_LATENT, "image_size": 28}


def equal(left: Batch, right: Batch) -> bool:
    return left.shapes() == right.shapes() and all(map(torch.equal, left.tensors(), right.tensors()))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (SCENES, SMALL),
        ("ImageConditionedSLat", SMALL | {"latent_model": SLAT}),
        ("SparseFeat2Render", {"image_size": 16}),
    ],
)
def test_two_processes_with_workers_see_what_one_sees(toy_root, make_source, name, settings):
    run = {"batch_size": 3, "slots": 2}
    alone = make_source(name, toy_root, run=run, **settings)
    first = make_source(name, toy_root, run=run | {"workers": 1}, **settings)
    for step in (3, 4, 5):
        batches = [alone.batch(step, slot, 2) for slot in range(2)]
        assert equal(first.batch(step, 0, 2), batches[0])
        assert not equal(*batches)
        if name == SCENES:
            assert len(batches[0].x_0) == len(batches[1].x_0)
    again = make_source(name, toy_root, run=run, **settings)
    assert equal(again.batch(5, 1, 2), batches[1]) and not equal(again.batch(3, 1, 2), batches[1])


def test_other_seeds_give_other_batches(toy_root, make_source):
    batches = [make_source(SCENES, toy_root, **SMALL, seed=seed).batch(0) for seed in range(4)]
    assert any(not equal(batches[0], batch) for batch in batches[1:])


def break_latents(root: Path, count: int) -> list[str]:
    """Cut the latents of the first assets short; their keys."""
    files = sorted((root / "ss_latents" / SS_LATENT).iterdir())[:count]
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    return [file.stem for file in files]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_is_named_once_and_one_that_is_alike_takes_its_place(
    changed_root, make_source, caplog, workers
):
    (key,) = break_latents(changed_root, 1)
    source = make_source(
        "SparseStructureLatent", changed_root, run={"workers": workers}, latent_model=SS_LATENT
    )
    with caplog.at_level(logging.WARNING):
        batches = [source.batch(step) for step in range(6)]
    assert all(batch.x_0.shape == (4, 8, 16, 16, 16) for batch in batches)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and key in warnings[0] and "damaged" in warnings[0] and "\n" not in warnings[0]
    assert len(source.bad) == 1


def test_scenes_keep_their_number_of_objects(changed_root, make_source):
    break_latents(changed_root, 1)
    sound = make_source(SCENES, changed_root, **SMALL, use_single_asset=False)
    source = make_source(SCENES, changed_root, **SMALL, use_single_asset=False)
    sizes = []
    for step in range(2 * sound.plan.steps_per_round):
        case = sound.samples.cases[sound.plan.rows(step, 0, 1)[0]]
        sizes.append((len(case.rows), len(source.batch(step).x_0)))
    assert source.bad and all(planned == read for planned, read in sizes)
    assert {planned for planned, _ in sizes} == {2, 3}


def test_too_many_bad_samples_end_the_run(changed_root, make_source):
    break_latents(changed_root, 3)
    source = make_source(LATENTS, changed_root, latent_model=SS_LATENT, max_bad_samples=2)
    with pytest.raises(SampleError) as error:
        for step in range(6):
            source.batch(step)
    assert "at most 2 samples that cannot be read" in str(error.value) and "got 3" in str(error.value)
    assert ".npz: damaged" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_without_a_sound_sample_the_run_ends(changed_root, make_source, workers):
    break_latents(changed_root, 6)
    source = make_source(
        "SparseStructureLatent", changed_root, run={"workers": workers}, latent_model=SS_LATENT
    )
    with pytest.raises(SampleError, match="no other sample can take the place of the bad ones; the last: .*"):
        source.batch(0)


def test_latents_that_are_not_finite_or_of_another_shape_are_bad(changed_root, make_source):
    first, second = sorted((changed_root / "ss_latents" / SS_LATENT).iterdir())[:2]
    write_arrays(first, mean=np.full((8, 16, 16, 16), np.nan, np.float32))
    write_arrays(second, mean=np.zeros((16, 16), np.float32))
    source = make_source(LATENTS, changed_root, latent_model=SS_LATENT)
    for step in range(4):
        assert torch.isfinite(source.batch(step).x_0).all()
    assert {name.rpartition(" ")[2] for name in source.bad} == {first.stem, second.stem}
    assert all("expected finite latents" in reason for reason in source.bad.values())


def test_latents_of_different_encoders_are_one_line(changed_root, make_source):
    file = next((changed_root / "ss_latents" / SS_LATENT).iterdir())
    write_arrays(file, mean=np.zeros((8, 8, 8, 8), np.float32))
    source = make_source(LATENTS, changed_root, run={"batch_size": 6}, latent_model=SS_LATENT)
    with pytest.raises(SampleError, match=r"x_0: expected one shape in a batch, got \(8, 8, 8, 8\) and"):
        source.batch(0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_batches_on_a_gpu_are_those_on_a_cpu(toy_root, make_source):
    run = {"workers": 2, "slots": 1}
    on_cpu = make_source(SCENES, toy_root, run=run, **SMALL)
    on_gpu = make_source(SCENES, toy_root, run=run | {"device": torch.device("cuda")}, **SMALL)
    for step in range(8):
        batch = on_gpu.batch(step)
        assert all(value.is_cuda for value in batch.tensors())
        assert equal(batch.to(torch.device("cpu")), on_cpu.batch(step))
