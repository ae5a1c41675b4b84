from pathlib import Path

import pytest

from scenegen.batch.scenes import SceneReport
from scenegen.cli.inference_options import parse_arguments
from scenegen.cli.root_options import only_named, share, speed_line
from scenegen.inputs.layout import InputScene


def _scenes(names: str) -> list[InputScene]:
    return [InputScene(Path(f"m/{name}"), name) for name in names]


def test_a_data_root_says_what_is_read_and_written():
    options = parse_arguments("", ["--output_dir", "root", "--set", "test", "--model_name", "ours"])
    assert options.input == Path("root/masked_images_test")
    assert options.batch.output == Path("root/scene_test_ours") and options.batch.is_root
    assert options.batch.frame == "first"
    assert parse_arguments("", ["--set", "val"]).batch.output == Path("assets/scene_val_SceneGen")
    assert parse_arguments("", ["--set", "test", "--frame", "query"]).batch.frame == "query"
    plain = parse_arguments("", [])
    assert not plain.batch.is_root and plain.batch.frame == "query"


def test_processes_share_what_is_left_like_cards(tmp_path):
    pending = _scenes("abcde")
    options = parse_arguments("", ["--set", "test", "--gpu_num", "2", "--gpu_id", "1"])
    assert [scene.scene_id for scene in share(pending, options)] == ["b", "d"]
    only = tmp_path / "only.txt"
    only.write_text("e\na\n")
    options = parse_arguments("", ["--set", "test", "--only", str(only)])
    assert [scene.scene_id for scene in only_named(pending, options)] == ["a", "e"]
    assert only_named(pending, parse_arguments("", ["--set", "test"])) == pending


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_name", "x"], "--model-name: of a data root"),
        (["--gpu_num", "2", "--gpu_id", "0"], "of a data root"),
        (["--set", "test", "--gpu_num", "2", "--gpu_id", "2"], "below --gpu-num 2"),
        (["--set", "test", "--formats", "glb,obj"], "--formats"),
        (["--set", "test", "--gpus", "2", "--gpu_num", "2"], "--gpus"),
        (["--set", "test", "--gpus", "none"], "--gpus"),
        (["--set", "test", "--gpus", "2", "--workers", "2"], "--gpus: means --workers"),
        (["--address", "127.0.0.1:9"], "--address: of a Ray cluster; add --engine ray"),
    ],
)
def test_contradictions_end_in_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit):
        parse_arguments("", arguments)
    assert message in capsys.readouterr().err


def test_speed_leaves_the_first_scene_out_of_the_median():
    reports = [
        SceneReport("a", "done", seconds={"sample": 90.0}, objects=3, peak_gib={"process": 1.5}),
        SceneReport("b", "done", seconds={"sample": 4.0, "write": 2.0}, objects=3),
        SceneReport("c", "done", seconds={"sample": 8.0}, objects=2),
        SceneReport("d", "failed"),
    ]
    assert speed_line(reports) == (
        "8 assets in 104.0 s, 3.00 s an asset (median without the first scene), peak memory 1.50 GiB"
    )
    assert speed_line([]) == "0 assets"


def test_gpus_are_workers_with_one_gpu_each():
    options = parse_arguments("", ["--set", "test", "--gpus", "2"])
    assert (options.workers, options.gpus_per_worker, options.engine) == (2, 1.0, "local")
