"""Shards and per-rank records: what is written, in which order, and what a restart leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenegen.datasets.records import (
    RecordWriter,
    atomic_path,
    move_to_merged,
    pending_records,
    read_records,
    shard,
)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 20])
def test_shards_are_contiguous_and_cover_everything(world_size: int) -> None:
    items = list(range(11))
    blocks = [shard(items, rank, world_size) for rank in range(world_size)]
    assert sum(blocks, []) == items
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1


def test_rank_outside_the_world_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 to 1 for --world_size 2, got 2"):
        shard([1], 2, 2)


def test_records_are_in_the_order_of_the_items(tmp_path: Path) -> None:
    with RecordWriter(tmp_path, "voxelized", 0, ["a", "b", "c", "d"]) as records:
        records.done("c", voxelized=True, num_voxels=3)
        records.failed("b", "b.ply: no\nfaces")
        records.done("a", voxelized=True, num_voxels=1)
    assert (tmp_path / "voxelized_0.csv").read_text() == "sha256,voxelized,num_voxels\na,True,1\nc,True,3\n"
    assert (tmp_path / "failed_voxelized_0.csv").read_text() == "sha256,error\nb,b.ply: no faces\n"
    assert records.num_done == 2 and dict(records.failures) == {"b": "b.ply: no faces"}


def test_failures_of_an_earlier_run_go_when_the_next_one_has_none(tmp_path: Path) -> None:
    with RecordWriter(tmp_path, "rendered", 0, ["a"]) as records:
        records.failed("a", "no mesh")
    with RecordWriter(tmp_path, "rendered", 0, ["a"]) as records:
        records.done("a", rendered=True)
    assert not (tmp_path / "failed_rendered_0.csv").exists()


def test_records_of_other_items_stay_and_a_restart_ends_with_the_same_bytes(tmp_path: Path) -> None:
    with RecordWriter(tmp_path, "rendered", 0, ["z"]) as records:
        records.done("z", rendered=True)
    items = ["a", "b", "c"]
    with pytest.raises(KeyboardInterrupt), RecordWriter(tmp_path, "rendered", 0, items) as records:
        records.done("c", rendered=True)
        raise KeyboardInterrupt
    assert list(read_records(tmp_path / "rendered_0.csv")) == ["z", "c"]
    with RecordWriter(tmp_path, "rendered", 0, items) as records:
        for item in items:
            records.done(item, rendered=True)
    assert list(read_records(tmp_path / "rendered_0.csv")) == ["z", "a", "b", "c"]


def test_records_are_on_disk_while_the_run_goes_on(tmp_path: Path) -> None:
    with RecordWriter(tmp_path, "rendered", 0, map(str, range(5)), flush_every=2) as records:
        for item in range(5):
            records.done(str(item), rendered=True)
            seen = len(read_records(records.path)) if records.path.is_file() else 0
            assert seen == (item + 1) // 2 * 2
    assert len(read_records(records.path)) == 5


def test_damaged_record_of_an_earlier_run_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "rendered_0.csv").write_bytes(b"\x00\xff half")
    with RecordWriter(tmp_path, "rendered", 0, ["a"]) as records:
        records.done("a", rendered=True)
    assert list(read_records(tmp_path / "rendered_0.csv")) == ["a"]


def test_pending_records_are_those_of_the_kind_only(tmp_path: Path) -> None:
    for name in (
        "rendered_10.csv",
        "rendered_2.csv",
        "cond_rendered_0.csv",
        "failed_rendered_0.csv",
        "rendered_x.csv",
    ):
        (tmp_path / name).write_text("sha256\n")
    assert [path.name for path in pending_records(tmp_path, "rendered")] == [
        "rendered_2.csv",
        "rendered_10.csv",
    ]


def test_merged_records_never_replace_each_other(tmp_path: Path) -> None:
    for content in ("sha256\na\n", "sha256\nb\n"):
        (tmp_path / "rendered_0.csv").write_text(content)
        move_to_merged([tmp_path / "rendered_0.csv"], tmp_path)
    assert len(list((tmp_path / "merged_records").glob("*_rendered_0.csv"))) == 2


def test_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), atomic_path(path) as temporary:
        temporary.write_text("ne")
        raise OSError("disk full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
