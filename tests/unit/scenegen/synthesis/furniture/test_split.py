"""The split is fixed for ever: its counts, its groups, and that nothing of test gets into training."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.split import SplitError, check_split, load_split, source_ids

PACKS = Path(__file__).resolve().parents[5] / "data" / "packs"


def test_counts_of_the_split():
    entries = load_split().values()
    assert len(entries) == 618
    assert Counter(entry.tier for entry in entries) == {
        "floor": 363,
        "small": 121,
        "mounted": 56,
        "drop": 54,
        "flat": 24,
    }
    floor = Counter(entry.split for entry in entries if entry.tier == "floor")
    assert floor == {"train": 271, "validation": 24, "test": 68}


def test_no_group_is_in_two_splits():
    splits_of_group = defaultdict(set)
    for entry in load_split().values():
        splits_of_group[entry.group].add(entry.split)
    assert all(len(splits) == 1 for splits in splits_of_group.values())


def test_a_straddling_group_is_refused(tmp_path):
    models = [
        {"id": f"L/{split}", "name": "", "category": "", "super_category": "", "tier": "floor", "group": "g"}
        | {"split": split}
        for split in ("train", "test")
    ]
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"models": models}))
    with pytest.raises(SplitError, match="group g of L/test is in two splits"):
        load_split(path)


def test_check_split_accepts_its_own_and_procedural_models():
    train = [entry.id for entry in load_split().values() if entry.split == "train"]
    check_split([*train, "procedural/sofa/1", f"swap/{train[0]}+{train[1]}@0.450"], "train")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_check_split_refuses_models_of_other_splits(split):
    foreign = next(entry.id for entry in load_split().values() if entry.split == split)
    with pytest.raises(SplitError, match=f"{foreign} belongs to the {split} split"):
        check_split([foreign], "train")


def test_check_split_refuses_unknown_models():
    with pytest.raises(SplitError, match="Scopia/unheard is not in furniture_split.json"):
        check_split(["Scopia/unheard"], "train")


def test_sources_of_a_swap():
    assert source_ids("swap/Scopia/a+KatorLegaz/b@0.450") == ("Scopia/a", "KatorLegaz/b")
    assert source_ids("Scopia/a") == ("Scopia/a",)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_built_packs_hold_their_split_and_nothing_else(split):
    paths = sorted(PACKS.glob(f"{split}*.safetensors"))
    if not paths:
        pytest.skip(f"no {split} pack in {PACKS}; build it with python -m dataset_toolkits.build_mesh_packs")
    for path in paths:
        check_split((info.id for info in MeshPack.load(path).infos), split)
