"""The bundled checkpoint taken apart into training runs and assembled again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scenegen.checkpoints.roles import PIPELINE_FILE
from scenegen.checkpoints.schema import PipelineConfig
from scripts.assemble_checkpoint import APPEARANCE_NETWORKS, FEW_STEPS_NETWORKS, NETWORKS, main

ROOT = Path(__file__).resolve().parents[3]
BUNDLED = ROOT / "checkpoints" / "scenegen-small"
FEW_STEPS_CONFIG = ROOT / "configs" / "small" / "scene_flow_few_steps.json"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Output folders of the training runs that the bundled networks are from."""
    for name, (run, network, _) in {**NETWORKS, **FEW_STEPS_NETWORKS, **APPEARANCE_NETWORKS}.items():
        folder = tmp_path / run / "ckpts"
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in (".json", ".safetensors"):
            (folder / f"{network}{suffix}").symlink_to(BUNDLED / "ckpts" / f"{name}{suffix}")
    (tmp_path / "few_steps_flow" / "config.json").symlink_to(FEW_STEPS_CONFIG)
    return tmp_path


def assemble(runs: Path, names: tuple[str, ...], *options: str) -> Path:
    output = runs / "assembled"
    chosen = [text for name in names for text in (f"--{name}", str(runs / name))]
    main([*chosen, "--output", str(output), *options])
    return output


def test_the_bundled_checkpoint_comes_out_as_it_is(runs: Path) -> None:
    stages = ("structure_vae", "scene_flow", "few_steps_flow")
    names = (*stages, "structured_latent_vae", "structured_latent_flow")
    output = assemble(runs, names, "--slat_steps", "2")
    files = sorted(path.name for path in (output / "ckpts").iterdir())
    assert files == sorted(path.name for path in (BUNDLED / "ckpts").iterdir())
    written, bundled = (json.loads((folder / PIPELINE_FILE).read_text()) for folder in (output, BUNDLED))
    assert bundled["args"].pop("confidence")  # which `benchmarks.confidence fit` adds
    assert written == bundled


def test_without_an_appearance_stage_nothing_is_said_of_one(runs: Path) -> None:
    output = assemble(runs, ("structure_vae", "scene_flow"), "--steps", "3", "--raw_geometry")
    args = json.loads((output / PIPELINE_FILE).read_text())["args"]
    assert args.keys() == {
        "models",
        "sparse_structure_sampler",
        "image_cond_model",
        "vggt_model",
        "image_size",
        "normalize_geometry",
        "append_places",
        "sha256",
    }
    config = PipelineConfig.load(output)
    assert (config.sparse_structure_sampler.params.steps, config.normalize_geometry) == (3, False)
    assert not config.has_appearance and config.append_places


def test_half_an_appearance_stage_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        assemble(runs, ("structure_vae", "scene_flow", "structured_latent_flow"))
    assert "belong together" in capsys.readouterr().err
