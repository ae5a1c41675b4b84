"""Decoders that learn from pictures: Gaussians, radiance fields and meshes."""

import math
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from scenegen.datasets.batch import SparseViewBatch
from scenegen.trainers.objectives.drawn_decoders import (
    SLatRadianceFieldObjective,
    SLatVaeGaussianObjective,
    SLatVaeGaussianSettings,
    gaussian_terms,
)
from scenegen.trainers.objectives.mesh_decoder import (
    MeshDecoderObjective,
    MeshDecoderSettings,
    distance_error,
    facing_normals,
)
from scenegen.trainers.objectives.picture_loss import (
    PictureLoss,
    PictureLossSettings,
    structural_similarity,
)
from tests.unit.scenegen.trainers.objectives.drawn_batch import CHANNELS, RESOLUTION, drawn_batch
from trellis_modules.config import ConfigError
from trellis_modules.models import build_model
from trellis_modules.renderers import render_mesh, render_octree
from trellis_modules.representations.mesh.mesh_result import MeshExtractResult, MeshTrainingTerms
from trellis_modules.sparse import SparseTensor

SIZES = {
    "resolution": RESOLUTION, "model_channels": 32, "latent_channels": CHANNELS, "num_blocks": 1,
    "num_heads": 2, "window_size": 4,
}  # fmt: skip
GAUSSIANS = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 2, "scaling_bias": 0.06, "opacity_bias": 0.5,
    "scaling_activation": "softplus",
}  # fmt: skip
NO_LPIPS = {"lambda_lpips": 0.0}


def network(name: str, **args: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model({"name": name, "args": SIZES | args})


def train(
    objective: torch.nn.Module, steps: int, rate: float = 1e-2, batch: SparseViewBatch | None = None
) -> list[dict[str, float]]:
    """The logs of each step."""
    batch, logs = batch or drawn_batch(), []
    optimizer = torch.optim.AdamW(objective.parameters(), rate)
    objective.train()
    for step in range(steps):
        optimizer.zero_grad()
        loss, values = objective(batch, torch.Generator().manual_seed(step))
        loss.backward()
        optimizer.step()
        logs.append({"loss": loss.item(), **{name: value.item() for name, value in values.items()}})
    return logs


# --- what pictures differ in


def test_similarity_is_one_for_equal_pictures_and_falls_with_noise():
    picture = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))
    assert structural_similarity(picture, picture).item() == pytest.approx(1)
    values = [structural_similarity(picture, picture + spread * noise).item() for spread in (0.05, 0.2, 0.8)]
    assert 1 > values[0] > values[1] > values[2] > 0


def test_similarity_is_that_of_scikit_image():
    from skimage.metrics import structural_similarity as reference

    first = torch.rand(40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    second = first.roll(1, 0) * 0.8
    framed = [torch.nn.functional.pad(picture, [12] * 4) for picture in (first, second)]
    _, expected = reference(
        *(picture.numpy() for picture in framed), gaussian_weights=True, sigma=1.5, win_size=11,
        use_sample_covariance=False, data_range=1.0, full=True,
    )  # fmt: skip
    whole = structural_similarity(*(picture[None, None] for picture in framed))
    assert whole.item() == pytest.approx(expected.mean(), abs=1e-6)


@pytest.mark.skipif(
    find_spec("lpips") is not None and find_spec("torchvision") is not None, reason="lpips is installed"
)
def test_lpips_without_its_package_is_told_in_one_line():
    with pytest.raises(ConfigError, match="lambda_lpips: expected the package .* not installed"):
        PictureLoss(PictureLossSettings())


@pytest.mark.parametrize("settings", [{"loss_type": "huber"}, {"regularizations": {"lambda_size": 1.0}}])
def test_unknown_settings_are_refused(settings):
    with pytest.raises(ValueError, match="expected"):
        SLatVaeGaussianSettings(**settings)


# --- Gaussians and fields


def gaussian_objective(**settings):
    encoder = network("SLatEncoder", in_channels=3)
    decoder = network("SLatGaussianDecoder", representation_config=GAUSSIANS)
    torch.nn.init.normal_(encoder.out_layer.weight, std=0.2)
    return SLatVaeGaussianObjective(encoder, decoder, SLatVaeGaussianSettings(**NO_LPIPS, **settings))


def test_gaussians_learn_the_pictures():
    logs = train(gaussian_objective(), 25)
    assert logs[-1]["l1"] < 0.4 * logs[0]["l1"]
    assert {"l1", "ssim", "kl", "vol", "opacity"} <= logs[0].keys()


def test_regularisations_count_by_their_weights():
    plain, weighted = (
        gaussian_objective(),
        gaussian_objective(regularizations={"lambda_vol": 100.0, "lambda_opacity": 2.0}),
    )
    batch = drawn_batch()
    losses = [task(batch, torch.Generator().manual_seed(0)) for task in (plain, weighted)]
    terms = losses[0][1]
    extra = 100 * terms["vol"] + 2 * terms["opacity"]
    assert (losses[1][0] - losses[0][0]).item() == pytest.approx(extra.item(), rel=1e-3)


def test_terms_of_gaussians_are_volume_and_lacking_opacity():
    decoder = network("SLatGaussianDecoder", representation_config=GAUSSIANS)
    gaussian = decoder.represent(torch.zeros(1, 3, dtype=torch.int32), torch.zeros(1, 28))
    terms = gaussian_terms([gaussian])
    assert terms["vol"].item() == pytest.approx(0.06**3, rel=1e-3)
    assert terms["opacity"].item() == pytest.approx(0.25, rel=1e-3)


def test_radiance_fields_learn_the_pictures_of_another_field():
    batch = drawn_batch(16)
    teacher, student = (
        network("SLatRadianceFieldDecoder", representation_config={"rank": 2, "dim": 4}) for _ in range(2)
    )
    with torch.no_grad():
        torch.nn.init.normal_(teacher.out_layer.weight, std=0.3)
        true = [
            render_octree(item, batch.extrinsics[row, None], batch.intrinsics[row], 16)
            for row, item in enumerate(teacher(SparseTensor(batch.feats, batch.coords)))
        ]
    batch = replace(
        batch,
        image=torch.cat([picture.colour for picture in true]).permute(0, 3, 1, 2),
        alpha=torch.cat([picture.alpha for picture in true]),
    )
    objective = SLatRadianceFieldObjective(student, PictureLossSettings(**NO_LPIPS))

    def difference() -> float:
        return objective(batch, torch.Generator().manual_seed(99))[1]["l1"].item()

    before = difference()
    train(objective, 25, rate=3e-3, batch=batch)
    assert difference() < 0.65 * before


# --- meshes


def mesh_objective(**settings):
    decoder = network("SLatMeshDecoder", upsample_channels=[32], representation_config={"use_color": True})
    return MeshDecoderObjective(decoder, MeshDecoderSettings(**NO_LPIPS, **settings))


def test_meshes_learn_outline_depth_and_colour():
    logs = train(mesh_objective(lambda_tsdf=1.0, lambda_color=1.0), 24, rate=2e-3)
    assert logs[-1]["empty"] == 0
    for name, share in (("loss", 0.4), ("mask", 0.3), ("color_l1", 0.5), ("depth", 0.4), ("tsdf", 0.8)):
        assert logs[-1][name] < share * logs[0][name], name


def test_objects_without_a_surface_learn_from_distances_alone():
    objective = mesh_objective(lambda_tsdf=1.0)
    with torch.no_grad():
        objective.decoder.out_layer.bias[:8] = 1.0  # all corners outside
    logs = train(objective, 1)
    assert logs[0]["empty"] == 1
    assert logs[0]["tsdf"] > 0
    assert "mask" not in logs[0]
    assert all(p.grad.isfinite().all() for p in objective.parameters() if p.grad is not None)
    assert objective.decoder.out_layer.bias.grad[:8].abs().sum() > 0


def test_smooth_depth_is_smaller_than_plain_depth_for_small_errors():
    batch = drawn_batch()
    values = {}
    for kind in ("l1", "smooth_l1"):
        objective = mesh_objective(depth_loss_type=kind).train()
        _, logs = objective(batch, torch.Generator().manual_seed(0))
        values[kind] = logs["depth"].item()
    assert 0 < values["smooth_l1"] < values["l1"]


def test_distances_count_before_the_surface_and_just_behind_it():
    resolution, depth = 16, torch.full((8, 8), 2.0)
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]])
    cube = 1 / resolution
    places = torch.tensor([2 - 10 * cube, 2 - cube, 2 + cube, 2 + 10 * cube])
    points = torch.stack([torch.zeros(4), torch.zeros(4), places], dim=1)
    told = torch.tensor([3 * cube, cube, -cube, 123.0])  # the last one is hidden, whatever it says

    def error(sdf):
        terms = MeshTrainingTerms(torch.zeros(()), points, sdf)
        empty = torch.zeros(0, 3)
        mesh = MeshExtractResult(empty, empty.long(), None, resolution, terms)
        return distance_error(mesh, depth, torch.eye(4)[None], intrinsics).item()

    assert error(told) == pytest.approx(0, abs=1e-6)
    assert error(told + torch.tensor([0, cube, 0, 0])) == pytest.approx(cube / 3, rel=1e-4)
    assert math.isfinite(error(-told))


def test_true_normals_are_turned_to_the_camera():
    batch = drawn_batch()
    camera = batch.extrinsics[:1], batch.intrinsics[0]
    outwards = render_mesh(batch.vertices[0], batch.faces[0], *camera, 16)
    inwards = render_mesh(batch.vertices[0], batch.faces[0].flip(1), *camera, 16)
    turned = [facing_normals(view, batch.extrinsics[0], batch.intrinsics[0]) for view in (outwards, inwards)]
    assert torch.allclose(turned[0], turned[1], atol=1e-5)
    assert torch.allclose(turned[0], outwards.normal, atol=1e-5)
