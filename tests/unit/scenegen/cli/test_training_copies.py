"""Training data by URL: what is copied is what a data set reads, once, and what is wrong is one line."""

import argparse
import re
import shutil
from pathlib import Path

import pytest
import torch

from scenegen.cli import train, training_copies
from scenegen.cli.train_options import parse_arguments
from scenegen.cli.training_copies import use_copies
from scenegen.datasets.places import PLACES
from scenegen.datasets.registry import DATASETS
from scenegen.datasets.source import SourceOptions
from scenegen.stores.store import Store
from tests.lookalike_root import FEATURE, SLAT, SS_LATENT, lookalike_root
from trellis_modules.config import NamedConfig, build

SCENES = {"latent_model": SS_LATENT, "image_size": 28}
SETS = [
    ("SparseStructure", {"resolution": 16}),
    ("SparseStructureLatent", {"latent_model": SS_LATENT}),
    ("TextConditionedSparseStructureLatent", {"latent_model": SS_LATENT}),
    ("ImageConditionedSparseStructureLatent", {"latent_model": SS_LATENT, "image_size": 28}),
    ("SLat", {"latent_model": SLAT}),
    ("TextConditionedSLat", {"latent_model": SLAT}),
    ("ImageConditionedSLat", {"latent_model": SLAT, "image_size": 28}),
    ("SparseFeat2Render", {"model": FEATURE, "image_size": 28, "resolution": 16}),
    ("SLat2Render", {"latent_model": SLAT, "image_size": 28}),
    ("Slat2RenderGeo", {"latent_model": SLAT, "image_size": 28}),
    ("ImageConditionedSparseStructureLatentVGGT", SCENES),
    ("ImageConditionedSparseStructureLatentVGGT", SCENES | {"use_single_asset": False}),
]


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """The folder of a store with a data root."""
    return lookalike_root(tmp_path_factory.mktemp("store") / "root", single_assets=True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SCENEGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def options_of(tmp_path, monkeypatch):
    """Function (name and arguments of the data set, further flags) -> options of training."""

    def make(dataset: dict, *arguments: str) -> argparse.Namespace:
        experiment = argparse.Namespace(dataset=NamedConfig(**dataset))
        monkeypatch.setattr(training_copies, "load_experiment", lambda path: experiment)
        given = ["--config", "config.json", "--output-dir", str(tmp_path / "out"), *arguments]
        return parse_arguments("Train.", [*given, "--device", "cpu"])

    return make


def batch(name: str, args: dict, root: Path):
    kind = DATASETS[name]
    files = SourceOptions(torch.device("cpu"), data_dirs=(root,), batch_size=2)
    return kind.make(build(kind.config, args, name), files).batch(0)


def test_every_data_set_says_what_it_reads():
    assert PLACES.keys() == DATASETS.keys()


@pytest.mark.parametrize(("name", "args"), SETS)
def test_what_is_copied_is_what_a_data_set_reads(options_of, stored, name, args):
    options = options_of({"name": name, "args": args}, "--data-dir", f"file://{stored}")
    use_copies(options)
    (copy,) = options.data_dir
    assert copy != stored and len(list(copy.rglob("*"))) < len(list(stored.rglob("*")))
    expected, found = vars(batch(name, args, stored)), vars(batch(name, args, copy))
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)
    assert found.get("captions") == expected.get("captions")


def test_a_copy_that_was_interrupted_goes_on(options_of, stored, monkeypatch):
    dataset = {"name": "SparseStructure", "args": {}}
    options = options_of(dataset, "--data-dir", f"file://{stored}")
    fetched, fetch = [], Store.fetch

    def interrupted(self, name, folder):
        if len(fetched) == 3:
            fetched.append("")
            raise KeyboardInterrupt
        fetched.append(name)
        return fetch(self, name, folder)

    monkeypatch.setattr(Store, "fetch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        use_copies(options)
    use_copies(options)
    names = [name for name in fetched if name]
    assert len(names) == len(set(names)) == 1 + len(list((stored / "voxels").iterdir()))


def test_packs_and_networks_are_files_of_their_own(options_of, tmp_path):
    folder = tmp_path / "bucket"
    folder.mkdir()
    for name in ("a.safetensors", "enc.json", "enc.safetensors", "other.safetensors"):
        (folder / name).write_text(name)
    options = options_of(
        {"name": "scenes", "args": {}},
        "--packs", f"file://{folder}/a.safetensors", "--latent-encoder", f"file://{folder}/enc",
    )  # fmt: skip
    use_copies(options)
    assert [path.read_text() for path in options.packs] == ["a.safetensors"]
    assert sorted(path.name for path in options.packs[0].parent.iterdir()) == [
        "a.safetensors", "enc.json", "enc.safetensors",
    ]  # fmt: skip
    assert options.latent_encoder == options.packs[0].with_name("enc")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: shutil.rmtree(root), "expected metadata.csv or voxels, found nothing; correct the URL"),
        (lambda root: None, r"expected .* GiB free on the disk of .* for a copy, found 0.0; make space"),
    ],
    ids=["nothing", "space"],
)
def test_what_cannot_be_copied_is_one_line(
    options_of, tmp_path, stored, monkeypatch, caplog, change, expected
):
    root = tmp_path / "root"
    shutil.copytree(stored, root)
    change(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: argparse.Namespace(free=10))
    options_of({"name": "SparseStructure", "args": {}})
    given = ["--config", "config.json", "--output-dir", str(tmp_path / "out")]
    assert train.main([*given, "--data-dir", f"file://{root}", "--device", "cpu"]) == 1
    assert caplog.records[-1].levelname == "ERROR" and "Traceback" not in caplog.text
    assert re.search(expected, caplog.records[-1].message)
