from pathlib import Path

import pytest

from scenegen.cli.evaluation_options import CONFIG_KEYS, ConfigurationError, config_flags, parse_arguments

ROOT = Path(__file__).resolve().parents[4]
NEEDED = ["--prediction", "p", "--truth", "t"]


def test_every_key_of_the_published_configuration_is_taken_and_told():
    table = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for key, entry in CONFIG_KEYS.items():
        assert f"| `{key}` | {entry.about} |" in table


def test_both_names_of_the_truth_mean_the_truth():
    for key in ("gt_dir", "system.gt_dir", "output_dir", "system.output_dir"):
        assert config_flags({key: "x"}) == ["--truth", "x"]


def test_a_run_of_the_published_script_is_understood():
    options = parse_arguments(
        "",
        [
            "system.input_dir=pred",
            "system.output_dir=truth",
            "system.gpu_num=4",
            "system.gpu_id=1",
            "system.save_dir=results",
            "system.filename=metrics_x",
            "system.fscore_threshold=0.2",
            "system.scene_alignment=false",
            "system.asset_alignment=True",
            "system.alignment_mode=cpd",
            "system.render_eval=true",
            "system.dataset_dir=root",
            "system.device=cuda",
            "seed=42",
        ],
    )
    assert (options.prediction, options.truth) == (Path("pred"), Path("truth"))
    assert (options.rank, options.world_size) == (1, 4) and options.csv
    assert options.output == Path("results/metrics_x.json") and options.fscore_threshold == 0.2
    assert options.aligner == "none" and options.object_aligner == "cpd"
    assert options.appearance and options.images == Path("root/masked_images_test")


def test_flags_count_more_than_keys_and_keys_more_than_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("system:\n  num_points: 100\n  fscore_threshold: 0.3\n")
    given = ["--config", str(tmp_path / "c.yaml"), "num_points=200", *NEEDED]
    options = parse_arguments("", given)
    assert options.num_points == 200 and options.fscore_threshold == 0.3
    assert parse_arguments("", [*given, "--num-points", "7"]).num_points == 7


def test_unknown_keys_are_refused_with_a_hint():
    with pytest.raises(ConfigurationError, match="num_pionts: unknown key.*did you mean num_points"):
        config_flags({"system.num_pionts": 5})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--truth", "t"], "--prediction"),
        ([*NEEDED, "--config", "none.yaml"], "none.yaml"),
        ([*NEEDED, "system.unknown=1"], "unknown key"),
        ([*NEEDED, "--rank", "2", "--world-size", "2"], "below --world-size 2"),
        ([*NEEDED, "--world-size", "2"], "needs --output"),
        ([*NEEDED, "--lpips", "x"], "--lpips: of --appearance"),
        ([*NEEDED, "--appearance"], "needs --output or --pictures"),
        ([*NEEDED, "--markdown"], "--markdown needs --output"),
        ([*NEEDED, "--aligner", "best"], "--aligner"),
        ([*NEEDED, "fscore_threshold=0"], "above 0"),
    ],
)
def test_impossible_options_end_in_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as raised:
        parse_arguments("", arguments, "evaluate.py")
    lines = capsys.readouterr().err.strip().splitlines()
    assert raised.value.code == 2 and len(lines) == 1 and message in lines[0]


def test_file_of_another_form_is_refused(tmp_path, capsys):
    for content in ("- a\n", "a: [\n"):
        (tmp_path / "c.yaml").write_text(content)
        with pytest.raises(SystemExit):
            parse_arguments("", ["--config", str(tmp_path / "c.yaml"), *NEEDED])
        assert "c.yaml" in capsys.readouterr().err
