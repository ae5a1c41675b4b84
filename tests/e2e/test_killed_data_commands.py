"""Every command of ``dataset_toolkits``, killed twenty times, ends with the bytes of an undisturbed run."""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.data_commands import COMMANDS, MODULES
from tests.e2e.forked_runs import Run, Runner, forked_runs
from tests.scene_road import CPU, FUTURE, HOME, IMAGE_ENCODER, LATENT_MODEL, NOTHING, SMALL, drawn_with_embree

KILLS = 20
PARTS = ("--latent_model", LATENT_MODEL, "--image_size", "42")
SCENES = (FUTURE, "--vggt_ckpt", "ROOT/../vggt", "--save_mask", "--flush_every", "1", *CPU)


@dataclass(frozen=True)
class Case:
    """A command and what it finds.

    Attributes:
        command: of ``dataset_toolkits``.
        arguments: of it; ROOT stands for the data root.
        made: files and folders below the root that the command makes, removed before it runs.
        columns: of ``metadata.csv`` that say that they are made, emptied before it runs.
        root: which finished root it works on.
        takes_root: whether ``--output_dir ROOT`` is one of its arguments.
    """

    command: str
    arguments: Sequence[str] = ()
    made: Sequence[str] = ()
    columns: Sequence[str] = ()
    root: str = FUTURE
    takes_root: bool = True

    def prepare(self, root: Path) -> None:
        """Take back what the command makes."""
        for name in self.made:
            for path in root.glob(name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self.columns:
            table = root / "metadata.csv"
            with table.open(newline="") as file:
                rows = list(csv.DictReader(file))
            with table.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(row | dict.fromkeys(self.columns, "") for row in rows)

    def given(self, root: Path) -> list[str]:
        """Its command line."""
        given = [*self.arguments, *(["--output_dir", "ROOT"] if self.takes_root else [])]
        return [argument.replace("ROOT", str(root)) for argument in given]

    def run(self, runner: Runner, root: Path, kill_after: float | None = None) -> Run:
        """Run the command on a root."""
        return runner.run(self.command, *self.given(root), kill_after=kill_after)

    def copies_of(self, finished: Path, folder: Path) -> Callable[[str], Path]:
        """A function that makes a copy of a finished root in which the command has its work before it."""
        for beside in finished.parent.iterdir():
            if beside.name not in (FUTURE, HOME, NOTHING):
                (folder / beside.name).symlink_to(beside)

        def make(name: str) -> Path:
            shutil.rmtree(folder / name, ignore_errors=True)
            shutil.copytree(finished, folder / name)
            self.prepare(folder / name)
            return folder / name

        return make


SLAT = "surface_fields_slat_enc"
CASES = {
    "build_lookalike": Case(
        "build_lookalike", ("--assets", "2", "--scenes", "2", "--size", "32"), root=NOTHING
    ),
    "build_metadata, listing": Case(
        "build_metadata", (FUTURE, "--table", "ROOT/3D-FUTURE.csv"), ["metadata.csv", "statistics.txt"]
    ),
    "build_metadata, merging": Case(
        "build_metadata", (FUTURE, "--from_file"), columns=("rendered", "voxelized", "ss_latent_ss_enc")
    ),
    "download": Case("download", (FUTURE,), ["raw/3D-FUTURE-model"], ["local_path"]),
    "download, preparing": Case(
        "download", (HOME, "--source", "ROOT/../library"), ["meshes", "coloured"], ["local_path"], HOME
    ),
    "render": Case("render", (FUTURE, *drawn_with_embree()), ["renders"], ["rendered"]),
    "voxelize": Case("voxelize", (FUTURE,), ["voxels"], ["voxelized"]),
    "extract_feature": Case(
        "extract_feature", ("--model", "surface_fields", *CPU), ["features"], ["feature_surface_fields"]
    ),
    "encode_ss_latent": Case(
        "encode_ss_latent",
        ("--enc_pretrained", str(SMALL / "ss_enc"), *CPU),
        ["ss_latents"],
        ["ss_latent_ss_enc"],
    ),
    "encode_latent": Case(
        "encode_latent",
        ("--feat_model", "surface_fields", "--enc_pretrained", str(SMALL / "slat_enc"), *CPU),
        ["latents"],
        [f"latent_{SLAT}"],
    ),
    "stat_latent": Case("stat_latent", ("--model", SLAT), [f"latents/{SLAT}/stats.json"]),
    "render_cond": Case(
        "render_cond", (FUTURE, *drawn_with_embree(), "--num_views", "2"), ["renders_cond"], ["cond_rendered"]
    ),
    "build_metadata_scene": Case(
        "build_metadata_scene",
        (*SCENES, "--use_render_cond"),
        ["masked_images", "vggt_features", "metadata_scene.csv", "statistics_scene.txt"],
    ),
    "build_scene": Case("build_scene", (FUTURE, "--engine", "EMBREE"), ["scene_test", "scene_test_render"]),
    "encode_cond": Case(
        "encode_cond",
        ("--model", f"ROOT/../{IMAGE_ENCODER}", "--image_size", "28", *CPU),
        ["cond_tokens"],
    ),
    "pack_scenes": Case("pack_scenes", (*PARTS, "--samples_per_shard", "1"), ["shards"]),
    "pack_scenes, latents": Case("pack_scenes", (*PARTS, "--kind", "latents"), ["shards"]),
    "inspect_root": Case("inspect_root", ("ROOT",), ["contact_sheet.png"], takes_root=False),
    "build_procedural_pack": Case(
        "build_procedural_pack",
        ("--output", "ROOT/pack.safetensors", "--count", "6", "--workers", "1"),
        root=NOTHING,
        takes_root=False,
    ),
    "build_mesh_packs": Case("build_mesh_packs", ("--packs", "ROOT/packs"), root=HOME),
    "build_attribution": Case("build_attribution", ("--output", "ROOT/credits.md"), root=HOME),
    "build_scenes": Case(
        "build_scenes",
        ("--data_root", "ROOT", "--list", "ROOT/list.json", "--make_list", "2", "--size", "32", "--depth"),
        root=HOME,
    ),
}
WITHOUT = {"build_picture_set", "furniture_sizes", "show_training_scenes"}
"""Write one file at their end, which `atomic_write` lets appear whole or not at all."""


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with forked_runs("tests.data_commands", tmp_path_factory.mktemp("logs"), MODULES) as started:
        yield started


def content(root: Path) -> dict[str, bytes]:
    """Every file below a root, but for what says when a file of this root was written."""
    found = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root).as_posix()
        if name.startswith("merged_records/"):
            name = name.split("_", 2)[2]  # without the seconds
        if not name.startswith(".cache/") and path.suffix != ".source":
            found[name] = path.read_bytes()
    return found


def test_every_command_has_its_case() -> None:
    assert {case.command for case in CASES.values()} | WITHOUT == set(COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_twenty_kills_of_a_command_leave_nothing_that_the_next_run_does_not_finish(
    tmp_path: Path, finished_roots: dict[str, Path], runner: Runner, name: str
) -> None:
    case = CASES[name]
    fresh = case.copies_of(finished_roots[case.root], tmp_path)
    whole = fresh("whole")
    undisturbed = case.run(runner, whole)
    assert undisturbed.status == 0, undisturbed.lines
    expected = content(whole)
    assert expected.keys() > content(fresh("before")).keys() or case.columns, "the command makes something"
    rng, killed, root = random.Random(name), 0, fresh("killed")
    while killed < KILLS:
        end = case.run(runner, root, kill_after=rng.random() * undisturbed.seconds)
        killed += end.status is None
        if end.status is None and killed % 5:
            continue  # the next run goes on from here, and is killed too
        last = case.run(runner, root)
        assert last.status == 0, last.lines
        found = content(root)
        assert found.keys() == expected.keys()
        assert [name for name in found if found[name] != expected[name]] == []
        root = fresh("killed")
